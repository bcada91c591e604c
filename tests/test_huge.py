"""Absurd sizes, in every integer position: the right answer or an error, and either of them soon.

The answer is judged by the reference, whose sizes are Python integers and cannot overflow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cases import Case
from comparator import Array, assert_same_bits
from conftest import TimeLimit
from depthwise import (
    depthwise_conv2d,
    depthwise_conv2d_backprop_filter,
    depthwise_conv2d_backprop_input,
)
from operations import BOTH_GRADIENTS, EVERY_OPERATION, FORWARD, Operation

CASE = Case((5, 6), (3, 3), 3, 2, batch=2)
SECONDS = 5.0

HUGE = [2**31 - 1, 2**31, 2**62, 2**63 - 1, 2**63, 2**64, 2**70]
PADDINGS: list[Any] = ["SAME", "VALID", ((3, 1), (0, 9))]


def array_of(shape: tuple[int, ...]) -> Array:
    """Return an array of that shape, or of another one if no array can have it."""
    try:
        if np.prod(shape, dtype=float) > 1e6:
            return np.broadcast_to(np.float32(1), shape)
        return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    except (ValueError, OverflowError):
        return np.ones((1, 1, 1, 1), np.float32)


def right_or_refused(operation: Operation, case: Case, time_limit: TimeLimit, refusal: str) -> None:
    """Assert a right answer, or an error for the size that names what is too large."""
    first, second = (array_of(case.shapes[name]) for name in operation.operands)
    if operation is not FORWARD:
        refusal += "|out_backprop"
    with time_limit(SECONDS):
        try:
            got = operation(case, (first, second), "NHWC")
        except MemoryError:
            return
        except (ValueError, OverflowError) as error:
            assert any(word in str(error) for word in refusal.split("|")), str(error)
            return
    expected = operation.expect(case, (first, second))
    assert_same_bits(got, expected.values.astype(np.float32))


def pair(huge: Any, place: int, other: Any) -> tuple[Any, Any]:
    return (huge, other) if place == 0 else (other, huge)


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("huge", HUGE)
@EVERY_OPERATION
def test_huge_strides(
    operation: Operation, huge: int, place: int, padding: Any, time_limit: TimeLimit
) -> None:
    case = replace(CASE, strides=pair(huge, place, 1), padding=padding)
    right_or_refused(operation, case, time_limit, "strides")


@pytest.mark.parametrize("huge", HUGE)
@EVERY_OPERATION
def test_huge_strides_and_padding_of_batch_and_channels(
    operation: Operation, huge: int, time_limit: TimeLimit
) -> None:
    operands = operation.random_data(CASE, np.dtype(np.float32))
    arguments = operation.arguments(CASE, operands, "NHWC")
    for place in (0, 3):
        strides, padding = [1, 1, 1, 1], [[0, 0], [0, 0], [0, 0], [0, 0]]
        strides[place] = padding[place][1] = huge
        for changed in ({"strides": strides}, {"padding": padding}):
            errors = pytest.raises((ValueError, OverflowError), match=r"strides|padding")
            with time_limit(SECONDS), errors:
                operation.function(**{**arguments, **changed})


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("huge", HUGE)
@EVERY_OPERATION
def test_huge_dilations(
    operation: Operation, huge: int, place: int, padding: Any, time_limit: TimeLimit
) -> None:
    case = replace(CASE, dilations=pair(huge, place, 1), padding=padding)
    right_or_refused(operation, case, time_limit, "dilations|height|width")
    one_tap = replace(case, filter_size=(1, 1))
    right_or_refused(operation, one_tap, time_limit, "dilations")


@pytest.mark.parametrize("channels", [3, 32])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@EVERY_OPERATION
def test_dilations_far_beyond_the_output(
    operation: Operation, data_format: str, channels: int, time_limit: TimeLimit
) -> None:
    """Just below the limit on the effective filter size, so that they are computed."""
    for taps, huge in ((2, 2**31 - 2), (3, 2**30 - 1)):
        for dilations in ((huge, 1), (1, huge), (huge, huge)):
            case = Case((3, 4), (taps, taps), channels, dilations=dilations)
            first, second = (array_of(case.shapes[name]) for name in operation.operands)
            operands = operation.to_format((first, second), data_format)
            with time_limit(SECONDS):
                got = operation(case, operands, data_format)
            want = operation.expect(case, operands, data_format)
            assert_same_bits(got, want.values.astype(np.float32))


@pytest.mark.parametrize("channels", [1, 16])
def test_huge_input_that_is_broadcast(channels: int, time_limit: TimeLimit) -> None:
    """Rows between two windows are neither packed nor walked."""
    pixel = np.arange(1, channels + 1, dtype=np.float32)
    input = np.broadcast_to(pixel, (1, 2**40, 1, channels))
    filter = np.ones((2, 1, channels, 1), np.float32)
    strides = [1, 2**39, 1, 1]
    with time_limit(SECONDS):
        got = depthwise_conv2d(input, filter, strides, "SAME")
    assert_same_bits(got, np.broadcast_to(2 * pixel, (1, 2, 1, channels)).copy())
    ones = np.ones((1, 2, 1, channels), np.float32)
    with time_limit(SECONDS):
        got = depthwise_conv2d_backprop_filter(input, filter.shape, ones, strides, "SAME")
    assert_same_bits(got, np.broadcast_to(2 * pixel[:, np.newaxis], filter.shape).copy())


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("side", [0, 1])
@BOTH_GRADIENTS
def test_huge_out_backprop_that_is_broadcast(
    operation: Operation, side: int, place: int, channels: int, time_limit: TimeLimit
) -> None:
    """Outputs that lie wholly in the padding, two thousand million of them, are not walked."""
    few, many = (
        Case((5, 6), (3, 3), channels, 2, padding=pair(pair(pad, side, 2), place, (1, 1)))
        for pad in (4, 2**31 - 1)
    )
    one = np.ones((1, 1, 1, 1), np.float32)
    results = []
    for case in (few, many):
        first, second = (
            np.broadcast_to(one, case.shapes[name])
            if name == "out_backprop"
            else array_of(case.shapes[name])
            for name in operation.operands
        )
        with time_limit(SECONDS):
            results.append(operation(case, (first, second), "NHWC"))
    assert_same_bits(*results)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("huge", HUGE)
@EVERY_OPERATION
def test_huge_padding(
    operation: Operation, huge: int, place: int, side: int, time_limit: TimeLimit
) -> None:
    """With a stride of 1 the output is huge too, with a huge stride it is small."""
    case = replace(CASE, padding=pair(pair(huge, side, 0), place, (0, 0)))
    if huge > 2**40:
        right_or_refused(operation, case, time_limit, "padding|result")
    for stride in (huge - 1, huge, huge + 1):
        strided = replace(case, strides=pair(stride, place, 1))
        right_or_refused(operation, strided, time_limit, "padding|strides")


@pytest.mark.parametrize("huge", [2**62, 2**63 - 1, 2**70])
@EVERY_OPERATION
def test_everything_huge(operation: Operation, huge: int, time_limit: TimeLimit) -> None:
    padded = replace(CASE, padding=((huge, huge), (huge, huge)))
    strided = replace(padded, strides=(huge, huge))
    right_or_refused(operation, strided, time_limit, "padding|strides")
    dilated = replace(padded, dilations=(huge, huge))
    right_or_refused(operation, dilated, time_limit, "padding|dilations")
    right_or_refused(operation, replace(padded, batch=0), time_limit, "padding|result")


@pytest.mark.parametrize("huge", [2**40, *HUGE[2:]])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_huge_sizes(place: int, huge: int, time_limit: TimeLimit) -> None:
    """No gradient of such a size can be returned, even if everything fits together."""
    sizes = [1, 1, 1, 1]
    sizes[place] = huge
    one = np.ones((1, 1, 1, 1), np.float32)
    errors = pytest.raises((ValueError, OverflowError, MemoryError))
    with time_limit(SECONDS), errors:
        strides = [1, *sizes[1:3], 1]
        depthwise_conv2d_backprop_input(sizes, one, one, strides, "VALID")
    with time_limit(SECONDS), errors:
        padding = [[0, 0], [huge, 0], [huge, 0], [0, 0]]
        depthwise_conv2d_backprop_filter(one, sizes, one, [1] * 4, padding)
    with time_limit(SECONDS), errors:
        depthwise_conv2d_backprop_filter(one, sizes, one, [1] * 4, "SAME")


def test_huge_arrays_that_occupy_no_memory(time_limit: TimeLimit) -> None:
    """Broadcast arrays may have any shape; what is computed of them stays small."""
    one = np.ones((1, 1, 1, 1), np.float32)
    input = np.broadcast_to(one, (1, 2**20, 2**20, 1))
    with time_limit(SECONDS):
        got = depthwise_conv2d(input, one, [1, 2**19, 2**19, 1], "VALID")
    assert_same_bits(got, np.ones((1, 2, 2, 1), np.float32))

    for shape in [(2**40, 1, 1, 1), (1, 2**40, 1, 1), (2**20, 2**20, 1, 1), (1, 1, 1, 2**45)]:
        with time_limit(SECONDS), pytest.raises((ValueError, OverflowError, MemoryError)):
            depthwise_conv2d(one, np.broadcast_to(one, shape), [1] * 4, "SAME")
    for shape in [(2**45, 1, 1, 1), (1, 2**45, 1, 1), (1, 1, 2**45, 1)]:
        with time_limit(SECONDS), pytest.raises((ValueError, OverflowError, MemoryError)):
            depthwise_conv2d(np.broadcast_to(one, shape), one, [1] * 4, "SAME")
    no_images = np.broadcast_to(one[:0], (0, 2**30, 2**30, 1))
    try:
        with time_limit(SECONDS):
            got = depthwise_conv2d(no_images, one, [1] * 4, "SAME")
    except (ValueError, OverflowError, MemoryError):
        return
    assert got.shape == (0, 2**30, 2**30, 1)


@EVERY_OPERATION
def test_huge_copies_are_refused_by_name(operation: Operation, time_limit: TimeLimit) -> None:
    """Arrays in the other byte order have to be copied, however small they are in memory."""
    case = Case((2**22, 2**20), (1, 1), 1, strides=(2**21, 2**19))
    if operation.result == "input":
        case = Case((1, 1), (1, 1), 1, padding=((2**21, 2**21), (2**20, 2**20)))
    one = np.ones((1, 1, 1, 1), ">f4")
    first, second = (np.broadcast_to(one, case.shapes[name]) for name in operation.operands)
    argument = "out_backprop" if operation.result == "input" else "input"
    with time_limit(SECONDS), pytest.raises(MemoryError, match=rf"^blur: {argument} of shape"):
        operation.function(**operation.arguments(case, (first, second), "NHWC"), name="blur")
