"""The native kernels on NumPy arrays of a solved problem: where ``_numpy`` ends, and ``_dlpack``.

PyTorch takes its results, its dtype codes and its geometries from here too, but calls the kernels
by address (``_torch_ops``). JAX has XLA call them (``_jax_operation``).

Requirements that shaped this file:
- any memory layout is accepted; what the kernels cannot read in place (byte order, alignment) is
  copied here;
- inputs are never modified and never outlive the call;
- a call on a tiny image costs microseconds: each line of ``_compute`` was timed;
- the three functions differ in which arrays they take, and in nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import empty

from . import _native
from ._geometry import Geometry

if TYPE_CHECKING:  # numpy.typing would take 3% of the import.
    from numpy.typing import NDArray

    Array = NDArray[Any]

# From this size of a pixel on native/direct.h peels channels.
_PEELED_BYTES = 768
# From this output size on the alignment of a block of its own is worth the microsecond it costs.
_REUSED_BYTES = 128 * 1024

# Results below this size are not stored past the caches, which asks for whole cache lines.
_CACHED_BYTES = 8 * 1024 * 1024

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

    `dtype` is that of the result, in native byte order, and `code` says what its bits mean: one of
    the 16-bit types may be seen as integers. The same goes for the other two functions.
    """
    return _compute(
        _native.forward,
        geometry,
        dtype,
        code,
        input,
        filter,
        ("input", "filter"),
        geometry.output_shape,
        "input or padding",
        input,
        bias,
    )


def backprop_input(
    geometry: Geometry, dtype: np.dtype[Any], code: int, filter: Array, out_backprop: Array
) -> Array:
    """Return the gradient with respect to the input."""
    return _compute(
        _native.backprop_input,
        geometry,
        dtype,
        code,
        filter,
        out_backprop,
        ("filter", "out_backprop"),
        geometry.input_shape,
        "input_sizes",
        out_backprop,
    )


def backprop_filter(
    geometry: Geometry, dtype: np.dtype[Any], code: int, input: Array, out_backprop: Array
) -> Array:
    """Return the gradient with respect to the filter."""
    return _compute(
        _native.backprop_filter,
        geometry,
        dtype,
        code,
        input,
        out_backprop,
        ("input", "out_backprop"),
        geometry.filter_shape,
        "filter_sizes",
    )


def _compute(
    kernel: Callable[..., None],
    geometry: Geometry,
    dtype: np.dtype[Any],
    code: int,
    first: Array,
    second: Array,
    arguments: tuple[str, str],
    shape: tuple[int, int, int, int],
    causes: str,
    image: Array | None = None,
    bias: Array | None = None,
) -> Array:
    """Return the kernel's result, C-contiguous, of `dtype`.

    `causes` are the arguments to blame for a shape that is too large; `image` is the argument that
    becomes another image.
    """
    result = empty_result(shape, dtype, causes, image if geometry.data_format == "NHWC" else None)
    if not result.size:
        return result
    # This is so for ordinary arrays, and sooner found out than what is asked for of the others.
    if first.dtype is not dtype or not first.flags.carray:
        first = _readable(first, dtype, arguments[0])
    if second.dtype is not dtype or not second.flags.carray:
        second = _readable(second, dtype, arguments[1])
    if bias is None and dtype.itemsize != 2:
        kernel(lower(geometry), code, first, second, result)
        return result
    arrays = [first, second, result] if bias is None else [first, second, result, bias]
    if dtype.itemsize == 2:  # As integers: not every buffer protocol knows these types.
        arrays = [array.view(np.uint16) for array in arrays]
    kernel(lower(geometry), code, *arrays)
    return result


def _readable(array: Array, dtype: np.dtype[Any], argument: str) -> Array:
    """Return `array` if the kernels can read it in place, else a copy that they can.

    That is one that is aligned and in native byte order. Filters have to be C-contiguous, too.
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


@lru_cache(maxsize=1024)
def lower(geometry: Geometry) -> _native.Geometry:
    """Return the native twin of `geometry`."""
    return _native.Geometry(*geometry.fields)


def empty_result(
    shape: tuple[int, int, int, int], dtype: np.dtype[Any], causes: str, image: Array | None
) -> Array:
    """Return a new C-contiguous array; large ones lie in memory that is reused.

    `causes` are the arguments to blame for a shape that is too large. Large arrays are aligned, or
    as far from it as the NHWC `image` that they are computed from.
    """
    a, b, c, d = shape
    byte_count = a * b * c * d * dtype.itemsize  # math.prod() takes twice as long
    try:
        if byte_count < _REUSED_BYTES:
            return empty(shape, dtype)
        if byte_count <= sys.maxsize:
            offset = 0 if image is None or byte_count > _CACHED_BYTES else _line_offset(image)
            memory = memoryview(_native.OutputMemory(byte_count + offset))
            return np.ndarray(shape, dtype, memory, offset)
    except ValueError:
        pass  # No bytes, but other sizes that are too large to multiply.
    except MemoryError:
        raise MemoryError(
            f"the result, of shape {shape} and dtype {dtype}, does not fit in memory"
        ) from None
    raise ValueError(
        f"the result would have shape {shape}, more than an array can hold; needed a smaller "
        f"{causes}"
    )


def _line_offset(image: Array) -> int:
    """Return how far a result should be from the start of a cache line, in bytes.

    If both arrays are equally far, the kernels read and write whole lines of large pixels
    (PeeledChannels in native/direct.h): 14x14x512 3x3 with stride 2 takes 9 instead of 12 us.
    """
    pixel = image.strides[2]
    if pixel % 64 or pixel < _PEELED_BYTES or image.strides[3] != image.itemsize:
        return 0
    offset: int = image.ctypes.data % 64
    return offset if offset % image.itemsize == 0 else 0
