"""The reference against the formula written as plain loops over an image padded by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from comparator import Array, assert_same_bits
from depthwise._reference import depthwise_conv2d_magnitude, depthwise_conv2d_reference

Pads = tuple[tuple[int, int], tuple[int, int]]


def loops(input: Array, filter: Array, strides: Any, pads: Pads, dilations: Any) -> Array:
    """Evaluate the NHWC formula element by element in Python numbers."""
    padded = np.pad(input, ((0, 0), *pads, (0, 0)))
    filter_height, filter_width, in_channels, channel_multiplier = filter.shape
    out_height, out_width = (
        len(range(0, padded.shape[axis + 1] - (filter.shape[axis] - 1) * dilations[axis], step))
        for axis, step in enumerate(strides)
    )
    output = np.zeros((len(input), out_height, out_width, in_channels * channel_multiplier))
    for b, i, j, k, q in itertools.product(
        *map(range, (len(input), out_height, out_width, in_channels, channel_multiplier))
    ):
        output[b, i, j, k * channel_multiplier + q] = sum(
            float(filter[di, dj, k, q])
            * float(
                padded[b, strides[0] * i + dilations[0] * di, strides[1] * j + dilations[1] * dj, k]
            )
            for di, dj in itertools.product(range(filter_height), range(filter_width))
        )
    return output


@pytest.mark.parametrize("data_format", [None, "NHWC", "NCHW"])
@pytest.mark.parametrize(
    ("size", "filter_size", "strides", "padding", "dilations", "pads"),
    [
        ((5, 6), (3, 3), (1, 1), "SAME", None, ((1, 1), (1, 1))),
        ((5, 6), (3, 3), (2, 2), "SAME", None, ((1, 1), (0, 1))),
        ((5, 6), (2, 4), (1, 1), "SAME", None, ((0, 1), (1, 2))),
        ((5, 6), (1, 1), (3, 4), "SAME", None, ((0, 0), (0, 0))),
        ((5, 6), (3, 2), (2, 3), "VALID", None, ((0, 0), (0, 0))),
        ((5, 6), (3, 3), (1, 1), "SAME", (2, 3), ((2, 2), (3, 3))),
        ((5, 6), (2, 3), (1, 1), "VALID", (4, 1), ((0, 0), (0, 0))),
        ((5, 6), (3, 3), (2, 1), ((4, 0), (0, 5)), None, ((4, 0), (0, 5))),
        ((2, 1), (7, 9), (1, 1), "SAME", None, ((3, 3), (4, 4))),
        ((0, 1), (3, 3), (1, 1), "SAME", None, None),
        ((4, 4), (6, 4), (2, 1), "VALID", None, None),
    ],
)
def test_matches_plain_loops(
    size: tuple[int, int],
    filter_size: tuple[int, int],
    strides: tuple[int, int],
    padding: Any,
    dilations: tuple[int, int] | None,
    pads: Pads | None,
    data_format: str | None,
) -> None:
    random = np.random.default_rng(0)
    input: Array = random.integers(-8, 9, (2, *size, 3)).astype(np.float32)
    filter = random.integers(-8, 9, (*filter_size, 3, 2)).astype(np.float32)
    if pads is None:
        want: Array = np.zeros((2, 0, 1, 6))
    else:
        want = loops(input, filter, strides, pads, dilations or (1, 1)) + 0.0

    four_strides = (1, *strides, 1)
    four_pads = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    if data_format == "NCHW":
        input, want = (np.ascontiguousarray(np.moveaxis(a, 3, 1)) for a in (input, want))
        four_strides = (1, 1, *strides)
        if not isinstance(padding, str):
            four_pads = ((0, 0), (0, 0), *padding)
    arguments = (four_strides, four_pads, data_format, dilations)
    assert_same_bits(depthwise_conv2d_reference(input, filter, *arguments), want)
    magnitude = depthwise_conv2d_magnitude(input, filter, *arguments)
    absolute = depthwise_conv2d_reference(np.abs(input), np.abs(filter), *arguments)
    assert_same_bits(magnitude, absolute)
    assert (magnitude >= np.abs(want)).all()


def test_padding_contributes_nothing_even_to_an_infinite_tap() -> None:
    filter = np.array([np.inf, 1.0, np.nan]).reshape(1, 3, 1, 1)
    got = depthwise_conv2d_reference(np.ones((1, 1, 2, 1)), filter, (1, 1, 1, 1), "SAME")
    np.testing.assert_array_equal(got.ravel(), [np.nan, np.inf])
    got = depthwise_conv2d_reference(np.ones((1, 1, 1, 1)), filter, (1, 1, 1, 1), "SAME")
    np.testing.assert_array_equal(got.ravel(), [1.0])


def test_negative_size_is_an_error() -> None:
    with pytest.raises(ValueError):
        depthwise_conv2d_reference(
            np.ones((1, 1, 4, 1)), np.ones((3, 1, 1, 1)), (1, 1, 1, 1), "VALID"
        )
