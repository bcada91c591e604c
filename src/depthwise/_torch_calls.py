"""Calls that PyTorch need not see, with as little Python code as there can be.

Every function and attribute of PyTorch is memory for the CPU to fetch, where other layers have
overwritten its caches since the last call: as in any model. There a layer that Python code leads to
the kernels takes 97 us besides them, and 60 if the native code does (Xeon, family 6, model 167;
PyTorch's own layer takes 215 with its kernel). ``native/tensor_calls.cc`` reads tensors by DLPack's
C interface, which PyTorch has from 2.10 on; for older ones all here returns None.

``depthwise.torch`` and ``_torch_layers`` ask this first, and go their own way after a None: where
somebody looks or wants gradients, and for whatever is unusual or wrong.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from . import _native
from ._geometry import Geometry, check_out_backprop, normalize_options, normalize_sizes
from ._native import BACKPROP_INPUT, FORWARD
from ._torch_observers import OBSERVERS
from ._torch_ops import as_nhwc, layer_options, make_options, solve


def _connect() -> bool:
    exchange = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    if exchange is None:
        return False
    return _native.connect_tensors(
        exchange, Tensor, Parameter, OBSERVERS, torch.is_grad_enabled, forward_ad
    )


IS_CONNECTED = _connect()


def call(operation: int, first: Any, second: Any, sizes: Any, *options: Any) -> Tensor | None:
    """Return the result of a public function, or None.

    `first` and `second` are its tensors in the order of its parameters, `sizes` are input_sizes or
    filter_sizes if it has any, and `options` are strides, padding, data_format and dilations.
    """
    if torch.compiler.is_compiling():
        return None
    if type(sizes) is torch.Size:
        sizes = tuple(sizes)
    result: Tensor | None = _native.call_with_tensors(
        operation, first, second, sizes, *options, _solve_call
    )
    return result


def call_layer(layer: Any, input: Any, weight: Any, bias: Any) -> Tensor | None:
    """Return the output of a layer with a group for each channel, or None."""
    if torch.compiler.is_compiling():
        return None
    output: Tensor | None = _native.call_layer(
        input,
        weight,
        bias,
        layer.in_channels,
        layer.stride,
        layer.padding,
        layer.dilation,
        _solve_layer,
    )
    return output


def _solve_call(
    operation: int,
    first: Tensor,
    second: Tensor,
    sizes: Any,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
    is_channels_last: bool,
) -> _native.Geometry:
    """Return the geometry of a call that is not like an earlier one; raise if it is wrong."""
    options = make_options(*normalize_options(strides, padding, data_format, dilations))
    if operation == FORWARD:
        return _native_of(solve(first.shape, second.shape, *options), is_channels_last)
    if operation == BACKPROP_INPUT:
        geometry = solve(normalize_sizes(sizes, "input_sizes", least=0), first.shape, *options)
    else:
        geometry = solve(first.shape, normalize_sizes(sizes, "filter_sizes", least=1), *options)
    check_out_backprop(geometry, tuple(second.shape))
    return _native_of(geometry, is_channels_last)


def _solve_layer(
    input: Tensor,
    weight: Tensor,
    in_channels: int,
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
    is_channels_last: bool,
) -> _native.Geometry:
    """Return the geometry of a layer that is not like an earlier one; raise if it is wrong."""
    filter_shape = layer_filter_shape(weight.shape, in_channels)
    geometry = solve(input.shape, filter_shape, *layer_options(stride, padding, dilation))
    return _native_of(geometry, is_channels_last)


def layer_filter_shape(weight_shape: torch.Size, in_channels: int) -> tuple[int, int, int, int]:
    """Return the shape of a layer's parameter, seen as a filter."""
    out_channels, ones, height, width = weight_shape
    if ones != 1 or out_channels % in_channels:
        raise ValueError(f"weight has shape {tuple(weight_shape)}, with {in_channels} channels")
    return height, width, in_channels, out_channels // in_channels


def _native_of(geometry: Geometry, is_channels_last: bool) -> _native.Geometry:
    return (as_nhwc(geometry) if is_channels_last else geometry).native
