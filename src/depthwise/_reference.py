"""The defining sums in float64, slow and obvious: the oracle of every test.

Takes NumPy arrays of any supported type and valid arguments, gives float64. It shares no line with
`_geometry` or the native code, so that no mistake can hide by being made twice. Tests and
benchmarks call it; the package itself never does.

In all three functions a tap whose input index lies outside the image is left out of the sum: it
contributes nothing, even where the filter or `out_backprop` holds an infinity. With
``absolute=True`` they sum the absolute values of the products instead, which is the scale of the
rounding errors. `accumulator` is the type of the arithmetic and of the result: `numpy.longdouble`
judges float64 results, whose rounding errors are as large as those of a float64 reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "depthwise_conv2d_backprop_filter_reference",
    "depthwise_conv2d_backprop_input_reference",
    "depthwise_conv2d_reference",
]

Array = NDArray[Any]
Pair = tuple[int, int]
Padding = str | Sequence[Sequence[int]]
Slices = tuple[slice, slice]


def depthwise_conv2d_reference(
    input: ArrayLike,
    filter: ArrayLike,
    strides: Sequence[int],
    padding: Padding,
    data_format: str | None = None,
    dilations: Sequence[int] | None = None,
    *,
    accumulator: DTypeLike = np.float64,
    absolute: bool = False,
) -> Array:
    """Evaluate the formula of `depthwise_conv2d`, one filter tap at a time.

    With NHWC, and with `pad_top` rows and `pad_left` columns of padding before the image::

        output[b, i, j, k*channel_multiplier + q] = sum over di, dj of
            filter[di, dj, k, q] * input[b, stride_height*i + dilation_height*di - pad_top,
                                            stride_width*j + dilation_width*dj - pad_left, k]

    NCHW is the same sum with the channel axis second in `input` and `output`. Raises ValueError if
    an output size is negative.
    """
    image = _to_nhwc(_wide(input, accumulator, absolute), data_format)
    taps = _wide(filter, accumulator, absolute)
    batch, in_height, in_width, in_channels = image.shape
    out_size, visits = _visits(
        (in_height, in_width), taps.shape, strides, padding, data_format, dilations
    )
    output = np.zeros((batch, *out_size, *taps.shape[2:]), accumulator)
    for di, dj, (in_rows, in_cols), (out_rows, out_cols) in visits:
        with _any_value():
            products = image[:, in_rows, in_cols, :, np.newaxis] * taps[di, dj]
            output[:, out_rows, out_cols] += products
    return _from_nhwc(output.reshape(batch, *out_size, in_channels * taps.shape[3]), data_format)


def depthwise_conv2d_backprop_input_reference(
    input_sizes: Sequence[int],
    filter: ArrayLike,
    out_backprop: ArrayLike,
    strides: Sequence[int],
    padding: Padding,
    data_format: str | None = None,
    dilations: Sequence[int] | None = None,
    *,
    accumulator: DTypeLike = np.float64,
    absolute: bool = False,
) -> Array:
    """Give every product of the forward sum back to the input element that took part in it.

    For all b, i, j, k, q, di, dj whose input index is inside the image::

        input_backprop[b, stride_height*i + dilation_height*di - pad_top,
                          stride_width*j + dilation_width*dj - pad_left, k] +=
            filter[di, dj, k, q] * out_backprop[b, i, j, k*channel_multiplier + q]
    """
    taps = _wide(filter, accumulator, absolute)
    backprop = _to_nhwc(_wide(out_backprop, accumulator, absolute), data_format)
    batch, in_height, in_width, in_channels = _nhwc_order(input_sizes, data_format)
    out_size, visits = _visits(
        (in_height, in_width), taps.shape, strides, padding, data_format, dilations
    )
    backprop = backprop.reshape(batch, *out_size, *taps.shape[2:])
    gradient = np.zeros((batch, in_height, in_width, in_channels), accumulator)
    for di, dj, (in_rows, in_cols), (out_rows, out_cols) in visits:
        with _any_value():
            products = backprop[:, out_rows, out_cols] * taps[di, dj]
            gradient[:, in_rows, in_cols] += products.sum(axis=4)
    return _from_nhwc(gradient, data_format)


def depthwise_conv2d_backprop_filter_reference(
    input: ArrayLike,
    filter_sizes: Sequence[int],
    out_backprop: ArrayLike,
    strides: Sequence[int],
    padding: Padding,
    data_format: str | None = None,
    dilations: Sequence[int] | None = None,
    *,
    accumulator: DTypeLike = np.float64,
    absolute: bool = False,
) -> Array:
    """Give every product of the forward sum back to the filter tap that took part in it.

    The sum goes over the b, i, j whose input index is inside the image::

        filter_backprop[di, dj, k, q] = sum over b, i, j of
            out_backprop[b, i, j, k*channel_multiplier + q]
                * input[b, stride_height*i + dilation_height*di - pad_top,
                           stride_width*j + dilation_width*dj - pad_left, k]
    """
    image = _to_nhwc(_wide(input, accumulator, absolute), data_format)
    backprop = _to_nhwc(_wide(out_backprop, accumulator, absolute), data_format)
    batch, in_height, in_width, _ = image.shape
    shape = tuple(int(size) for size in filter_sizes)
    out_size, visits = _visits(
        (in_height, in_width), shape, strides, padding, data_format, dilations
    )
    backprop = backprop.reshape(batch, *out_size, *shape[2:])
    gradient = np.zeros(shape, accumulator)
    for di, dj, (in_rows, in_cols), (out_rows, out_cols) in visits:
        with _any_value():
            products = image[:, in_rows, in_cols, :, np.newaxis] * backprop[:, out_rows, out_cols]
            gradient[di, dj] += products.sum(axis=(0, 1, 2))
    return gradient


def _visits(
    in_size: Pair,
    filter_shape: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    data_format: str | None,
    dilations: Sequence[int] | None,
) -> tuple[Pair, Iterator[tuple[int, int, Slices, Slices]]]:
    """Return the output size and, for each tap (di, dj), which input meets which output under it.

    Those are two pairs of slices, of rows and columns, that select equally many elements.
    """
    height_axis = 2 if data_format == "NCHW" else 1
    axes = []
    for axis in (0, 1):
        # Python integers throughout: they do not overflow, whatever the arguments.
        stride, dilation = int(strides[height_axis + axis]), int((dilations or (1, 1))[axis])
        pads = padding if isinstance(padding, str) else padding[height_axis + axis]
        out_size, pad = _output_size_and_padding(
            in_size[axis], filter_shape[axis], stride, dilation, pads
        )
        inside = [
            _taps_inside(dilation * tap - pad, stride, in_size[axis], out_size)
            for tap in range(filter_shape[axis])
        ]
        axes.append((out_size, inside))
    (out_height, rows), (out_width, columns) = axes
    visits = (
        (di, dj, (in_rows, in_cols), (out_rows, out_cols))
        for di, (in_rows, out_rows) in enumerate(rows)
        for dj, (in_cols, out_cols) in enumerate(columns)
    )
    return (out_height, out_width), visits


def _output_size_and_padding(
    in_size: int, filter_size: int, stride: int, dilation: int, padding: str | Sequence[int]
) -> Pair:
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


def _taps_inside(offset: int, stride: int, in_size: int, out_size: int) -> Slices:
    """Return the inputs `stride*i + offset` inside the image, and their outputs `i`."""
    inside = [i for i in range(out_size) if 0 <= stride * i + offset < in_size]
    if not inside:
        return slice(0), slice(0)
    first, last = (stride * i + offset for i in (inside[0], inside[-1]))
    return slice(first, last + 1, stride), slice(inside[0], inside[-1] + 1)


def _wide(values: ArrayLike, accumulator: DTypeLike, absolute: bool) -> Array:
    wide: Array = np.asarray(values).astype(accumulator)
    return np.abs(wide) if absolute else wide


def _nhwc_order(sizes: Sequence[int], data_format: str | None) -> tuple[int, ...]:
    batch, *rest = (int(size) for size in sizes)
    return (batch, *rest[1:], rest[0]) if data_format == "NCHW" else (batch, *rest)


def _to_nhwc(array: Array, data_format: str | None) -> Array:
    return np.moveaxis(array, 1, 3) if data_format == "NCHW" else array


def _from_nhwc(array: Array, data_format: str | None) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, 3, 1) if data_format == "NCHW" else array)


def _any_value() -> np.errstate:
    """An infinite or NaN value is allowed to meet anything; that is not worth a warning."""
    return np.errstate(invalid="ignore", over="ignore")
