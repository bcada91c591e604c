"""The whole argument space, drawn by Hypothesis, against the references on exact integers."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, seed, settings

from cases import Case
from comparator import DTYPES, assert_matches
from conftest import SEED
from depthwise import _native, get_num_threads, set_num_threads
from layouts import LAYOUTS
from operations import (
    BACKPROP_FILTER,
    BACKPROP_INPUT,
    EVERY_OPERATION,
    FORWARD,
    Operation,
    new_exact_data,
)

SMALL_SIZES = st.integers(0, 12)
FILTER_SIZES = st.integers(1, 7)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw every kind of problem, valid but for negative output sizes."""
    dilated = draw(st.booleans())
    steps = draw(st.tuples(*[st.one_of(st.integers(1, 3), st.integers(1, 20))] * 2))
    pad = st.one_of(st.integers(0, 3), st.integers(0, 15))
    return Case(
        size=(
            draw(st.one_of(SMALL_SIZES, st.integers(0, 40))),
            draw(st.one_of(SMALL_SIZES, st.integers(0, 60))),
        ),
        filter_size=(draw(FILTER_SIZES), draw(FILTER_SIZES)),
        channels=draw(st.one_of(st.integers(1, 6), st.integers(1, 40))),
        multiplier=draw(st.sampled_from([1, 1, 2, 3, 5, 8])),
        strides=(1, 1) if dilated else steps,
        dilations=steps if dilated else (1, 1),
        padding=draw(
            st.one_of(
                st.sampled_from(["SAME", "VALID"]),
                st.tuples(st.tuples(pad, pad), st.tuples(pad, pad)),
            )
        ),
        batch=draw(st.sampled_from([1, 1, 2, 3, 0])),
    )


@given(
    case=cases(),
    data_format=st.sampled_from(["NHWC", "NCHW"]),
    dtype=st.sampled_from(DTYPES),
    layouts=st.tuples(st.sampled_from(list(LAYOUTS)), st.sampled_from(list(LAYOUTS))),
    threads=st.sampled_from([1, 2, 5]),
    isa=st.sampled_from(_native.supported_isas()),
    convert=st.sampled_from([list, tuple, np.array]),
    leave_out_defaults=st.booleans(),
)
@EVERY_OPERATION
@seed(SEED)
@settings(max_examples=1000)
def test_equals_the_reference(
    operation: Operation,
    case: Case,
    data_format: str,
    dtype: np.dtype[Any],
    layouts: tuple[str, str],
    threads: int,
    isa: str,
    convert: Any,
    leave_out_defaults: bool,
) -> None:
    if min(case.output_size) < 0:
        # No out_backprop has such a shape, and none is looked at.
        one = np.ones((1, 1, 1, 1), dtype)
        operands = tuple(
            np.ones(case.shapes[name], dtype) if name != "out_backprop" else one
            for name in operation.operands
        )
        with pytest.raises(ValueError, match=r"height|width"):
            operation(case, operation.to_format(operands, data_format), data_format)
        return
    operands, expected = new_exact_data(operation, case)
    first, second = (
        LAYOUTS[layout](array.astype(dtype))
        for layout, array in zip(layouts, operation.to_format(operands, data_format), strict=True)
    )
    arguments = operation.arguments(case, (first, second), data_format)
    for name in arguments.keys() & {"strides", "dilations", "input_sizes", "filter_sizes"}:
        arguments[name] = convert(arguments[name])
    if leave_out_defaults and data_format == "NHWC":
        del arguments["data_format"]
    if leave_out_defaults and case.dilations == (1, 1):
        del arguments["dilations"]
    threads_before, isa_before = get_num_threads(), _native.get_isa()
    set_num_threads(threads)
    _native.set_isa(isa)
    try:
        got = operation.function(**arguments)
        assert_matches(got, operation.expected_in(expected, data_format), dtype, exact=True)
    finally:
        set_num_threads(threads_before)
        _native.set_isa(isa_before)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from([2**31, 2**62, 2**63 - 1, 2**63, -1, np.int64(2**62), np.True_]),
)
NESTED = st.one_of(
    ANYTHING,
    st.lists(ANYTHING, max_size=5),
    st.lists(st.lists(ANYTHING, min_size=2, max_size=2), min_size=4, max_size=4),
    st.sampled_from(["SAME", "VALID", "NHWC", "NCHW", [1, 1, 1, 1], [1, 1], [[0, 0]] * 4]),
)


@given(
    strides=NESTED,
    padding=NESTED,
    data_format=NESTED,
    dilations=NESTED,
    name=NESTED,
    sizes=st.one_of(NESTED, st.sampled_from([[1, 3, 3, 2], (3, 3, 2, 1), np.array([1, 3, 3, 2])])),
)
@EVERY_OPERATION
@seed(SEED)
@settings(max_examples=700)
def test_anything_at_all_gives_an_array_or_a_named_error(
    operation: Operation,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
    name: Any,
    sizes: Any,
) -> None:
    """No argument, however wrong, does worse than one of the documented exceptions."""
    filter = np.ones((3, 3, 2, 1), np.float32)
    image = filter.reshape(1, 3, 3, 2)
    options = (strides, padding, data_format, dilations, name)
    arguments = {
        FORWARD: (image, filter),
        BACKPROP_INPUT: (sizes, filter, image),
        BACKPROP_FILTER: (image, sizes, image),
    }[operation]
    names = (
        "strides|padding|data_format|dilations|name|height|width|channels|output|"
        "input_sizes|filter_sizes"
    )
    try:
        operation.function(*arguments, *options)
    except (TypeError, ValueError, OverflowError) as error:
        assert any(word in str(error) for word in names.split("|")), error
    except MemoryError:
        pass
