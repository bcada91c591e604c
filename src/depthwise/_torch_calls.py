"""Calls that PyTorch need not see, with as little Python code as there can be.

Every function and attribute of PyTorch is memory for the CPU to fetch, where other layers have
overwritten its caches since the last call: as in any model. ``native/tensor_calls.cc`` reads and
makes tensors by DLPack's C interface instead, which PyTorch has from 2.10 on. With an older one, or
one that still has named tensors, of whose names the interface does not tell, all here returns None.

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
from ._torch_observers import TRANSFORMERS, WATCHERS
from ._torch_ops import as_nhwc, layer_options, make_options, solve


def _connect() -> bool:
    exchange = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    if exchange is None or hasattr(Tensor, "has_names"):
        return False
    return _native.connect_tensors(
        exchange, Tensor, Parameter, TRANSFORMERS, WATCHERS, torch.is_grad_enabled, forward_ad
    )


IS_CONNECTED = _connect()
"""Whether anything here returns more than None."""


def call(
    operation: int,
    first: Any,
    second: Any,
    sizes: Any,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
) -> Tensor | None:
    """Return the result of a public function, or None.

    `first` and `second` are its tensors in the order of its parameters, `sizes` are input_sizes or
    filter_sizes if it has any.
    """
    if torch.compiler.is_compiling():
        return None
    if type(sizes) is torch.Size:
        sizes = tuple(sizes)
    result: Tensor | None = _native.call_with_tensors(
        operation, first, second, sizes, strides, padding, data_format, dilations, _solve
    )
    return result


def call_layer(
    operation: int, input: Any, weight: Any, other: Any, options: tuple[Any, ...]
) -> Any:
    """Return the output of a layer with a group for each channel, or a gradient, or None.

    `other` is the bias or out_backprop, and `options` are in_channels, stride, padding and
    dilation. An output of which PyTorch wants gradients is not computed; then return True.
    """
    if torch.compiler.is_compiling():
        return None
    in_channels, stride, padding, dilation = options
    return _native.call_layer(
        operation, input, weight, other, in_channels, stride, padding, dilation, _solve_layer
    )


def _solve(
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
    operation: int,
    input: Tensor,
    weight: Tensor,
    other: Tensor | None,
    in_channels: int,
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
    is_channels_last: bool,
) -> _native.Geometry:
    """Do the same for a layer."""
    out_channels, ones, height, width = weight.shape
    if ones != 1 or out_channels % in_channels:
        raise ValueError("the weight is not that of a layer with a group for each channel")
    filter_shape = (height, width, in_channels, out_channels // in_channels)
    geometry = solve(input.shape, filter_shape, *layer_options(stride, padding, dilation))
    if operation != FORWARD and other is not None:
        check_out_backprop(geometry, tuple(other.shape))
    return _native_of(geometry, is_channels_last)


def _native_of(geometry: Geometry, is_channels_last: bool) -> _native.Geometry:
    return (as_nhwc(geometry) if is_channels_last else geometry).native
