"""Arguments that are wrong: the documented exception, soon, and a message that names the argument.

The inputs are never modified. Arguments that are only absurdly large are in `test_huge.py`.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest

from comparator import Array, assert_same_bits
from conftest import TimeLimit
from depthwise import depthwise_conv2d
from depthwise._reference import depthwise_conv2d_reference
from wrong_arguments import WRONG

# NumPy before 1.24 warns of a ragged list and makes an array of objects, which is refused too.
pytestmark = pytest.mark.filterwarnings("ignore:Creating an ndarray from ragged")

INPUT = np.arange(2 * 5 * 6 * 3, dtype=np.float32).reshape(2, 5, 6, 3)
FILTER = np.arange(3 * 3 * 3 * 2, dtype=np.float32).reshape(3, 3, 3, 2)
VALID_CALL: dict[str, Any] = {
    "input": INPUT,
    "filter": FILTER,
    "strides": [1, 1, 1, 1],
    "padding": "SAME",
    "data_format": None,
    "dilations": None,
    "name": None,
}
INPUT_BEFORE, FILTER_BEFORE = INPUT.copy(), FILTER.copy()
SECONDS = 5.0


def call(**changed: Any) -> Array:
    arguments = {**VALID_CALL, **changed}
    return depthwise_conv2d(**arguments)


def describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}"
    return repr(value)[:40]


@pytest.fixture(autouse=True)
def unmodified_inputs() -> Any:
    yield
    assert_same_bits(INPUT, INPUT_BEFORE)
    assert_same_bits(FILTER, FILTER_BEFORE)


@pytest.mark.parametrize(
    ("argument", "value", "exception"),
    WRONG,
    ids=[f"{argument}-{describe(value)}" for argument, value, _ in WRONG],
)
def test_wrong_argument(
    argument: str, value: Any, exception: type[Exception], time_limit: TimeLimit
) -> None:
    """The message names the argument, and begins with `name` if there is one."""
    with time_limit(SECONDS), pytest.raises(exception, match=rf"\b{argument}\b"):
        call(**{argument: value})
    if argument != "name":
        with time_limit(SECONDS), pytest.raises(exception, match=rf"^blur: (.|\n)*\b{argument}\b"):
            call(**{argument: value, "name": "blur"})


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
def test_integers_of_every_kind(kind: type[np.integer[Any]]) -> None:
    want = call(strides=[1, 2, 1, 1], padding=[[0, 0], [1, 2], [0, 1], [0, 0]])
    strides, padding = (
        np.array([1, 2, 1, 1], kind),
        np.array([[0, 0], [1, 2], [0, 1], [0, 0]], kind),
    )
    for convert in (lambda array: array, list, tuple, deque):
        got = call(strides=convert(strides), padding=convert(padding), dilations=[kind(1), 1])
        assert_same_bits(got, want)


def test_missing_and_unknown_arguments() -> None:
    with pytest.raises(TypeError, match="padding"):
        depthwise_conv2d(INPUT, FILTER, [1] * 4)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="groups"):
        depthwise_conv2d(INPUT, FILTER, [1] * 4, "SAME", groups=3)  # type: ignore[call-arg]


def test_it_works_after_all_that() -> None:
    assert_same_bits(
        call(), depthwise_conv2d_reference(INPUT, FILTER, [1] * 4, "SAME").astype(np.float32)
    )
