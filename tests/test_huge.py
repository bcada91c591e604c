"""Absurd sizes, in every integer position: the right answer or an error, and either of them soon.

The answer is judged by the reference, whose sizes are Python integers and cannot overflow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from comparator import Array, assert_same_bits
from conftest import TimeLimit
from depthwise import depthwise_conv2d
from depthwise._reference import depthwise_conv2d_reference

INPUT = np.arange(2 * 5 * 6 * 3, dtype=np.float32).reshape(2, 5, 6, 3)
FILTER = np.arange(3 * 3 * 3 * 2, dtype=np.float32).reshape(3, 3, 3, 2)
SECONDS = 5.0

HUGE = [2**31 - 1, 2**31, 2**62, 2**63 - 1, 2**63, 2**64, 2**70]


def call(**changed: Any) -> Array:
    arguments = {"input": INPUT, "filter": FILTER, "strides": [1] * 4, "padding": "SAME", **changed}
    return depthwise_conv2d(**arguments)


def right_or_refused(time_limit: TimeLimit, refusal: str, **changed: Any) -> None:
    """Assert a right answer, or an error for the size that names what is too large."""
    with time_limit(SECONDS):
        try:
            got = call(**changed)
        except MemoryError:
            return
        except (ValueError, OverflowError) as error:
            assert any(word in str(error) for word in refusal.split("|")), str(error)
            return
    arguments = {"input": INPUT, "filter": FILTER, "strides": [1] * 4, "padding": "SAME", **changed}
    assert_same_bits(got, depthwise_conv2d_reference(**arguments).astype(np.float32))


@pytest.mark.parametrize("padding", ["SAME", "VALID", [[0, 0], [3, 1], [0, 9], [0, 0]]], ids=str)
@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("huge", HUGE)
def test_huge_strides(huge: int, place: int, padding: Any, time_limit: TimeLimit) -> None:
    strides = [1, 1, 1, 1]
    strides[place] = huge
    right_or_refused(time_limit, "strides", strides=strides, padding=padding)


@pytest.mark.parametrize("huge", HUGE)
def test_huge_strides_of_batch_and_channels(huge: int, time_limit: TimeLimit) -> None:
    for place in (0, 3):
        strides = [1, 1, 1, 1]
        strides[place] = huge
        with time_limit(SECONDS), pytest.raises((ValueError, OverflowError), match="strides"):
            call(strides=strides)


@pytest.mark.parametrize("padding", ["SAME", "VALID", [[0, 0], [3, 1], [0, 9], [0, 0]]], ids=str)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("huge", HUGE)
def test_huge_dilations(huge: int, place: int, padding: Any, time_limit: TimeLimit) -> None:
    dilations = [1, 1]
    dilations[place] = huge
    right_or_refused(time_limit, "dilations|height|width", dilations=dilations, padding=padding)
    one_tap = FILTER[:1, :1]
    right_or_refused(time_limit, "dilations", filter=one_tap, dilations=dilations, padding=padding)


@pytest.mark.parametrize("channels", [3, 32])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_dilations_far_beyond_the_output(
    data_format: str, channels: int, time_limit: TimeLimit
) -> None:
    """Just below the limit on the effective filter size, so that they are computed."""
    shape = (1, 3, 4, channels) if data_format == "NHWC" else (1, channels, 3, 4)
    input = np.arange(12 * channels, dtype=np.float32).reshape(shape)
    for taps, huge in ((2, 2**31 - 2), (3, 2**30 - 1)):
        filter = np.arange(taps * taps * channels, dtype=np.float32)
        filter = filter.reshape(taps, taps, channels, 1)
        for dilations in ([huge, 1], [1, huge], [huge, huge]):
            arguments: dict[str, Any] = {"data_format": data_format, "dilations": dilations}
            with time_limit(SECONDS):
                got = depthwise_conv2d(input, filter, [1] * 4, "SAME", **arguments)
            want = depthwise_conv2d_reference(input, filter, [1] * 4, "SAME", **arguments)
            assert_same_bits(got, want.astype(np.float32))


@pytest.mark.parametrize("channels", [1, 16])
def test_huge_input_that_is_broadcast(channels: int, time_limit: TimeLimit) -> None:
    """Rows between two windows are neither packed nor walked."""
    pixel = np.arange(1, channels + 1, dtype=np.float32)
    input = np.broadcast_to(pixel, (1, 2**40, 1, channels))
    filter = np.ones((2, 1, channels, 1), np.float32)
    with time_limit(SECONDS):
        got = depthwise_conv2d(input, filter, [1, 2**39, 1, 1], "SAME")
    assert_same_bits(got, np.broadcast_to(2 * pixel, (1, 2, 1, channels)).copy())


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("huge", HUGE)
def test_huge_padding(huge: int, place: int, side: int, time_limit: TimeLimit) -> None:
    """With a stride of 1 the output is huge too, with a huge stride it is small."""
    padding = [[0, 0], [0, 0], [0, 0], [0, 0]]
    padding[place][side] = huge
    if huge > 2**40:
        right_or_refused(time_limit, "padding|output", padding=padding)
    for stride in (huge - 1, huge, huge + 1):
        strides = [1, 1, 1, 1]
        strides[place] = stride
        right_or_refused(time_limit, "padding|strides", padding=padding, strides=strides)


@pytest.mark.parametrize("huge", HUGE)
def test_huge_padding_of_batch_and_channels(huge: int, time_limit: TimeLimit) -> None:
    for place in (0, 3):
        padding = [[0, 0], [0, 0], [0, 0], [0, 0]]
        padding[place][1] = huge
        with time_limit(SECONDS), pytest.raises((ValueError, OverflowError), match="padding"):
            call(padding=padding)


@pytest.mark.parametrize("huge", [2**62, 2**63 - 1, 2**70])
def test_everything_huge(huge: int, time_limit: TimeLimit) -> None:
    right_or_refused(
        time_limit,
        "padding|strides",
        strides=[1, huge, huge, 1],
        padding=[[0, 0], [huge, huge], [huge, huge], [0, 0]],
    )
    right_or_refused(
        time_limit,
        "padding|dilations",
        dilations=[huge, huge],
        padding=[[0, 0], [huge, huge], [huge, huge], [0, 0]],
    )
    empty = np.ones((0, 5, 6, 3), np.float32)
    padding = [[0, 0], [huge, huge], [huge, huge], [0, 0]]
    right_or_refused(time_limit, "padding|output", input=empty, padding=padding)


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
