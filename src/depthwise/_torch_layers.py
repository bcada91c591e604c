"""Layers of PyTorch straight to the kernels, which know the layout of their parameters.

By operators and views of the parameters a layer takes 40 us besides the kernel, or 130 where other
layers have overwritten the caches in between, as in any model; so it takes 5, or 65. In training
the views are two more nodes of the graph, and what comes out is copied once more: without them the
17 depthwise layers of MobileNetV2 take 7.4 instead of 8.3 ms for a step.

``depthwise.torch`` asks this before it goes the way of all calls, which it also does for whatever
is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from . import _native
from ._geometry import Geometry
from ._torch_autograd import backprop_filter, backprop_input
from ._torch_calls import call_layer, layer_filter_shape
from ._torch_observers import is_observed, is_plain, is_transformed, is_watched
from ._torch_ops import (
    CONV2D,
    DTYPES,
    Options,
    as_nhwc,
    empty,
    is_channels_last_memory,
    layer_options,
    solve,
)


def filter_of(weight: Tensor, in_channels: int) -> Tensor:
    """Return the parameter of a layer, seen as a filter."""
    try:  # Tracers warn of whoever looks at sizes first.
        out_channels, _, height, width = weight.shape
        channels = (in_channels, out_channels // in_channels)
        return weight.reshape(*channels, height, width).permute(2, 3, 0, 1)
    except (RuntimeError, ValueError):
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; needed (out_channels, 1, height, width) with "
            f"a multiple of in_channels, {in_channels}, first"
        ) from None


@dataclass(frozen=True, eq=False)
class _Plan:
    """What the kernels are told of a layer and an input, besides addresses.

    Strides are those of NCHW tensors, and in the order of the kernels' axes.
    """

    options: Options
    geometry: Geometry
    dtype: torch.dtype
    is_channels_last: bool
    in_channels: int
    weight_shape: torch.Size
    input_shape: torch.Size
    input_strides: tuple[int, ...]
    output_shape: torch.Size
    output_strides: tuple[int, ...]
    kernel_input_strides: tuple[int, int, int, int]
    kernel_output_strides: tuple[int, int, int, int]


@lru_cache(maxsize=1024)
def _make_plan(
    input_shape: torch.Size,
    input_strides: tuple[int, ...],
    dtype: torch.dtype,
    weight_shape: torch.Size,
    in_channels: int,
    stride: int | tuple[int, int],
    padding: int | tuple[int, int] | str,
    dilation: int | tuple[int, int],
) -> _Plan | None:
    """Return the plan; None for what goes the way of all calls, such as all that is wrong."""
    if dtype not in DTYPES or 0 in input_strides:
        return None
    options = layer_options(stride, padding, dilation)
    try:
        filter_shape = layer_filter_shape(weight_shape, in_channels)
        geometry = solve(input_shape, filter_shape, *options)
    except (TypeError, ValueError, OverflowError):
        return None
    is_channels_last = is_channels_last_memory(input_shape, input_strides)
    output_shape = torch.Size(geometry.output_shape)
    _, channels, rows, columns = output_shape
    size = channels * rows * columns
    if is_channels_last:
        geometry = as_nhwc(geometry)
        output_strides = (size, 1, columns * channels, channels)
    else:
        output_strides = (size, rows * columns, columns, 1)

    def in_kernel_order(strides: tuple[int, ...]) -> tuple[int, int, int, int]:
        a, b, c, d = strides
        return (a, c, d, b) if is_channels_last else (a, b, c, d)

    return _Plan(
        options,
        geometry,
        dtype,
        is_channels_last,
        in_channels,
        weight_shape,
        input_shape,
        input_strides,
        output_shape,
        output_strides,
        in_kernel_order(input_strides),
        in_kernel_order(output_strides),
    )


def convolve(layer: Any, input: Tensor) -> Tensor | None:
    """Return the output of a layer with a group for each channel; None if that takes more."""
    parameters = layer._parameters
    weight = parameters.get("weight")
    # One that is pruned or parametrized is no parameter; where there is none, it is None.
    if weight is None or "bias" not in parameters:
        return None
    bias = parameters["bias"]
    computed = call_layer(layer, input, weight, bias)
    if computed is not None:
        return computed
    if is_transformed():
        return None
    if not is_plain(input) or not is_plain(weight) or not weight.is_contiguous():
        return None
    dtype = input.dtype
    if weight.dtype is not dtype or input.dim() != 4:
        return None
    addresses = input.data_ptr() | weight.data_ptr()
    if bias is not None:
        if not is_plain(bias) or bias.dtype is not dtype or not bias.is_contiguous():
            return None
        if bias.shape != weight.shape[:1]:
            return None
        addresses |= bias.data_ptr()
    plan = _make_plan(
        input.shape,
        input.stride(),
        dtype,
        weight.shape,
        layer.in_channels,
        _hashable(layer.stride),
        _hashable(layer.padding),
        _hashable(layer.dilation),
    )
    if plan is None or addresses % dtype.itemsize:
        return None
    if torch.is_grad_enabled() and (
        input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        # The same function if somebody looks: what a checkpoint saves has to be the same again
        # when it is computed for the second time.
        output: Tensor = _Layer.apply(input, weight, bias, plan)
        return output
    return None if is_watched() else _compute(input, weight, bias, plan)


def _hashable(option: Any) -> Any:
    return tuple(option) if isinstance(option, list) else option


def _compute(input: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan) -> Tensor:
    geometry = plan.geometry
    output = empty(geometry.output_shape, "input or padding", input.dtype, plan.is_channels_last)
    _native.forward_at(
        geometry.native,
        DTYPES[plan.dtype][1],
        input.data_ptr(),
        plan.kernel_input_strides,
        weight.data_ptr(),
        True,
        0 if bias is None else bias.data_ptr(),
        output.data_ptr(),
    )
    return output


class _Layer(Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.plan = plan
        if is_watched():
            output: Tensor = CONV2D(input, filter_of(weight, plan.in_channels), bias, *plan.options)
            return output
        return _compute(input, weight, bias, plan)

    @staticmethod
    def backward(ctx: Any, out_backprop: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        plan: _Plan = ctx.plan
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        if _is_planned(input, weight, out_backprop, plan):
            of_input, of_weight = _backprop_input, _backprop_weight
        else:
            of_input, of_weight = _backprop_input_by_operator, _backprop_weight_by_operator
        return (
            of_input(weight, out_backprop, plan) if needs_input else None,
            of_weight(input, weight, out_backprop, plan) if needs_weight else None,
            out_backprop.sum((0, 2, 3)) if needs_bias else None,
            None,
        )


def _is_planned(input: Tensor, weight: Tensor, out_backprop: Tensor, plan: _Plan) -> bool:
    """Return whether gradients can be computed as the output was; no derivatives of them, then.

    Whatever is saved for them may come back changed, by hooks.
    """
    return (
        not torch.is_grad_enabled()
        and not is_observed()
        and is_plain(out_backprop)
        and is_plain(input)
        and is_plain(weight)
        and out_backprop.dtype is input.dtype is weight.dtype is plan.dtype
        and out_backprop.shape == plan.output_shape
        and out_backprop.stride() == plan.output_strides
        and input.shape == plan.input_shape
        and input.stride() == plan.input_strides
        and weight.shape == plan.weight_shape
        and weight.is_contiguous()
        and (input.data_ptr() | weight.data_ptr() | out_backprop.data_ptr()) % plan.dtype.itemsize
        == 0
    )


def _backprop_input(weight: Tensor, out_backprop: Tensor, plan: _Plan) -> Tensor:
    geometry = plan.geometry
    gradient = empty(geometry.input_shape, "input", weight.dtype, plan.is_channels_last)
    _native.backprop_input_at(
        geometry.native,
        DTYPES[plan.dtype][1],
        weight.data_ptr(),
        True,
        out_backprop.data_ptr(),
        plan.kernel_output_strides,
        gradient.data_ptr(),
    )
    return gradient


def _backprop_weight(input: Tensor, weight: Tensor, out_backprop: Tensor, plan: _Plan) -> Tensor:
    gradient = torch.empty_like(weight)
    _native.backprop_filter_at(
        plan.geometry.native,
        DTYPES[plan.dtype][1],
        input.data_ptr(),
        plan.kernel_input_strides,
        out_backprop.data_ptr(),
        plan.kernel_output_strides,
        gradient.data_ptr(),
        True,
    )
    return gradient


def _backprop_input_by_operator(weight: Tensor, out_backprop: Tensor, plan: _Plan) -> Tensor:
    filter = filter_of(weight, plan.in_channels)
    return backprop_input(plan.input_shape, filter, out_backprop, plan.options)


def _backprop_weight_by_operator(
    input: Tensor, weight: Tensor, out_backprop: Tensor, plan: _Plan
) -> Tensor:
    sizes = filter_of(weight, plan.in_channels).shape
    gradient = backprop_filter(input, sizes, out_backprop, plan.options)
    return gradient.permute(2, 3, 0, 1).reshape(weight.shape)
