"""The defining sum in float64, slow and obvious: the oracle of every test.

Takes NumPy arrays of any supported type and valid arguments, gives float64. It shares no line with
`_geometry` or the native code, so that no mistake can hide by being made twice. Tests and
benchmarks call it; the package itself never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["depthwise_conv2d_magnitude", "depthwise_conv2d_reference"]


def depthwise_conv2d_reference(
    input: ArrayLike,
    filter: ArrayLike,
    strides: Sequence[int],
    padding: str | Sequence[Sequence[int]],
    data_format: str | None = None,
    dilations: Sequence[int] | None = None,
    *,
    accumulator: DTypeLike = np.float64,
) -> NDArray[Any]:
    """Evaluate the formula of `depthwise_conv2d`, one filter tap at a time.

    With NHWC, and with `pad_top` rows and `pad_left` columns of padding before the image::

        output[b, i, j, k*channel_multiplier + q] = sum over di, dj of
            filter[di, dj, k, q] * input[b, stride_height*i + dilation_height*di - pad_top,
                                            stride_width*j + dilation_width*dj - pad_left, k]

    where a tap whose input index lies outside the image is left out of the sum: it contributes
    nothing, even if the filter holds an infinity there. NCHW is the same sum with the channel axis
    second in `input` and `output`.

    Parameters
    ----------
    input, filter, strides, padding, data_format, dilations
        As for `depthwise_conv2d`, but taken to be valid.
    accumulator : dtype, default float64
        Type of the arithmetic and of the result. `numpy.longdouble` judges float64 results, whose
        rounding errors are as large as those of a float64 reference.

    Returns
    -------
    ndarray
        The output, C-contiguous.

    Raises
    ------
    ValueError
        If an output size is negative.
    """
    image = np.asarray(input).astype(accumulator)
    taps = np.asarray(filter).astype(accumulator)
    height_axis = 1
    if data_format == "NCHW":
        image = np.moveaxis(image, 1, 3)
        height_axis = 2
    batch, in_height, in_width, in_channels = image.shape
    filter_height, filter_width, _, channel_multiplier = taps.shape
    # Python integers throughout: they do not overflow, whatever the arguments.
    stride_height, stride_width = (int(strides[height_axis + axis]) for axis in (0, 1))
    dilation_height, dilation_width = (int(d) for d in (dilations or (1, 1)))

    pads: list[Any] = [padding, padding]
    if not isinstance(padding, str):
        pads = [padding[height_axis], padding[height_axis + 1]]
    out_height, pad_top = _output_size_and_padding(
        in_height, filter_height, stride_height, dilation_height, pads[0]
    )
    out_width, pad_left = _output_size_and_padding(
        in_width, filter_width, stride_width, dilation_width, pads[1]
    )

    output = np.zeros((batch, out_height, out_width, in_channels, channel_multiplier), accumulator)
    for di in range(filter_height):
        offset = dilation_height * di - pad_top
        out_rows, in_rows = _taps_inside(offset, stride_height, in_height, out_height)
        for dj in range(filter_width):
            offset = dilation_width * dj - pad_left
            out_cols, in_cols = _taps_inside(offset, stride_width, in_width, out_width)
            # An infinite or NaN value is allowed to meet anything; that is not worth a warning.
            with np.errstate(invalid="ignore", over="ignore"):
                products = image[:, in_rows, in_cols, :, np.newaxis] * taps[di, dj]
                output[:, out_rows, out_cols] += products

    flat_channels = in_channels * channel_multiplier
    result = output.reshape(batch, out_height, out_width, flat_channels)
    if data_format == "NCHW":
        result = np.moveaxis(result, 3, 1)
    return np.ascontiguousarray(result)


def depthwise_conv2d_magnitude(
    input: ArrayLike,
    filter: ArrayLike,
    strides: Sequence[int],
    padding: str | Sequence[Sequence[int]],
    data_format: str | None = None,
    dilations: Sequence[int] | None = None,
    *,
    accumulator: DTypeLike = np.float64,
) -> NDArray[Any]:
    """Sum `|filter| * |input|` over the taps of each output: the scale of its rounding error."""
    return depthwise_conv2d_reference(
        np.abs(np.asarray(input).astype(accumulator)),
        np.abs(np.asarray(filter).astype(accumulator)),
        strides,
        padding,
        data_format,
        dilations,
        accumulator=accumulator,
    )


def _output_size_and_padding(
    in_size: int, filter_size: int, stride: int, dilation: int, padding: str | Sequence[int]
) -> tuple[int, int]:
    """Return the output size along one axis and how much padding lies before the image."""
    effective_filter_size = (filter_size - 1) * dilation + 1
    if padding == "SAME":
        out_size = -(-in_size // stride)
        total = max((out_size - 1) * stride + effective_filter_size - in_size, 0)
        return out_size, total // 2
    before, after = (0, 0) if padding == "VALID" else (int(padding[0]), int(padding[1]))
    out_size = (in_size + before + after - effective_filter_size) // stride + 1
    if out_size < 0:
        raise ValueError(f"the output size would be {out_size}")
    return out_size, before


def _taps_inside(offset: int, stride: int, in_size: int, out_size: int) -> tuple[slice, slice]:
    """Return the outputs `i` with `0 <= stride*i + offset < in_size`, and those input indices."""
    inside = [i for i in range(out_size) if 0 <= stride * i + offset < in_size]
    if not inside:
        return slice(0), slice(0)
    first, last = (stride * i + offset for i in (inside[0], inside[-1]))
    return slice(inside[0], inside[-1] + 1), slice(first, last + 1, stride)
