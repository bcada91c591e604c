"""The operators of ``_torch_ops`` under ``torch.func.vmap``.

The mapped axis becomes part of the batch if the filter is the same for all of it, else part of the
channels, before those of each image. ``_torch_autograd`` has the rules for its functions, which are
asked before the operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ._torch_ops import (
    BACKPROP_FILTER,
    BACKPROP_INPUT,
    CONV2D,
    GRAPH_BACKPROP_FILTER,
    GRAPH_BACKPROP_INPUT,
    GRAPH_CONV2D,
    LIBRARY,
    Options,
)


def _channel_axis(options: Sequence[Any]) -> int:
    return 1 if options[3] == "NCHW" else 3


def _fold(tensor: Tensor, dim: int | None, size: int, axis: int) -> Tensor:
    """Make the mapped axis `dim` part of `axis`; a tensor without it is repeated."""
    tensor = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return tensor.movedim(0, axis).flatten(axis, axis + 1)


def _unfold(tensor: Tensor, size: int, axis: int) -> tuple[Tensor, int]:
    """Undo _fold(); returns the tensor and where the mapped axis is."""
    return tensor.unflatten(axis, (size, tensor.shape[axis] // size)), axis


def _times(sizes: Sequence[int], size: int, axis: int) -> list[int]:
    """Return `sizes` with as much more along `axis`."""
    return [n * size if i == axis else n for i, n in enumerate(sizes)]


def conv2d_vmap(compute: Callable[..., Tensor], info: Any, in_dims: Any, *args: Any) -> Any:
    input, filter, bias, options = args
    input_dim, filter_dim, bias_dim = in_dims[:3]
    size = info.batch_size
    axis = 0
    if filter_dim is not None or bias_dim is not None:
        axis = _channel_axis(options)
        filter = _fold(filter, filter_dim, size, 2)
        bias = None if bias is None else _fold(bias, bias_dim, size, 0)
    return _unfold(compute(_fold(input, input_dim, size, axis), filter, bias, options), size, axis)


def backprop_input_vmap(compute: Callable[..., Tensor], info: Any, in_dims: Any, *args: Any) -> Any:
    input_sizes, filter, out_backprop, options = args
    _, filter_dim, out_dim = in_dims[:3]
    size = info.batch_size
    axis = 0
    if filter_dim is not None:
        axis = _channel_axis(options)
        filter = _fold(filter, filter_dim, size, 2)
    out_backprop = _fold(out_backprop, out_dim, size, axis)
    gradient = compute(_times(input_sizes, size, axis), filter, out_backprop, options)
    return _unfold(gradient, size, axis)


def backprop_filter_vmap(
    compute: Callable[..., Tensor], info: Any, in_dims: Any, *args: Any
) -> Any:
    input, filter_sizes, out_backprop, options = args
    size = info.batch_size
    axis = _channel_axis(options)
    input = _fold(input, in_dims[0], size, axis)
    out_backprop = _fold(out_backprop, in_dims[2], size, axis)
    return _unfold(compute(input, _times(filter_sizes, size, 2), out_backprop, options), size, 2)


def _register_vmap(operator: Any, rule: Callable[..., Any]) -> None:
    """Map an operator. Autograd's functions have the rule too, and are asked before it."""

    def compute(first: Any, second: Any, third: Any, options: Options) -> Tensor:
        result: Tensor = operator(first, second, third, *options)
        return result

    def apply_rule(info: Any, in_dims: Any, *args: Any) -> Any:
        return rule(compute, info, in_dims, *args[:3], args[3:])

    if hasattr(torch.library, "register_vmap"):  # from PyTorch 2.5 on
        torch.library.register_vmap(operator, apply_rule, lib=LIBRARY)


for _operator in (GRAPH_CONV2D, CONV2D):
    _register_vmap(_operator, conv2d_vmap)
for _operator in (GRAPH_BACKPROP_INPUT, BACKPROP_INPUT):
    _register_vmap(_operator, backprop_input_vmap)
for _operator in (GRAPH_BACKPROP_FILTER, BACKPROP_FILTER):
    _register_vmap(_operator, backprop_filter_vmap)
