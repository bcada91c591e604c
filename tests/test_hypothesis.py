"""The whole argument space, drawn by Hypothesis, against the reference on exact integers."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, seed, settings

from comparator import DTYPES, Array, assert_matches, expect
from conftest import SEED
from depthwise import _native, depthwise_conv2d, get_num_threads, set_num_threads
from layouts import LAYOUTS

SMALL_SIZES = st.integers(0, 12)
FILTER_SIZES = st.integers(1, 7)


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Draw everything that the public function takes, valid but for negative output sizes."""
    data_format = draw(st.sampled_from([None, "NHWC", "NCHW"]))
    channels = draw(st.one_of(st.integers(1, 6), st.integers(1, 40)))
    size = (
        draw(st.one_of(SMALL_SIZES, st.integers(0, 40))),
        draw(st.one_of(SMALL_SIZES, st.integers(0, 60))),
    )
    filter_size = (draw(FILTER_SIZES), draw(FILTER_SIZES))
    multiplier = draw(st.sampled_from([1, 1, 2, 3, 5, 8]))
    dilated = draw(st.booleans())
    steps = draw(st.tuples(*[st.one_of(st.integers(1, 3), st.integers(1, 20))] * 2))
    strides, dilations = ((1, 1), steps) if dilated else (steps, draw(st.none() | st.just((1, 1))))
    pad = st.one_of(st.integers(0, 3), st.integers(0, 15))
    padding: Any = draw(
        st.one_of(
            st.sampled_from(["SAME", "VALID"]),
            st.tuples(st.tuples(pad, pad), st.tuples(pad, pad)),
        )
    )

    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    batch = draw(st.sampled_from([1, 1, 2, 3, 0]))
    input = random.integers(-4, 5, (batch, *size, channels), np.int8)
    filter = random.integers(-4, 5, (*filter_size, channels, multiplier), np.int8)
    all_strides = (1, *strides, 1)
    if not isinstance(padding, str):
        padding = ((0, 0), *padding, (0, 0))
    if data_format == "NCHW":
        input = np.moveaxis(input, 3, 1)
        all_strides = (1, 1, *strides)
        if not isinstance(padding, str):
            padding = ((0, 0), (0, 0), *padding[1:3])
    convert: Any = draw(st.sampled_from([list, tuple, np.array]))
    return {
        "input": np.ascontiguousarray(input),
        "filter": filter,
        "strides": convert(all_strides),
        "padding": padding,
        "data_format": data_format,
        "dilations": dilations,
    }


@given(
    problem=problems(),
    dtype=st.sampled_from(DTYPES),
    input_layout=st.sampled_from(list(LAYOUTS)),
    filter_layout=st.sampled_from(list(LAYOUTS)),
    threads=st.sampled_from([1, 2, 5]),
    isa=st.sampled_from(_native.supported_isas()),
)
@seed(SEED)
@settings(max_examples=1000)
def test_equals_the_reference(
    problem: dict[str, Any],
    dtype: np.dtype[Any],
    input_layout: str,
    filter_layout: str,
    threads: int,
    isa: str,
) -> None:
    arguments: dict[str, Any] = {
        **problem,
        "input": LAYOUTS[input_layout](problem["input"].astype(dtype)),
        "filter": LAYOUTS[filter_layout](problem["filter"].astype(dtype)),
    }
    threads_before, isa_before = get_num_threads(), _native.get_isa()
    set_num_threads(threads)
    _native.set_isa(isa)
    try:
        try:
            expected = expect(**problem)
        except ValueError:
            with pytest.raises(ValueError, match=r"height|width"):
                depthwise_conv2d(**arguments)
            return
        got: Array = depthwise_conv2d(**arguments)
        assert_matches(got, expected, dtype, exact=True)
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
)
@seed(SEED)
@settings(max_examples=1000)
def test_anything_at_all_gives_an_array_or_a_named_error(
    strides: Any, padding: Any, data_format: Any, dilations: Any, name: Any
) -> None:
    """No argument, however wrong, does worse than one of the documented exceptions."""
    ones = np.ones((3, 3, 2, 1), np.float32)
    names = "strides|padding|data_format|dilations|name|height|width|channels|output"
    try:
        depthwise_conv2d(
            ones.reshape(1, 3, 3, 2), ones, strides, padding, data_format, dilations, name
        )
    except (TypeError, ValueError, OverflowError) as error:
        assert any(word in str(error) for word in names.split("|")), error
    except MemoryError:
        pass
