"""jax.Array and tracers: the native kernels as operations of XLA's programs.

Takes what ``_api`` and ``_gradients`` are called with, inside of any transformation of JAX or
outside. Judges it, and hands it to one of three operations, whose rules are in ``_jax_operation``.
On platforms other than the CPU, the convolution of XLA computes them: that is here, too.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._geometry import (
    Geometry,
    make_backprop_filter_geometry,
    make_backprop_input_geometry,
    make_geometry,
)
from ._jax_operation import Operation, define_derivatives

_DTYPES = frozenset(map(np.dtype, (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64)))


def trace_scope(name: str) -> AbstractContextManager[Any]:
    """Return a scope that shows `name` in the profile and in the program's metadata."""
    scope: AbstractContextManager[Any] = jax.named_scope(name)
    return scope


def depthwise_conv2d(
    input: Any, filter: Any, strides: Any, padding: Any, data_format: Any, dilations: Any
) -> Any:
    """Return the output."""
    _check(input, filter, ("input", "filter"))
    geometry = make_geometry(input.shape, filter.shape, strides, padding, data_format, dilations)
    return _FORWARD(input, filter, geometry)


def depthwise_conv2d_backprop_input(
    input_sizes: Any,
    filter: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
) -> Any:
    """Return the gradient with respect to the input."""
    _check(filter, out_backprop, ("filter", "out_backprop"))
    geometry = make_backprop_input_geometry(
        input_sizes, filter.shape, out_backprop.shape, strides, padding, data_format, dilations
    )
    return _BACKPROP_INPUT(filter, out_backprop, geometry)


def depthwise_conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
) -> Any:
    """Return the gradient with respect to the filter."""
    _check(input, out_backprop, ("input", "out_backprop"))
    geometry = make_backprop_filter_geometry(
        input.shape, filter_sizes, out_backprop.shape, strides, padding, data_format, dilations
    )
    return _BACKPROP_FILTER(input, out_backprop, geometry)


def _check(first: Any, second: Any, arguments: tuple[str, str]) -> None:
    """Raise TypeError unless both are arrays or tracers of one supported dtype."""
    for array, argument in zip((first, second), arguments, strict=True):
        if not isinstance(array, jax.Array):
            raise TypeError(
                f"{argument} is a {type(array).__module__}.{type(array).__qualname__}; needed a "
                "jax.Array"
            )
        if array.dtype not in _DTYPES:
            raise TypeError(
                f"{argument} has dtype {array.dtype}; needed float16, bfloat16, float32 or float64"
            )
    if first.dtype != second.dtype:
        raise TypeError(
            f"{arguments[1]} has dtype {second.dtype}, {arguments[0]} has {first.dtype}; needed "
            "the same dtype"
        )


def _convolve(input: Any, filter: Any, geometry: Geometry) -> Any:
    """Return the output by XLA's convolution. Unlike ours it multiplies padding by the filter."""
    padding = [
        (before, (out_size - 1) * stride + (filter_size - 1) * dilation + 1 - before - in_size)
        for in_size, filter_size, stride, dilation, before, out_size in (
            (
                geometry.in_height,
                geometry.filter_height,
                geometry.stride_height,
                geometry.dilation_height,
                geometry.pad_top,
                geometry.out_height,
            ),
            (
                geometry.in_width,
                geometry.filter_width,
                geometry.stride_width,
                geometry.dilation_width,
                geometry.pad_left,
                geometry.out_width,
            ),
        )
    ]
    return lax.conv_general_dilated(
        input,
        filter.reshape(geometry.filter_height, geometry.filter_width, 1, geometry.out_channels),
        window_strides=(geometry.stride_height, geometry.stride_width),
        padding=padding,
        rhs_dilation=(geometry.dilation_height, geometry.dilation_width),
        dimension_numbers=(geometry.data_format, "HWIO", geometry.data_format),
        feature_group_count=geometry.in_channels,
        # GPUs would round float32 to TensorFloat-32.
        precision=lax.Precision.HIGHEST,
    )


def _convolve_backprop_input(filter: Any, out_backprop: Any, geometry: Geometry) -> Any:
    input = jax.ShapeDtypeStruct(geometry.input_shape, filter.dtype)
    transposed = jax.linear_transpose(lambda input: _convolve(input, filter, geometry), input)
    return transposed(out_backprop)[0]


def _convolve_backprop_filter(input: Any, out_backprop: Any, geometry: Geometry) -> Any:
    filter = jax.ShapeDtypeStruct(geometry.filter_shape, input.dtype)
    transposed = jax.linear_transpose(lambda filter: _convolve(input, filter, geometry), filter)
    return transposed(out_backprop)[0]


_FORWARD = Operation("forward", ("input", "filter"), "output", _convolve)
_BACKPROP_INPUT = Operation(
    "backprop_input", ("filter", "output"), "input", _convolve_backprop_input
)
_BACKPROP_FILTER = Operation(
    "backprop_filter", ("input", "output"), "filter", _convolve_backprop_filter
)
OPERATIONS = (_FORWARD, _BACKPROP_INPUT, _BACKPROP_FILTER)
define_derivatives(OPERATIONS)
