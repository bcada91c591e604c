"""Arrays of strides that say nothing, arrays that share memory, and results that do not."""

from __future__ import annotations

import numpy as np
import pytest

from comparator import assert_same_bits
from depthwise import depthwise_conv2d


def test_strides_of_axes_of_one_element_do_not_matter(isa: str) -> None:
    """NumPy may hold anything there, even what is no multiple of the element size."""
    values = np.random.default_rng(1).standard_normal(300).astype(np.float32)
    filter = np.random.default_rng(2).standard_normal((3, 3, 2, 1)).astype(np.float32)
    input = values[:60].reshape(1, 5, 6, 2)
    want = depthwise_conv2d(input, filter, [1] * 4, "SAME")
    for odd in (0, 3, -5, 2**62 + 1):
        placed = np.lib.stride_tricks.as_strided(values, input.shape, (odd, 48, 8, 4))
        assert_same_bits(depthwise_conv2d(placed, filter, [1] * 4, "SAME"), want)


@pytest.mark.parametrize("odd", [0, 20, -4, -(2**62)])
def test_strides_of_single_rows_do_not_matter(odd: int, isa: str) -> None:
    """Not in images of so many bytes either that rows are fetched ahead."""
    input = np.zeros((16, 64, 1, 3000), np.float32)
    input[...] = np.random.default_rng(1).standard_normal(input.shape[-1])
    filter = np.random.default_rng(2).standard_normal((3, 3, 64, 1)).astype(np.float32)
    batch, channel, _, column = input.strides
    placed = np.lib.stride_tricks.as_strided(input, input.shape, (batch, channel, odd, column))
    padding = [[0, 0], [0, 0], [2, 2], [1, 1]]
    want = depthwise_conv2d(input, filter, [1] * 4, padding, "NCHW")
    assert_same_bits(depthwise_conv2d(placed, filter, [1] * 4, padding, "NCHW"), want)


def test_input_and_filter_may_share_memory(isa: str) -> None:
    array = np.random.default_rng(0).standard_normal((3, 3, 16, 2)).astype(np.float32)
    want = depthwise_conv2d(array.transpose(3, 0, 1, 2).copy(), array.copy(), [1] * 4, "SAME")
    before = array.copy()
    assert_same_bits(depthwise_conv2d(array.transpose(3, 0, 1, 2), array, [1] * 4, "SAME"), want)
    assert_same_bits(array, before)


@pytest.mark.parametrize("size", [4, 40, 90, 180, 400])
def test_results_are_memory_of_their_own(size: int) -> None:
    """Neither a later call nor the end of the array that a view came from changes a result."""
    filter = np.ones((1, 1, 16, 1), np.float32)
    kept = []
    for number in range(6):
        input = np.full((1, size, size, 16), number, np.float32)
        result = depthwise_conv2d(input, filter, [1] * 4, "SAME")
        assert not np.shares_memory(result, input)
        kept.append(result[0, 1:] if number % 2 else result)
        # Its memory may be used again at once.
        depthwise_conv2d(input + 100, filter, [1] * 4, "SAME")
    del result
    for number, array in enumerate(kept):
        assert (array == number).all()
        array += 1
    for number, array in enumerate(kept):
        assert (array == number + 1).all()
