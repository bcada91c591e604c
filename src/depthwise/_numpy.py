"""NumPy arrays in and out of the native kernels, which nothing else calls.

Requirements that shaped this file:
- any memory layout is accepted; what the kernels cannot read in place (byte order, alignment) is
  copied here;
- inputs are never modified and never outlive the call;
- a call on a tiny image costs microseconds: each line of ``depthwise_conv2d`` was timed.
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from . import _native
from ._geometry import Geometry

if TYPE_CHECKING:  # numpy.typing would take 3% of the import.
    from numpy.typing import NDArray

    Array = NDArray[Any]

# From this output size on the alignment of a block of its own is worth the microsecond it costs.
_REUSED_BYTES = 256 * 1024

# The codes of enum class DType in native/kernels.h.
_DTYPE_CODES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}


def as_arrays(input: Any, filter: Any) -> tuple[Array, Array]:
    """Return both as arrays of one supported dtype; nested lists become float32."""
    if type(input) is ndarray and type(filter) is ndarray and input.dtype is filter.dtype:
        try:
            _dtype_and_code(input.dtype)
        except TypeError as error:
            raise TypeError(f"input and filter have {error}") from None
        return input, filter
    input = _as_array(input, "input")
    filter = _as_array(filter, "filter")
    if _dtype_and_code(input.dtype) != _dtype_and_code(filter.dtype):
        raise TypeError(
            f"filter has dtype {filter.dtype}, input has {input.dtype}; needed the same dtype"
        )
    return input, filter


def depthwise_conv2d(input: Array, filter: Array, geometry: Geometry) -> Array:
    """Compute the output, C-contiguous, of the dtype of `input` in native byte order."""
    native_geometry, output_shape, output_size = _lower(geometry)
    dtype, code = _dtype_and_code(input.dtype)
    output = _empty(output_shape, output_size, dtype)
    if output_size == 0:
        return output
    if input.dtype != dtype or not input.flags.aligned:
        input = input.astype(dtype)
    if filter.dtype != dtype or not filter.flags.aligned:
        filter = filter.astype(dtype)
    filter = np.ascontiguousarray(filter)
    if dtype.itemsize == 2:  # As integers: not every buffer protocol knows these types.
        _native.forward(
            native_geometry,
            code,
            input.view(np.uint16),
            filter.view(np.uint16),
            output.view(np.uint16),
        )
    else:
        _native.forward(native_geometry, code, input, filter, output)
    return output


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
def _lower(geometry: Geometry) -> tuple[_native.Geometry, tuple[int, int, int, int], int]:
    """Return the native twin of `geometry`, the output's shape and its number of elements."""
    native_geometry = _native.Geometry(
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
    return native_geometry, geometry.output_shape, math.prod(geometry.output_shape)


def _empty(shape: tuple[int, ...], size: int, dtype: np.dtype[Any]) -> Array:
    """Return a new C-contiguous array; large ones lie in aligned memory that is reused."""
    byte_count = size * dtype.itemsize
    try:
        if byte_count < _REUSED_BYTES:
            return np.empty(shape, dtype)
        if byte_count <= sys.maxsize:
            return np.ndarray(shape, dtype, buffer=memoryview(_native.OutputMemory(byte_count)))
    except ValueError:
        pass  # No bytes, but other sizes that are too large to multiply.
    except MemoryError:
        raise MemoryError(
            f"output of shape {shape} and dtype {dtype} does not fit in memory"
        ) from None
    raise ValueError(
        f"output would have shape {shape}, more than an array can hold; needed a smaller input or "
        "padding"
    )
