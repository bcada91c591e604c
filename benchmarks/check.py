"""Arrays for a case, and the check that an answer is right before anyone times it.

Small signed integers make every sum exact in every dtype and order of summation, so a right
answer is off by rounding at most and a wrong one by a whole number.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from benchmarks.shapes import Axis, Case
from depthwise._reference import depthwise_conv2d_reference

# Larger than the widest register tile, so that every window holds a seam between two tiles.
_WINDOW = 16


def make_arrays(case: Case) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return input and filter, allocated by NumPy as it does for anybody: 16-byte aligned."""
    random = np.random.default_rng(0)
    dtype = np.dtype(ml_dtypes.bfloat16 if case.dtype == "bfloat16" else case.dtype)
    input = random.integers(-4, 5, case.input_shape, np.int8).astype(dtype)
    filter = random.integers(-2, 3, case.filter_shape, np.int8).astype(dtype)
    return input, filter


def find_error(
    case: Case, input: NDArray[Any], filter: NDArray[Any], output: NDArray[Any]
) -> str | None:
    """Say what is wrong with ``output``, or return None if it is right.

    The float64 reference is too slow for whole images, so it computes windows at the corners,
    the edges and the centre, of the first and the last image.
    """
    if output.shape != case.output_shape:
        return f"shape {output.shape}, not {case.output_shape}"
    for b, rows, columns in product(
        sorted({0, case.batch - 1}), _windows(case.height), _windows(case.width)
    ):
        wanted = _reference_window(case, input, filter, b, rows, columns)
        got = output[_index(case, b, rows, columns)].astype(np.float64)
        # Half precision rounds sums that need more bits than it has; transforms leave a residue.
        allowed = 0.25 + float(ml_dtypes.finfo(output.dtype).eps) * np.abs(wanted)
        wrong = ~(np.abs(got - wanted) <= allowed)
        if wrong.any():
            where = tuple(int(index) for index in np.argwhere(wrong)[0])
            return (
                f"{got[where]:g} instead of {wanted[where]:g} in image {b}, "
                f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to "
                f"{columns.stop - 1}, at {where} of that window"
            )
    return None


def _windows(axis: Axis) -> list[slice]:
    """Output ranges at the start, middle and end of an axis."""
    size = min(_WINDOW, axis.out_size)
    last = axis.out_size - size
    return [slice(start, start + size) for start in sorted({0, last // 2, last})]


def _index(case: Case, b: int, rows: slice, columns: slice) -> tuple[slice, ...]:
    """Index of a window in an array ordered by ``data_format``."""
    image, channels = slice(b, b + 1), slice(None)
    if case.data_format == "NCHW":
        return image, channels, rows, columns
    return image, rows, columns, channels


def _reference_window(
    case: Case, input: NDArray[Any], filter: NDArray[Any], b: int, rows: slice, columns: slice
) -> NDArray[Any]:
    """Compute a window of the output from the part of the input that it sees."""
    in_rows, row_pads = _input_range(case.height, rows)
    in_columns, column_pads = _input_range(case.width, columns)
    pads = [[0, 0], row_pads, column_pads, [0, 0]]
    if case.data_format == "NCHW":
        pads = [[0, 0], [0, 0], row_pads, column_pads]
    part = input[_index(case, b, in_rows, in_columns)]
    return depthwise_conv2d_reference(
        part, filter, case.strides, pads, case.data_format, case.dilations
    )


def _input_range(axis: Axis, out: slice) -> tuple[slice, list[int]]:
    """Return the input range behind an output range, and the padding on its two sides."""
    start = out.start * axis.stride - axis.pads[0]
    stop = (out.stop - 1) * axis.stride - axis.pads[0] + axis.effective_filter
    inside = slice(max(start, 0), min(stop, axis.in_size))
    return inside, [inside.start - start, stop - inside.stop]
