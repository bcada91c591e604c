"""Arrays for a case, and the check that an answer is right before anyone times it.

Small signed integers make every sum exact in every dtype that has room for it and in every order
of summation, so a right answer is off by rounding at most and a wrong one by a whole number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import FILTER_GRADIENT, FORWARD, Axis, Case
from depthwise import _reference

# Larger than the widest register tile, so that every window holds a seam between two tiles.
_WINDOW = 16

_LARGEST_VALUE = {"input": 4, "filter": 2, "out_backprop": 2}

# A part of an answer: its place and its right values.
Part = tuple[tuple[slice, ...], NDArray[np.float64]]


def make_arrays(case: Case) -> dict[str, NDArray[Any]]:
    """Return what the case is given, named like its shapes.

    NumPy allocates the arrays as it does for anybody: 16-byte aligned.
    """
    random = np.random.default_rng(0)
    dtype = np.dtype(ml_dtypes.bfloat16 if case.dtype == "bfloat16" else case.dtype)
    arrays = {}
    for name, shape in case.shapes.items():
        if name != case.answer:
            largest = _LARGEST_VALUE[name]
            array = random.integers(-largest, largest + 1, shape, np.int8)
            if name == "filter" and case.same_filter:
                array[...] = array[:, :, :1]
            arrays[name] = array.astype(dtype)
    return arrays


def right_parts(case: Case, arrays: Mapping[str, NDArray[Any]]) -> list[Part]:
    """Compute what an answer is to be compared with.

    The float64 reference is too slow for whole images, so it computes windows at the corners,
    the edges and the centre, of the first and the last image. A filter's gradient is small.
    """
    if case.operation == FILTER_GRADIENT:
        pads = case.height.pads, case.width.pads
        return [((slice(None),) * len(case.answer_shape), _reference_answer(case, arrays, pads))]
    axes = case.height, case.width
    sizes = [axis.out_size if case.operation == FORWARD else axis.in_size for axis in axes]
    images = [slice(b, b + 1) for b in sorted({0, case.batch - 1})]
    return [
        (_index(case, *window), _reference_window(case, arrays, *window))
        for window in product(images, *map(_windows, sizes))
    ]


def find_error(case: Case, parts: Iterable[Part], answer: NDArray[Any]) -> str | None:
    """Say what is wrong with an answer, or return None if the given parts of it are right."""
    if answer.shape != case.answer_shape:
        return f"shape {answer.shape}, not {case.answer_shape}"
    # Half precision rounds sums that need more bits than it has; transforms leave a residue.
    eps = float(ml_dtypes.finfo(case.dtype).eps)
    for index, wanted in parts:
        got = answer[index].astype(np.float64)
        wrong = ~(np.abs(got - wanted) <= 0.25 + eps * np.abs(wanted))
        if wrong.any():
            inside = tuple(np.argwhere(wrong)[0])
            where = [int(i) + (part.start or 0) for i, part in zip(inside, index, strict=True)]
            return f"{got[inside]:g} instead of {wanted[inside]:g} at {where}"
    return None


def _windows(size: int) -> list[slice]:
    """Ranges at the start, middle and end of an axis."""
    window = min(_WINDOW, size)
    last = size - window
    return [slice(start, start + window) for start in sorted({0, last // 2, last})]


def _index(case: Case, image: slice, rows: slice, columns: slice) -> tuple[slice, ...]:
    """Index of a window, all channels of it, in an array ordered by ``data_format``."""
    if case.data_format == "NCHW":
        return image, slice(None), rows, columns
    return image, rows, columns, slice(None)


def _reference_window(
    case: Case, arrays: Mapping[str, NDArray[Any]], image: slice, rows: slice, columns: slice
) -> NDArray[np.float64]:
    """Compute a window of an output or of an input's gradient from what it depends on."""
    source, source_range = "input", _input_range
    if case.operation != FORWARD:
        source, source_range = "out_backprop", _output_range
    source_rows, row_pads = source_range(case.height, rows)
    source_columns, column_pads = source_range(case.width, columns)
    part = arrays[source][_index(case, image, source_rows, source_columns)]
    # Only a gradient looks at these sizes, for that of its answer.
    sizes = {"in_height": rows.stop - rows.start, "in_width": columns.stop - columns.start}
    window = replace(case, batch=1, **sizes)
    return _reference_answer(window, {**arrays, source: part}, (row_pads, column_pads))


def _reference_answer(
    case: Case, arrays: Mapping[str, NDArray[Any]], pads: Sequence[tuple[int, int]]
) -> NDArray[np.float64]:
    """Call the reference of the case's function, with padding of its own."""
    padding = [[0, 0], *map(list, pads), [0, 0]]
    if case.data_format == "NCHW":
        padding = [[0, 0], [0, 0], *map(list, pads)]
    answer: NDArray[np.float64] = getattr(_reference, f"{case.function}_reference")(
        *case.arguments(arrays), case.strides, padding, case.data_format, case.dilations
    )
    return answer


def _input_range(axis: Axis, window: slice) -> tuple[slice, tuple[int, int]]:
    """Return the input range behind an output range, and the padding on its two sides."""
    start = window.start * axis.stride - axis.pads[0]
    stop = (window.stop - 1) * axis.stride - axis.pads[0] + axis.effective_filter
    inside = slice(max(start, 0), min(stop, axis.in_size))
    return inside, (inside.start - start, stop - inside.stop)


def _output_range(axis: Axis, window: slice) -> tuple[slice, tuple[int, int]]:
    """Return the outputs that read an input range, and what pads the range to give just them."""
    before = axis.pads[0]
    start = max((window.start + before - axis.effective_filter + 1) // axis.stride, 0)
    stop = min((window.stop - 1 + before) // axis.stride + 1, axis.out_size)
    first = start * axis.stride - before
    end = (stop - 1) * axis.stride - before + axis.effective_filter
    return slice(start, stop), (window.start - first, max(end - window.stop, 0))
