"""Properties of the operator that need no reference, on integers, whose sums are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from comparator import Array, assert_same_bits
from depthwise import depthwise_conv2d

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "3x3": {"filter_size": (3, 3), "channels": 32},
    "5x5": {"filter_size": (5, 5), "channels": 17},
    "7x4": {"filter_size": (7, 4), "channels": 16},
    "few channels": {"filter_size": (3, 3), "channels": 3},
    "multiplier": {"filter_size": (3, 3), "channels": 5, "multiplier": 3},
}


def integers(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.integers(-6, 7, shape).astype(np.float32)


@pytest.fixture(params=CONFIGURATIONS.values(), ids=list(CONFIGURATIONS))
def problem(request: pytest.FixtureRequest) -> tuple[Array, Array]:
    """Return an input of 2 images and a filter."""
    random = np.random.default_rng(6)
    channels = request.param["channels"]
    filter_shape = (*request.param["filter_size"], channels, request.param.get("multiplier", 1))
    return integers(random, (2, 15, 19, channels)), integers(random, filter_shape)


@pytest.mark.parametrize("strides", [[1, 1, 1, 1], [1, 2, 3, 1]], ids=["s1", "s2x3"])
def test_linear_in_input_and_filter(
    problem: tuple[Array, Array], strides: list[int], isa: str
) -> None:
    input, filter = problem
    random = np.random.default_rng(7)
    other_input, other_filter = integers(random, input.shape), integers(random, filter.shape)

    def conv(input: Array, filter: Array) -> Array:
        return depthwise_conv2d(input, filter, strides, "SAME")

    of_sum = conv(3 * input - 2 * other_input, filter)
    assert_same_bits(of_sum, 3 * conv(input, filter) - 2 * conv(other_input, filter))
    of_sum = conv(input, 3 * filter - 2 * other_filter)
    assert_same_bits(of_sum, 3 * conv(input, filter) - 2 * conv(input, other_filter))


def test_shifted_image_gives_shifted_output(problem: tuple[Array, Array], isa: str) -> None:
    input, filter = problem
    whole = depthwise_conv2d(input, filter, [1, 1, 1, 1], "VALID")
    part = depthwise_conv2d(input[:, 2:, 3:], filter, [1, 1, 1, 1], "VALID")
    assert_same_bits(part, np.ascontiguousarray(whole[:, 2:, 3:]))


def test_stride_selects_outputs(problem: tuple[Array, Array], isa: str) -> None:
    input, filter = problem
    dense = depthwise_conv2d(input, filter, [1, 1, 1, 1], "VALID")
    for stride_height, stride_width in [(2, 2), (1, 2), (3, 1), (2, 4)]:
        got = depthwise_conv2d(input, filter, [1, stride_height, stride_width, 1], "VALID")
        assert_same_bits(got, np.ascontiguousarray(dense[:, ::stride_height, ::stride_width]))


def test_padding_is_zeros_around_the_image(problem: tuple[Array, Array], isa: str) -> None:
    input, filter = problem
    pads = [[0, 0], [2, 1], [0, 3], [0, 0]]
    got = depthwise_conv2d(input, filter, [1, 1, 1, 1], pads)
    assert_same_bits(got, depthwise_conv2d(np.pad(input, pads), filter, [1, 1, 1, 1], "VALID"))


@pytest.mark.usefixtures("direct_sums")
def test_dilation_is_a_filter_with_zeros_between(problem: tuple[Array, Array], isa: str) -> None:
    input, filter = problem
    filter_height, filter_width, *rest = filter.shape
    spread = np.zeros((2 * filter_height - 1, 3 * filter_width - 2, *rest), np.float32)
    spread[::2, ::3] = filter
    got = depthwise_conv2d(input, filter, [1, 1, 1, 1], "SAME", dilations=[2, 3])
    assert_same_bits(got, depthwise_conv2d(input, spread, [1, 1, 1, 1], "SAME"))


def test_channels_are_independent(problem: tuple[Array, Array], isa: str) -> None:
    input, filter = problem
    channels, multiplier = filter.shape[2:]
    order = np.random.default_rng(8).permutation(channels)
    got = depthwise_conv2d(input[..., order], filter[:, :, order], [1, 1, 1, 1], "SAME")
    want = depthwise_conv2d(input, filter, [1, 1, 1, 1], "SAME")
    by_channel = want.reshape(*want.shape[:3], channels, multiplier)
    assert_same_bits(got, by_channel[..., order, :].reshape(want.shape))


def test_multiplier_outputs_are_independent(problem: tuple[Array, Array], isa: str) -> None:
    """Output channel `k*channel_multiplier + q` uses input channel k and filter column q."""
    input, filter = problem
    other = integers(np.random.default_rng(9), filter.shape)
    both = depthwise_conv2d(input, np.concatenate([filter, other], 3), [1, 1, 1, 1], "SAME")
    channels, multiplier = filter.shape[2:]
    split = both.reshape(*both.shape[:3], channels, 2, multiplier)
    for index, one in enumerate((filter, other)):
        want = depthwise_conv2d(input, one, [1, 1, 1, 1], "SAME")
        assert_same_bits(np.ascontiguousarray(split[..., index, :]).reshape(want.shape), want)


def test_mirrored_image_and_filter(problem: tuple[Array, Array], isa: str) -> None:
    input, filter = problem
    got = depthwise_conv2d(input[:, ::-1, ::-1], filter[::-1, ::-1], [1, 1, 1, 1], "VALID")
    want = depthwise_conv2d(input, filter, [1, 1, 1, 1], "VALID")
    assert_same_bits(got, np.ascontiguousarray(want[:, ::-1, ::-1]))


def test_transposed_image_and_filter(problem: tuple[Array, Array], isa: str) -> None:
    input, filter = problem
    got = depthwise_conv2d(
        input.swapaxes(1, 2), filter.swapaxes(0, 1), [1, 2, 1, 1], [[0, 0], [1, 2], [3, 0], [0, 0]]
    )
    want = depthwise_conv2d(input, filter, [1, 1, 2, 1], [[0, 0], [3, 0], [1, 2], [0, 0]])
    assert_same_bits(got, np.ascontiguousarray(want.swapaxes(1, 2)))


def test_single_tap_copies(problem: tuple[Array, Array], isa: str) -> None:
    """A filter with a one in the middle is the identity."""
    input, _ = problem
    filter = np.zeros((3, 3, input.shape[3], 1), np.float32)
    filter[1, 1] = 1
    assert_same_bits(depthwise_conv2d(input, filter, [1, 1, 1, 1], "SAME"), input)
