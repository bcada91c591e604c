"""The native kernels on NumPy arrays of a solved problem: where ``_numpy`` ends, and ``_dlpack``.

PyTorch takes its results, its dtype codes and its geometries from here too, but calls the kernels
by address (``_torch_ops``). JAX has XLA call them (``_jax_operation``).

Requirements that shaped this file:
- any memory layout is accepted; what the kernels cannot read in place is copied here;
- inputs are never modified and never outlive the call;
- a call on a tiny image costs microseconds: each line was timed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _native
from ._geometry import Geometry

if TYPE_CHECKING:  # numpy.typing would take 3% of the import.
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]

# The codes of enum class DType in native/kernels.h.
DTYPE_CODES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}


def forward(
    geometry: Geometry,
    dtype: np.dtype[Any],
    code: int,
    input: Array,
    filter: Array,
    bias: Array | None = None,
) -> Array:
    """Return the output, plus ``bias[k*channel_multiplier + q]`` if there is a bias.

    All arrays are of `dtype`, in native byte order, and `code` says what its bits mean: one of the
    16-bit types may be seen as integers. The same goes for the other two functions.
    """
    output = empty_result(geometry.output_shape, dtype, "input or padding", (geometry, code, input))
    try:
        _native.forward(geometry.native, code, input, filter, output, bias)
    except BufferError:
        input, filter = copied(input, dtype, "input"), copied(filter, dtype, "filter")
        _native.forward(geometry.native, code, input, filter, output, bias)
    return output


def backprop_input(
    geometry: Geometry, dtype: np.dtype[Any], code: int, filter: Array, out_backprop: Array
) -> Array:
    """Return the gradient with respect to the input."""
    input_backprop = empty_result(
        geometry.input_shape, dtype, "input_sizes", (geometry, code, out_backprop), True
    )
    try:
        _native.backprop_input(geometry.native, code, filter, out_backprop, input_backprop)
    except BufferError:
        filter = copied(filter, dtype, "filter")
        out_backprop = copied(out_backprop, dtype, "out_backprop")
        _native.backprop_input(geometry.native, code, filter, out_backprop, input_backprop)
    return input_backprop


def backprop_filter(
    geometry: Geometry, dtype: np.dtype[Any], code: int, input: Array, out_backprop: Array
) -> Array:
    """Return the gradient with respect to the filter."""
    filter_backprop = empty_result(geometry.filter_shape, dtype, "filter_sizes")
    try:
        _native.backprop_filter(geometry.native, code, input, out_backprop, filter_backprop)
    except BufferError:
        input = copied(input, dtype, "input")
        out_backprop = copied(out_backprop, dtype, "out_backprop")
        _native.backprop_filter(geometry.native, code, input, out_backprop, filter_backprop)
    return filter_backprop


def copied(array: Array, dtype: np.dtype[Any], argument: str) -> Array:
    """Return `array` if the kernels can read it in place, else a copy that they can.

    That is one of `dtype` that is aligned. Filters have to be C-contiguous, too.
    """
    is_filter = argument == "filter"
    flags = array.flags
    if array.dtype == dtype and flags.aligned and (flags.c_contiguous or not is_filter):
        return array
    try:
        return array.astype(dtype, "C" if is_filter else "K")
    except MemoryError:
        raise MemoryError(
            f"{argument} of shape {array.shape} has to be copied, which does not fit in memory"
        ) from None


def empty_result(
    shape: tuple[int, int, int, int],
    dtype: np.dtype[Any],
    causes: str,
    problem: tuple[Geometry, int, Array] | None = None,
    is_gradient: bool = False,
) -> Array:
    """Return a new C-contiguous array; large ones lie in memory that is reused.

    `causes` are the arguments to blame for a shape that is too large. Large arrays are aligned, or
    of a `problem`, its geometry, the code of its type and the image that the result is computed
    from, as far from it as that one: then the kernels read and write whole lines (VectorsOf in
    native/direct_plan.h), and 14x14x512 3x3 with stride 2 takes 9 instead of 12 us.
    """
    try:
        image = None
        if problem is not None and problem[0].data_format == "NHWC":
            geometry, code, computed_from = problem
            if _native.aligns_with_input(geometry.native, code, is_gradient):
                image = computed_from
        array: Array = _native.empty(shape, dtype, image)
        return array
    # NumPy's, that of a size which is no 64-bit integer, that of one which is no float.
    except (ValueError, TypeError, OverflowError):
        raise ValueError(
            f"the result would have shape {shape}, more than an array can hold; needed a smaller "
            f"{causes}"
        ) from None
    except MemoryError:
        raise MemoryError(
            f"the result, of shape {shape} and dtype {dtype}, does not fit in memory"
        ) from None
