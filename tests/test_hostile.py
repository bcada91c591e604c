"""Arguments that are wrong: the documented exception, soon, and a message that names the argument.

The inputs are never modified. Arguments that are only absurdly large are in `test_huge.py`.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

import numpy as np
import pytest

from cases import Case
from comparator import Array, assert_same_bits
from conftest import TimeLimit
from depthwise import depthwise_conv2d
from operations import (
    BACKPROP_FILTER,
    BACKPROP_INPUT,
    BOTH_GRADIENTS,
    EVERY_OPERATION,
    FORWARD,
    Operation,
)
from wrong_arguments import WRONG_BACKPROP_FILTER, WRONG_BACKPROP_INPUT, WRONG_FORWARD, Wrong

# NumPy before 1.24 warns of a ragged list and makes an array of objects, which is refused too.
pytestmark = pytest.mark.filterwarnings("ignore:Creating an ndarray from ragged")

CASE = Case((5, 6), (3, 3), 3, 2, batch=2)
ARRAYS = {
    name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for name, shape in CASE.shapes.items()
}
BEFORE = {name: array.copy() for name, array in ARRAYS.items()}
INPUT, FILTER = ARRAYS["input"], ARRAYS["filter"]
VALID: dict[str, Any] = {
    "strides": [1, 1, 1, 1],
    "padding": "SAME",
    "data_format": None,
    "dilations": None,
    "name": None,
}
WRONG = {
    FORWARD: WRONG_FORWARD,
    BACKPROP_INPUT: WRONG_BACKPROP_INPUT,
    BACKPROP_FILTER: WRONG_BACKPROP_FILTER,
}
SECONDS = 5.0


def call_of(operation: Operation, **changed: Any) -> Array:
    operands = (ARRAYS[operation.operands[0]], ARRAYS[operation.operands[1]])
    arguments = {**operation.arguments(CASE, operands, "NHWC"), **VALID, **changed}
    return operation.function(**arguments)


def call(**changed: Any) -> Array:
    return call_of(FORWARD, **changed)


def describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}"
    return repr(value)[:40]


@pytest.fixture(autouse=True)
def unmodified_inputs() -> Any:
    yield
    for name, array in ARRAYS.items():
        assert_same_bits(array, BEFORE[name])


@pytest.mark.parametrize(
    ("operation", "wrong"),
    [
        pytest.param(operation, wrong, id=f"{operation}-{wrong[0]}-{describe(wrong[1])}")
        for operation, many in WRONG.items()
        for wrong in many
    ],
)
def test_wrong_argument(operation: Operation, wrong: Wrong, time_limit: TimeLimit) -> None:
    """The message names the argument, and begins with `name` if there is one."""
    argument, value, exception = wrong
    with time_limit(SECONDS), pytest.raises(exception, match=rf"\b{argument}\b"):
        call_of(operation, **{argument: value})
    if argument != "name":
        with time_limit(SECONDS), pytest.raises(exception, match=rf"^blur: (.|\n)*\b{argument}\b"):
            call_of(operation, **{argument: value, "name": "blur"})


@pytest.mark.parametrize("word", ["same", "Valid"])
def test_lower_case_padding_says_what_to_do(word: str) -> None:
    with pytest.raises(ValueError, match=rf"{word}.*{word.upper()}.*upper case"):
        call(padding=word)


def test_messages_say_what_was_given_and_needed() -> None:
    with pytest.raises(ValueError, match=r"filter has 4 input channels, input has 3"):
        call(filter=np.ones((3, 3, 4, 2), np.float32))
    with pytest.raises(ValueError, match=r'filter has 3 input channels, input has 5.*"NCHW"'):
        call(data_format="NCHW")
    with pytest.raises(TypeError, match=r"float64.*float32"):
        call(filter=FILTER.astype(np.float64))
    with pytest.raises(TypeError, match=r"int32.*float16, bfloat16, float32 or float64"):
        call(input=INPUT.astype(np.int32))
    with pytest.raises(ValueError, match=r"rank 3"):
        call(input=INPUT[0])
    with pytest.raises(ValueError, match=r"data_format is 'nhwc'.*NHWC.*NCHW"):
        call(data_format="nhwc")


@pytest.mark.parametrize("sizes", ["input_sizes", "filter_sizes"])
def test_messages_of_gradients_say_what_was_given_and_needed(sizes: str) -> None:
    operation = BACKPROP_INPUT if sizes == "input_sizes" else BACKPROP_FILTER
    with pytest.raises(TypeError, match=r"out_backprop has dtype float64, \w+ has float32"):
        call_of(operation, out_backprop=ARRAYS["out_backprop"].astype(np.float64))
    with pytest.raises(ValueError, match=rf"{sizes} has 3 entries.*4 integers"):
        call_of(operation, **{sizes: [3, 3, 3]})
    with pytest.raises(TypeError, match=rf"{sizes} contains the bool True"):
        call_of(operation, **{sizes: [3, 3, True, 3]})
    with pytest.raises(ValueError, match=rf"{sizes} has 7"):
        # Channels of the input, channels of the filter.
        call_of(operation, **{sizes: [2, 5, 6, 7] if sizes == "input_sizes" else [3, 3, 7, 2]})
    with pytest.raises(ValueError, match=rf"{sizes} has .*height.* negative"):
        if sizes == "input_sizes":
            call_of(operation, input_sizes=[2, 1, 6, 3], padding="VALID")
        else:
            call_of(operation, filter_sizes=[7, 3, 3, 2], padding="VALID")


@pytest.mark.parametrize(
    ("changed", "needed"),
    [
        ({"strides": [1, 2, 3, 1]}, (2, 3, 2, 6)),
        ({"padding": "VALID"}, (2, 3, 4, 6)),
        ({"padding": [[0, 0], [5, 0], [0, 9], [0, 0]]}, (2, 8, 13, 6)),
        ({"padding": "VALID", "dilations": [1, 2]}, (2, 3, 2, 6)),
    ],
    ids=str,
)
@BOTH_GRADIENTS
def test_out_backprop_of_another_shape(
    operation: Operation, changed: dict[str, Any], needed: tuple[int, ...]
) -> None:
    """The message says which shape the output has."""
    message = re.escape(f"out_backprop has shape (2, 5, 6, 6); needed {needed}")
    with pytest.raises(ValueError, match=message):
        call_of(operation, **changed)
    assert call(**changed).shape == needed


@BOTH_GRADIENTS
def test_out_backprop_in_the_other_format(operation: Operation) -> None:
    arguments = {"data_format": "NCHW"}
    if "input" in operation.operands:
        arguments["input"] = np.moveaxis(INPUT, 3, 1)
    else:
        arguments["input_sizes"] = (2, 3, 5, 6)
    with pytest.raises(ValueError, match=r"needed \(2, 6, 5, 6\).*NCHW"):
        call_of(operation, **arguments)


@pytest.mark.parametrize("dilations", [[2, 1], [1, 2], [3, 3]])
@pytest.mark.parametrize("strides", [[1, 2, 1, 1], [1, 1, 2, 1], [1, 2, 2, 1]])
def test_dilation_with_stride(strides: list[int], dilations: list[int]) -> None:
    with pytest.raises(ValueError, match=r"dilations.*strides"):
        call(strides=strides, dilations=dilations)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_the_channel_axis_follows_the_data_format(data_format: str) -> None:
    wrong_axis = 3 if data_format == "NHWC" else 1
    strides, padding = [1] * 4, [[0, 0]] * 4
    strides[wrong_axis], padding[wrong_axis] = 2, [1, 1]
    input = INPUT if data_format == "NHWC" else np.moveaxis(INPUT, 3, 1)
    with pytest.raises(ValueError, match=rf"strides.*{data_format}"):
        call(input=input, strides=strides, data_format=data_format)
    with pytest.raises(ValueError, match=rf"padding.*{data_format}"):
        call(input=input, padding=padding, data_format=data_format)


@pytest.mark.parametrize("axis", ["height", "width"])
@pytest.mark.parametrize("empty", [True, False])
def test_negative_output_names_the_axis(axis: str, empty: bool) -> None:
    shape = [1, 4, 4, 3]
    shape[1 if axis == "height" else 2] = 0 if empty else 1
    with pytest.raises(ValueError, match=axis):
        call(input=np.ones(shape, np.float32), padding="VALID")


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
@EVERY_OPERATION
def test_integers_of_every_kind(operation: Operation, kind: type[np.integer[Any]]) -> None:
    case = Case((5, 6), (3, 3), 3, 2, (2, 1), ((1, 2), (0, 1)), batch=2)
    operands = operation.random_data(case, np.dtype(np.float32))
    arguments = operation.arguments(case, operands, "NHWC")
    want = operation.function(**arguments)
    sequences = {
        name: np.array(arguments[name], kind)
        for name in arguments.keys() & {"strides", "padding", "input_sizes", "filter_sizes"}
    }
    for convert in (lambda array: array, list, tuple, deque):
        changed = {name: convert(sequence) for name, sequence in sequences.items()}
        got = operation.function(**{**arguments, **changed, "dilations": [kind(1), 1]})
        assert_same_bits(got, want)


def test_missing_and_unknown_arguments() -> None:
    with pytest.raises(TypeError, match="padding"):
        depthwise_conv2d(INPUT, FILTER, [1] * 4)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="groups"):
        depthwise_conv2d(INPUT, FILTER, [1] * 4, "SAME", groups=3)  # type: ignore[call-arg]


@EVERY_OPERATION
def test_it_works_after_all_that(operation: Operation) -> None:
    operands = (ARRAYS[operation.operands[0]], ARRAYS[operation.operands[1]])
    expected = operation.expect(CASE, operands)
    assert_same_bits(call_of(operation), expected.values.astype(np.float32))
