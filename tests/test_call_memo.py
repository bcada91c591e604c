"""Calls that are like an earlier one: the same result, and no mistake that passes because of it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import depthwise
from cases import Case
from comparator import DTYPES, Array, assert_same_bits
from depthwise import _native
from layouts import LAYOUTS
from operations import (
    BACKPROP_FILTER,
    BACKPROP_INPUT,
    EVERY_OPERATION,
    FORWARD,
    GRADIENTS,
    Operation,
)

CASE = Case((9, 7), (3, 2), 5, 2, strides=(2, 1), batch=2)


NUMBERS = {
    FORWARD: _native.FORWARD,
    BACKPROP_INPUT: _native.BACKPROP_INPUT,
    BACKPROP_FILTER: _native.BACKPROP_FILTER,
}


def is_remembered(operation: Operation, first: Any, second: Any, sizes: Any, *options: Any) -> bool:
    """Whether a call is like an earlier one, and computed without Python code."""
    result = _native.call_like_before(NUMBERS[operation], first, second, sizes, *options)
    return result is not None


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@EVERY_OPERATION
def test_the_second_call_has_the_bits_of_the_first(
    operation: Operation, dtype: np.dtype[Any], data_format: str
) -> None:
    operands = operation.to_format(operation.random_data(CASE, dtype), data_format)
    # A name has it computed by Python code, whatever is remembered.
    arguments = operation.arguments(CASE, operands, data_format)
    want = operation.function(**arguments, name="once")
    for _ in range(3):
        got = operation(CASE, operands, data_format)
        assert got.dtype is operands[0].dtype
        assert got.flags.c_contiguous and got.flags.writeable
        assert_same_bits(got, want)
    sizes = None if operation is FORWARD else operation.shape(operation.result, CASE, data_format)
    assert is_remembered(operation, *operands, sizes, *CASE.arguments(data_format).values())


@pytest.mark.parametrize("layout", LAYOUTS)
@EVERY_OPERATION
def test_every_memory_layout(operation: Operation, layout: str) -> None:
    first, second = operation.random_data(CASE, np.dtype(np.float32))
    want = operation(CASE, (first, second), "NHWC")
    laid_out = LAYOUTS[layout](first), LAYOUTS[layout](second)
    for operands in ((laid_out[0], second), (first, laid_out[1]), laid_out):
        for _ in range(2):
            assert_same_bits(operation(CASE, operands, "NHWC"), want)


@pytest.mark.parametrize("operation", GRADIENTS, ids=str)
def test_sizes_that_do_not_fit_after_ones_that_did(operation: Operation) -> None:
    operands = operation.random_data(CASE, np.dtype(np.float32))
    sizes = list(operation.shape(operation.result, CASE, "NHWC"))
    options = CASE.arguments("NHWC").values()

    def call(sizes: Any) -> Array:
        if operation is BACKPROP_INPUT:
            return operation.function(sizes, *operands, *options)
        return operation.function(operands[0], sizes, operands[1], *options)

    want = call(sizes)
    assert is_remembered(operation, *operands, sizes, *options)
    for alike in (tuple(sizes), np.array(sizes), [np.int64(size) for size in sizes]):
        assert_same_bits(call(alike), want)
    for wrong in (sizes[:3], [float(size) for size in sizes], [*sizes[:3], True], sizes[::-1]):
        with pytest.raises((TypeError, ValueError)):
            call(wrong)


class TestMistakesAfterACallThatWasRight:
    """Each differs from the remembered call by something that compares equal, or nearly."""

    input = np.ones((1, 6, 6, 3), np.float32)
    filter = np.ones((3, 3, 3, 1), np.float32)

    @pytest.fixture(autouse=True)
    def remembered(self) -> None:
        for padding in ("SAME", [[0, 0], [1, 1], [1, 1], [0, 0]]):
            arguments = (self.input, self.filter, [1, 1, 1, 1], padding, "NHWC", [1, 1])
            depthwise.depthwise_conv2d(*arguments)
            assert is_remembered(FORWARD, *arguments[:2], None, *arguments[2:])

    @pytest.mark.parametrize(
        ("argument", "value", "error"),
        [
            ("strides", [1, True, 1, 1], TypeError),
            ("strides", [1, 1.0, 1, 1], TypeError),
            ("strides", [1, 1, 1], ValueError),
            ("strides", [1, 2**64 + 1, 1, 1], None),
            ("strides", {1: 1}, TypeError),
            ("strides", None, TypeError),
            ("padding", None, TypeError),
            ("filter", None, TypeError),
            ("padding", "same", ValueError),
            ("padding", b"SAME", TypeError),
            ("padding", [[0, 0], [1, True], [1, 1], [0, 0]], TypeError),
            ("padding", [[0, 0], [1, 1], [1, 1, 1], [0, 0]], ValueError),
            ("padding", [[0, 0], [1, -1], [1, 1], [0, 0]], ValueError),
            ("data_format", "NHCW", ValueError),
            ("data_format", b"NHWC", ValueError),
            ("dilations", [True, 1], TypeError),
            ("dilations", [1.0, 1], TypeError),
            ("dilations", [1], ValueError),
            ("filter", np.ones((3, 3, 3, 1), np.float64), TypeError),
            ("filter", np.ones((3, 3, 3, 1), np.int32), TypeError),
            ("filter", np.ma.ones((3, 3, 3, 1), np.float32), TypeError),
            ("filter", np.ones((3, 3, 3), np.float32), ValueError),
            ("filter", np.ones((3, 3, 4, 1), np.float32), ValueError),
            ("input", np.ones((1, 6, 6, 3), ml_dtypes.bfloat16), TypeError),
            ("input", np.ones((6, 6, 3), np.float32), ValueError),
        ],
        ids=lambda value: "array" if isinstance(value, np.ndarray) else repr(value),
    )
    def test_is_still_an_error(
        self, argument: str, value: Any, error: type[Exception] | None
    ) -> None:
        arguments = {
            "input": self.input,
            "filter": self.filter,
            "strides": [1, 1, 1, 1],
            "padding": "SAME",
            "data_format": "NHWC",
            "dilations": [1, 1],
        }
        arguments[argument] = value
        input, filter, *options = arguments.values()
        assert not is_remembered(FORWARD, input, filter, None, *options)
        if error is None:
            depthwise.depthwise_conv2d(**arguments)
        else:
            with pytest.raises(error, match=rf"^({argument}\b|filter has dtype)"):
                depthwise.depthwise_conv2d(**arguments)


def test_other_options_of_the_same_shapes() -> None:
    """Every field of what is compared tells calls apart."""
    random = np.random.default_rng(1)
    input = random.standard_normal((4, 4, 4, 4)).astype(np.float32)
    filter = random.standard_normal((2, 2, 4, 1)).astype(np.float32)
    calls: list[tuple[Any, ...]] = [
        (input, filter, strides, padding, data_format, dilations)
        for data_format in ("NHWC", "NCHW", None)
        for padding in (
            "SAME",
            "VALID",
            [[0, 0], [1, 2], [2, 1], [0, 0]]
            if data_format != "NCHW"
            else ((0, 0), (0, 0), [1, 2], [2, 1]),
        )
        for strides, dilations in (
            ([1, 1, 1, 1], None),
            ([1, 1, 1, 1], (1, 2)),
            ((1, 1, 1, 1), [2, 1]),
            ([1, 2, 1, 1] if data_format != "NCHW" else [1, 1, 2, 1], [1, 1]),
            ([1, 1, 2, 1] if data_format != "NCHW" else [1, 1, 1, 2], None),
        )
    ]
    wanted: list[Array] = [depthwise.depthwise_conv2d(*call, name="once") for call in calls]
    for _ in range(2):
        for call, want in zip(calls, wanted, strict=True):
            assert_same_bits(depthwise.depthwise_conv2d(*call), want)


def test_more_calls_than_are_remembered() -> None:
    filter = np.ones((1, 1, 1, 1), np.float32)
    for size in [*range(1, 1500), 3, 1400]:
        input = np.full((1, 1, size, 1), size, np.float32)
        output = depthwise.depthwise_conv2d(input, filter, [1] * 4, "VALID")
        assert output.shape == input.shape
        assert (output == size).all()
