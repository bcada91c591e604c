"""Layers of PyTorch straight to the kernels, which know the layout of their parameters.

By operators and views of the parameters a layer takes 40 us besides the kernel, or 130 where other
layers have overwritten the caches in between, as in any model; so it takes 6, or 70. In training
the views are two more nodes of the graph, and what comes out is copied once more.

``depthwise.torch`` asks this before it goes the way of all calls, which it also does for whatever
is wrong.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function

from ._native import BACKPROP_FILTER, BACKPROP_INPUT, FORWARD
from ._torch_autograd import backprop_filter, backprop_input
from ._torch_calls import call_layer
from ._torch_ops import CONV2D, layer_options


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


def convolve(layer: Any, input: Tensor) -> Tensor | None:
    """Return the output of a layer with a group for each channel; None if that takes more."""
    parameters = layer._parameters
    weight = parameters.get("weight")
    # One that is pruned or parametrized is no parameter; where there is none, it is None.
    if weight is None or "bias" not in parameters:
        return None
    bias = parameters["bias"]
    options: tuple[Any, ...] = (layer.in_channels, layer.stride, layer.padding, layer.dilation)
    output = call_layer(FORWARD, input, weight, bias, options)
    if output is True:
        # Whoever changes a list later does not change what was computed.
        options = tuple(tuple(o) if isinstance(o, list) else o for o in options)
        # The same function if somebody looks: what a checkpoint saves has to be the same again
        # when it is computed for the second time.
        output = _Layer.apply(input, weight, bias, options)
    result: Tensor | None = output
    return result


class _Layer(Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, options: tuple[Any, ...]
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.options = options
        output: Tensor | None = call_layer(FORWARD, input, weight, bias, options)
        if output is None:
            filter = filter_of(weight, options[0])
            output = CONV2D(input, filter, bias, *layer_options(*options[1:]))
        return output

    @staticmethod
    def backward(ctx: Any, out_backprop: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        problem = (input, weight, out_backprop, ctx.options)
        return (
            _backprop_input(*problem) if needs_input else None,
            _backprop_weight(*problem) if needs_weight else None,
            out_backprop.sum((0, 2, 3)) if needs_bias else None,
            None,
        )


def _backprop_input(
    input: Tensor, weight: Tensor, out_backprop: Tensor, options: tuple[Any, ...]
) -> Tensor:
    gradient: Tensor | None = call_layer(BACKPROP_INPUT, input, weight, out_backprop, options)
    if gradient is None:
        filter = filter_of(weight, options[0])
        gradient = backprop_input(input.shape, filter, out_backprop, layer_options(*options[1:]))
    return gradient


def _backprop_weight(
    input: Tensor, weight: Tensor, out_backprop: Tensor, options: tuple[Any, ...]
) -> Tensor:
    gradient: Tensor | None = call_layer(BACKPROP_FILTER, input, weight, out_backprop, options)
    if gradient is None:
        sizes = filter_of(weight, options[0]).shape
        gradient = backprop_filter(input, sizes, out_backprop, layer_options(*options[1:]))
        gradient = gradient.permute(2, 3, 0, 1).reshape(weight.shape)
    return gradient
