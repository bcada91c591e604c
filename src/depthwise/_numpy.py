"""NumPy arrays in and out of the native kernels, which nothing else calls.

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
from numpy import empty, ndarray

from . import _native
from ._geometry import Geometry

if TYPE_CHECKING:  # numpy.typing would take 3% of the import.
    from numpy.typing import NDArray

    Array = NDArray[Any]

# From this output size on the alignment of a block of its own is worth the microsecond it costs.
_REUSED_BYTES = 128 * 1024

# Results below this size are not stored past the caches, which asks for whole cache lines.
_CACHED_BYTES = 8 * 1024 * 1024

# The codes of enum class DType in native/kernels.h.
_DTYPE_CODES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}


def as_arrays(first: Any, second: Any, arguments: tuple[str, str]) -> tuple[Array, Array]:
    """Return both arguments as arrays of one supported dtype; nested lists become float32."""
    if type(first) is ndarray and type(second) is ndarray:
        dtype = first.dtype
        if dtype is second.dtype:
            try:
                _dtype_and_code(dtype)
            except TypeError as error:
                raise TypeError(f"{arguments[0]} and {arguments[1]} have {error}") from None
            return first, second
    first = _as_array(first, arguments[0])
    second = _as_array(second, arguments[1])
    if _dtype_and_code(first.dtype) != _dtype_and_code(second.dtype):
        raise TypeError(
            f"{arguments[1]} has dtype {second.dtype}, {arguments[0]} has {first.dtype}; needed "
            "the same dtype"
        )
    return first, second


def depthwise_conv2d(input: Array, filter: Array, geometry: Geometry) -> Array:
    """Return the output."""
    return _compute(
        _native.forward,
        geometry,
        input,
        filter,
        ("input", "filter"),
        geometry.output_shape,
        "input or padding",
        image=input,
    )


def backprop_input(filter: Array, out_backprop: Array, geometry: Geometry) -> Array:
    """Return the gradient with respect to the input."""
    return _compute(
        _native.backprop_input,
        geometry,
        filter,
        out_backprop,
        ("filter", "out_backprop"),
        geometry.input_shape,
        "input_sizes",
        image=out_backprop,
    )


def backprop_filter(input: Array, out_backprop: Array, geometry: Geometry) -> Array:
    """Return the gradient with respect to the filter."""
    return _compute(
        _native.backprop_filter,
        geometry,
        input,
        out_backprop,
        ("input", "out_backprop"),
        geometry.filter_shape,
        "filter_sizes",
    )


def _compute(
    kernel: Callable[[_native.Geometry, int, Array, Array, Array], None],
    geometry: Geometry,
    first: Array,
    second: Array,
    arguments: tuple[str, str],
    shape: tuple[int, int, int, int],
    causes: str,
    image: Array | None = None,
) -> Array:
    """Return the kernel's result, C-contiguous, of the arguments' dtype in native byte order.

    `causes` are the arguments to blame for a shape that is too large; `image` is the argument that
    becomes another image.
    """
    dtype, code = _dtype_and_code(first.dtype)
    result = _empty(shape, dtype, causes, image if geometry.data_format == "NHWC" else None)
    if not result.size:
        return result
    # This is so for ordinary arrays, and sooner found out than what is asked for of the others.
    if first.dtype is not dtype or not first.flags.carray:
        first = _readable(first, dtype, arguments[0])
    if second.dtype is not dtype or not second.flags.carray:
        second = _readable(second, dtype, arguments[1])
    native_geometry = _lower(geometry)
    if dtype.itemsize == 2:  # As integers: not every buffer protocol knows these types.
        as_integers = (array.view(np.uint16) for array in (first, second, result))
        kernel(native_geometry, code, *as_integers)
    else:
        kernel(native_geometry, code, first, second, result)
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


def _as_array(value: Any, argument: str) -> Array:
    """Return `value` as an array of a supported dtype, without a copy if it is an array."""
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{argument} is a masked array; needed one without a mask")
        try:
            _dtype_and_code(value.dtype)
        except TypeError as error:
            raise TypeError(f"{argument} has {error}") from None
        return value
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            f"{argument} is a {type(value).__module__}.{type(value).__qualname__}; needed a "
            "numpy.ndarray or nested lists of numbers"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{argument} is not a regular nested list of numbers: {error}") from None
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{argument} is a nested list of {array.dtype}; needed real numbers")
    with np.errstate(over="ignore"):  # 1e300 becomes infinity, as float32 has it
        return array.astype(np.float32)


@lru_cache(maxsize=64)
def _dtype_and_code(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], int]:
    """Return a supported dtype in native byte order and its code in the native module.

    bfloat16 is recognised by its name, so that ml_dtypes is only imported by those who use it.
    """
    # A structured dtype may be named like anything; a name is only trusted without fields.
    name = dtype.name if dtype.fields is None else "structured"
    if name not in _DTYPE_CODES:
        raise TypeError(f"dtype {dtype}; needed float16, bfloat16, float32 or float64")
    return dtype if dtype.isnative else dtype.newbyteorder("="), _DTYPE_CODES[name]


@lru_cache(maxsize=1024)
def _lower(geometry: Geometry) -> _native.Geometry:
    """Return the native twin of `geometry`."""
    return _native.Geometry(
        batch=geometry.batch,
        in_height=geometry.in_height,
        in_width=geometry.in_width,
        in_channels=geometry.in_channels,
        filter_height=geometry.filter_height,
        filter_width=geometry.filter_width,
        channel_multiplier=geometry.channel_multiplier,
        stride_height=geometry.stride_height,
        stride_width=geometry.stride_width,
        dilation_height=geometry.dilation_height,
        dilation_width=geometry.dilation_width,
        pad_top=geometry.pad_top,
        pad_left=geometry.pad_left,
        out_height=geometry.out_height,
        out_width=geometry.out_width,
        channels_last=geometry.data_format == "NHWC",
    )


def _empty(
    shape: tuple[int, int, int, int], dtype: np.dtype[Any], causes: str, image: Array | None
) -> Array:
    """Return a new C-contiguous array; large ones lie in memory that is reused.

    They are aligned, or as far from it as the NHWC image that they are computed from.
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

    Where columns are a multiple of 1 KiB apart they share sets of the cache, and the kernels then
    read and write whole lines if both arrays are equally far (native/direct.h): 14x14x512 3x3 takes
    26 instead of 33 us.
    """
    if image.strides[2] % 1024 or image.strides[3] != image.itemsize:
        return 0
    offset: int = image.ctypes.data % 64
    return offset if offset % image.itemsize == 0 else 0
