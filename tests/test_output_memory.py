"""The memory of large results: aligned, used again, never while an array still has it, bounded."""

from __future__ import annotations

import numpy as np
import pytest

from comparator import Array
from depthwise import (
    _native,
    depthwise_conv2d,
    depthwise_conv2d_backprop_filter,
    depthwise_conv2d_backprop_input,
    set_num_threads,
)

ONE_TAP = np.ones((1, 1, 1, 1), np.float32)
MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    """What earlier tests left would serve these."""
    _native.release_kept_memory()


def output_of(megabytes: int) -> Array:
    """Return an output of that size, whose values are those of the input."""
    return depthwise_conv2d(
        np.ones((1, megabytes, MEGABYTE // 4, 1), np.float32), ONE_TAP, [1] * 4, "VALID"
    )


def address(array: Array) -> int:
    return array.__array_interface__["data"][0]


def test_large_outputs_start_at_a_cache_line() -> None:
    outputs = [output_of(size) for size in (1, 2, 5, 1, 2, 5)]
    assert all(address(output) % 64 == 0 for output in outputs)
    assert len({address(output) for output in outputs}) == len(outputs)


@pytest.mark.parametrize("channels", [192, 240, 256])
@pytest.mark.parametrize("offset", [0, 4, 16, 48])
def test_outputs_start_where_their_input_does_if_pixels_are_large(
    offset: int, channels: int
) -> None:
    """The vectors of channels then start elsewhere, which must change no bit."""
    random = np.random.default_rng(3)
    shape = (1, 18, 18, channels)
    memory = np.zeros(np.prod(shape) * 4 + 128, np.uint8)
    begin = -address(memory) % 64 + offset
    input = memory[begin : begin + np.prod(shape) * 4].view(np.float32).reshape(shape)
    input[...] = random.standard_normal(shape)
    filter = random.standard_normal((3, 3, channels, 1)).astype(np.float32)
    output = depthwise_conv2d(input, filter, [1] * 4, "SAME")
    assert address(output) % 64 == offset
    # Too small for that, and computed from aligned memory.
    for rows in (slice(0, 3), slice(15, 18)):
        part = depthwise_conv2d(input[:, rows].copy(), filter, [1] * 4, "SAME")
        inner = slice(rows.start + 1, rows.stop - 1)
        assert output[:, inner].tobytes() == part[:, 1:2].tobytes()


@pytest.mark.parametrize(
    ("size", "taps", "threads", "is_aligned"),
    [
        (40, 3, 2, False),
        (40, 5, 1, False),
        (40, 5, 2, True),  # whose threads may share pixels
        (100, 3, 1, True),  # stored past the caches
        (100, 5, 1, False),
    ],
)
def test_outputs_are_aligned_where_that_gains_more(
    size: int, taps: int, threads: int, is_aligned: bool, restored_threads: None
) -> None:
    shape = (1, size, size, 240)
    memory = np.ones(np.prod(shape) * 4 + 128, np.uint8)
    begin = -address(memory) % 64 + 16
    image = memory[begin : begin + np.prod(shape) * 4].view(np.float32).reshape(shape)
    filter = np.ones((taps, taps, 240, 1), np.float32)
    set_num_threads(threads)
    for _ in range(2):  # by Python code, then like an earlier call
        output = depthwise_conv2d(image, filter, [1] * 4, "SAME")
        gradient = depthwise_conv2d_backprop_input(shape, filter, image, [1] * 4, "SAME")
        for result in (output, gradient):
            assert address(result) % 64 == (0 if is_aligned else 16)


@pytest.mark.parametrize(
    ("channels", "taps", "stride", "takes_ends"),
    [
        (96, 5, 1, True),
        (96, 3, 2, True),
        (96, 3, 1, True),
        (96, 2, 1, False),  # few taps
        (100, 5, 1, False),  # channels that fill no lines
        (80, 5, 1, False),  # few vectors
    ],
)
def test_outputs_of_small_pixels_are_like_their_input_where_both_ends_are_a_vector(
    channels: int, taps: int, stride: int, takes_ends: bool, isa: str, restored_threads: None
) -> None:
    """As by the kernels of float32 with AVX-512 (`SuitsEnds` in native/direct_plan.h)."""
    set_num_threads(1)
    shape = (1, 60, 60, channels)
    memory = np.ones(np.prod(shape) * 4 + 128, np.uint8)
    begin = -address(memory) % 64 + 16
    image = memory[begin : begin + np.prod(shape) * 4].view(np.float32).reshape(shape)
    filter = np.ones((taps, taps, channels, 1), np.float32)
    want = 16 if takes_ends and isa == "x86-64-v4" else 0
    for _ in range(2):  # by Python code, then like an earlier call
        output = depthwise_conv2d(image, filter, [1, stride, stride, 1], "SAME")
        assert address(output) % 64 == want
        if stride == 1:
            gradient = depthwise_conv2d_backprop_input(shape, filter, image, [1] * 4, "SAME")
            assert address(gradient) % 64 == want


def test_outputs_of_alternating_sizes_are_served_from_what_is_kept() -> None:
    seen: dict[int, set[int]] = {1: set(), 3: set(), 8: set()}
    for _ in range(4):
        for size, addresses in seen.items():
            addresses.add(address(output_of(size)))
    assert [len(addresses) for addresses in seen.values()] == [1, 1, 1]


def test_a_view_keeps_the_memory_from_being_used_again() -> None:
    view = output_of(1)[0, :, 7:9]
    others = [output_of(1) for _ in range(3)]
    for other in others:
        other.fill(0)
    np.testing.assert_array_equal(view, np.ones_like(view))


def test_what_is_kept_is_bounded_and_can_be_released() -> None:
    outputs = [output_of(size) for size in (40, 40, 40, 40)]
    del outputs
    kept = _native.release_kept_memory()
    assert 0 < kept <= _native.max_kept_bytes
    assert _native.release_kept_memory() == 0


def test_an_output_larger_than_the_bound_is_not_kept() -> None:
    output_of(_native.max_kept_bytes // MEGABYTE + 1)
    assert _native.release_kept_memory() == 0


def test_gradients_use_the_same_memory() -> None:
    ones = np.ones((1, 1, MEGABYTE // 4, 1), np.float32)
    address_of_output = address(output_of(1))
    gradient = depthwise_conv2d_backprop_input(ones.shape, ONE_TAP, ones, [1] * 4, "VALID")
    assert address(gradient) == address_of_output
    kept = gradient[:, :, 5:9]
    del gradient
    output_of(1).fill(7)
    np.testing.assert_array_equal(kept, np.ones_like(kept))

    large_filter = (1, MEGABYTE // 4, 1, 1)
    gradient = depthwise_conv2d_backprop_filter(
        ones, large_filter, np.ones((1, 1, 1, 1), np.float32), [1] * 4, "VALID"
    )
    assert address(gradient) % 64 == 0
    np.testing.assert_array_equal(gradient, np.ones(large_filter, np.float32))
