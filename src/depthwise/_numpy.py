"""NumPy arrays and nested lists: the front end that needs no framework.

Takes what users pass, says what is wrong with it, and hands arrays of one supported dtype to
``_kernels``. Also judges what ``_dlpack`` has turned into NumPy arrays.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from . import _kernels
from ._geometry import (
    make_backprop_filter_geometry,
    make_backprop_input_geometry,
    make_geometry,
)
from ._native import BACKPROP_FILTER, BACKPROP_INPUT, FORWARD, remember_call

if TYPE_CHECKING:  # numpy.typing would take 3% of the import.
    from numpy.typing import NDArray

    Array = NDArray[Any]

# The codes of supported dtypes that were seen before, all in native byte order.
_codes: dict[np.dtype[Any], int] = {}


def trace_scope(name: str) -> AbstractContextManager[Any]:
    """Return a scope that shows `name` in traces: NumPy has none."""
    return nullcontext()


def depthwise_conv2d(
    input: Any, filter: Any, strides: Any, padding: Any, data_format: Any, dilations: Any
) -> Array:
    """Return the output."""
    input, filter, dtype, code = _as_arrays(input, filter, ("input", "filter"))
    geometry = make_geometry(input.shape, filter.shape, strides, padding, data_format, dilations)
    output = _kernels.forward(geometry, dtype, code, input, filter)
    options = (strides, padding, data_format, dilations)
    remember_call(FORWARD, input, filter, None, *options, geometry.native, code)
    return output


def depthwise_conv2d_backprop_input(
    input_sizes: Any,
    filter: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
) -> Array:
    """Return the gradient with respect to the input."""
    filter, out_backprop, dtype, code = _as_arrays(filter, out_backprop, ("filter", "out_backprop"))
    geometry = make_backprop_input_geometry(
        input_sizes, filter.shape, out_backprop.shape, strides, padding, data_format, dilations
    )
    gradient = _kernels.backprop_input(geometry, dtype, code, filter, out_backprop)
    options = (strides, padding, data_format, dilations)
    remember_call(
        BACKPROP_INPUT, filter, out_backprop, input_sizes, *options, geometry.native, code
    )
    return gradient


def depthwise_conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
) -> Array:
    """Return the gradient with respect to the filter."""
    input, out_backprop, dtype, code = _as_arrays(input, out_backprop, ("input", "out_backprop"))
    geometry = make_backprop_filter_geometry(
        input.shape, filter_sizes, out_backprop.shape, strides, padding, data_format, dilations
    )
    gradient = _kernels.backprop_filter(geometry, dtype, code, input, out_backprop)
    options = (strides, padding, data_format, dilations)
    remember_call(
        BACKPROP_FILTER, input, out_backprop, filter_sizes, *options, geometry.native, code
    )
    return gradient


def _as_arrays(
    first: Any, second: Any, arguments: tuple[str, str]
) -> tuple[Array, Array, np.dtype[Any], int]:
    """Return both arguments as arrays of one supported dtype, with that dtype and its code.

    Nested lists become float32; what is not in native byte order is copied.
    """
    if type(first) is ndarray and type(second) is ndarray:
        dtype = first.dtype
        if dtype is second.dtype and (code := _codes.get(dtype)) is not None:
            return first, second, dtype, code
    first = _as_array(first, arguments[0])
    second = _as_array(second, arguments[1])
    dtype, code = _dtype_and_code(first.dtype)
    if (dtype, code) != _dtype_and_code(second.dtype):
        raise TypeError(
            f"{arguments[1]} has dtype {second.dtype}, {arguments[0]} has {first.dtype}; needed "
            "the same dtype"
        )
    first, second = (
        _kernels.copied(array, dtype, argument)
        for array, argument in zip((first, second), arguments, strict=True)
    )
    return first, second, dtype, code


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


def _dtype_and_code(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], int]:
    """Return a supported dtype in native byte order and its code in the native module.

    bfloat16 is recognised by its name, so that ml_dtypes is only imported by those who use it.
    """
    # A structured dtype may be named like anything; a name is only trusted without fields.
    name = dtype.name if dtype.fields is None else "structured"
    code = _kernels.DTYPE_CODES.get(name)
    if code is None:
        raise TypeError(f"dtype {dtype}; needed float16, bfloat16, float32 or float64")
    if not dtype.isnative:
        dtype = dtype.newbyteorder("=")
    _codes[dtype] = code
    return dtype, code
