"""The operators of ``_torch_ops`` as functions that autograd and torch.func differentiate.

Every function is linear in each of its tensors, so that the derivatives of each are the others.

Requirements that shaped this file:
- reverse and forward mode of any order, under vmap too; in compiled and exported graphs reverse
  mode of first order, which is what PyTorch's compiler differentiates;
- a call without gradients may cost no more than a few microseconds. An operator whose gradient is
  registered with torch.library takes 14 us a call, 43 with gradients; one without takes 6, and 17
  in an autograd function. So there are two operators each, and graphs have the first;
- torch.func wants the context of a function set up in a method of its own, which takes 30 us more
  for each call: so there are two functions each, of which the second knows forward mode, too.

``depthwise.torch`` calls it, with arguments whose types it has checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from ._torch_observers import is_observed, is_plain
from ._torch_ops import (
    BACKPROP_FILTER,
    BACKPROP_INPUT,
    CONV2D,
    GRAPH_BACKPROP_FILTER,
    GRAPH_BACKPROP_INPUT,
    GRAPH_CONV2D,
    LIBRARY,
    Options,
    backprop_filter_cpu,
    backprop_input_cpu,
    conv2d_cpu,
)
from ._torch_vmap import backprop_filter_vmap, backprop_input_vmap, conv2d_vmap

# No public function tells, and Function.apply() asks this one. Without it every call would have to
# go the way that serves transforms too.
_transforms_are_active: Callable[[], bool] = getattr(
    torch._C, "_are_functorch_transforms_active", lambda: True
)


def _compute(operator: Any, kernel: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Call an operator, or its kernel at once where that makes no difference: in a function."""
    result: Tensor
    if is_observed() or not all(
        is_plain(argument) for argument in arguments[:3] if isinstance(argument, Tensor)
    ):
        result = operator(*arguments)
    else:
        result = kernel(*arguments)
    return result


_conv2d = partial(_compute, CONV2D, conv2d_cpu)
_backprop_input = partial(_compute, BACKPROP_INPUT, backprop_input_cpu)
_backprop_filter = partial(_compute, BACKPROP_FILTER, backprop_filter_cpu)


def conv2d(input: Tensor, filter: Tensor, bias: Tensor | None, options: Options) -> Tensor:
    """Return the output, plus ``bias[k*channel_multiplier + q]`` if there is a bias."""
    ways = (GRAPH_CONV2D, CONV2D, conv2d_cpu, _Conv2d, _DualConv2d)
    tensors = (input, filter) if bias is None else (input, filter, bias)
    return _run(ways, (input, filter, bias), tensors, options)


def backprop_input(
    input_sizes: Sequence[int], filter: Tensor, out_backprop: Tensor, options: Options
) -> Tensor:
    """Return the gradient with respect to the input."""
    ways = (
        GRAPH_BACKPROP_INPUT,
        BACKPROP_INPUT,
        backprop_input_cpu,
        _BackpropInput,
        _DualBackpropInput,
    )
    return _run(ways, (input_sizes, filter, out_backprop), (filter, out_backprop), options)


def backprop_filter(
    input: Tensor, filter_sizes: Sequence[int], out_backprop: Tensor, options: Options
) -> Tensor:
    """Return the gradient with respect to the filter."""
    ways = (
        GRAPH_BACKPROP_FILTER,
        BACKPROP_FILTER,
        backprop_filter_cpu,
        _BackpropFilter,
        _DualBackpropFilter,
    )
    return _run(ways, (input, filter_sizes, out_backprop), (input, out_backprop), options)


def _run(
    ways: tuple[Any, Any, Callable[..., Tensor], type[Function], type[Function]],
    arguments: tuple[Any, Any, Any],
    tensors: tuple[Tensor, ...],
    options: Options,
) -> Tensor:
    """Compute by the cheapest way that leaves behind what derivatives of `tensors` need.

    Those are an operator for graphs, one for calls and its kernel, and functions around these, of
    which the second is for forward mode and for torch.func.
    """
    in_graph, operator, kernel, function, dual = ways
    result: Tensor
    is_seen = is_observed()
    if is_seen:
        if _transforms_are_active():
            if torch.compiler.is_compiling():
                # Neither function nor operator would be differentiated there, without a word.
                torch._dynamo.graph_break()
            result = dual.apply(*arguments, options)
            return result
        if torch.compiler.is_compiling():
            result = in_graph(*arguments, *options)
            return result
        for tensor in tensors:
            if forward_ad.unpack_dual(tensor).tangent is not None:
                result = dual.apply(*arguments, options)
                return result
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor.requires_grad:
                result = function.apply(*arguments, options)
                return result
    if is_seen or not all(map(is_plain, tensors)):
        result = operator(*arguments, *options)
    else:
        result = kernel(*arguments, *options)
    return result


class _Conv2d(Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, filter: Tensor, bias: Tensor | None, options: Options
    ) -> Tensor:
        ctx.save_for_backward(input, filter)
        ctx.options = options
        return _conv2d(input, filter, bias, *options)

    @staticmethod
    def backward(ctx: Any, out_backprop: Tensor) -> tuple[Tensor | None, ...]:
        input, filter = ctx.saved_tensors
        options = ctx.options
        needs_input, needs_filter, needs_bias = ctx.needs_input_grad[:3]
        pixels = (0, 2, 3) if options[3] == "NCHW" else (0, 1, 2)
        return (
            backprop_input(input.shape, filter, out_backprop, options) if needs_input else None,
            backprop_filter(input, filter.shape, out_backprop, options) if needs_filter else None,
            out_backprop.sum(pixels) if needs_bias else None,
            None,
        )


class _BackpropInput(Function):
    @staticmethod
    def forward(
        ctx: Any, input_sizes: Sequence[int], filter: Tensor, out_backprop: Tensor, options: Options
    ) -> Tensor:
        ctx.save_for_backward(filter, out_backprop)
        ctx.options = options
        return _backprop_input(input_sizes, filter, out_backprop, *options)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        filter, out_backprop = ctx.saved_tensors
        options = ctx.options
        _, needs_filter, needs_out = ctx.needs_input_grad[:3]
        filter_backprop = None
        if needs_filter:
            filter_backprop = backprop_filter(gradient, filter.shape, out_backprop, options)
        out = conv2d(gradient, filter, None, options) if needs_out else None
        return None, filter_backprop, out, None


class _BackpropFilter(Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, filter_sizes: Sequence[int], out_backprop: Tensor, options: Options
    ) -> Tensor:
        ctx.save_for_backward(input, out_backprop)
        ctx.options = options
        return _backprop_filter(input, filter_sizes, out_backprop, *options)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, out_backprop = ctx.saved_tensors
        options = ctx.options
        needs_input, _, needs_out = ctx.needs_input_grad[:3]
        input_backprop = None
        if needs_input:
            input_backprop = backprop_input(input.shape, gradient, out_backprop, options)
        out = conv2d(input, gradient, None, options) if needs_out else None
        return input_backprop, None, out, None


# The same for forward mode and the transforms of torch.func.


def _sum(*terms: Tensor | None) -> Tensor | None:
    """Return the sum of the tangents that there are."""
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


class _DualConv2d(Function):
    @staticmethod
    def forward(input: Tensor, filter: Tensor, bias: Tensor | None, options: Options) -> Tensor:
        return _conv2d(input, filter, bias, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        input, filter, _, ctx.options = inputs
        ctx.output_sizes = output.shape
        ctx.save_for_backward(input, filter)
        ctx.save_for_forward(input, filter)

    backward = _Conv2d.backward

    @staticmethod
    def jvp(
        ctx: Any, input_t: Tensor | None, filter_t: Tensor | None, bias_t: Tensor | None, _: None
    ) -> Tensor | None:
        input, filter = ctx.saved_tensors
        options = ctx.options
        if bias_t is not None:
            bias_t = bias_t.view(-1, 1, 1) if options[3] == "NCHW" else bias_t
            bias_t = bias_t.expand(ctx.output_sizes)
        return _sum(
            None if input_t is None else conv2d(input_t, filter, None, options),
            None if filter_t is None else conv2d(input, filter_t, None, options),
            bias_t,
        )

    vmap = staticmethod(partial(conv2d_vmap, conv2d))


class _DualBackpropInput(Function):
    @staticmethod
    def forward(
        input_sizes: Sequence[int], filter: Tensor, out_backprop: Tensor, options: Options
    ) -> Tensor:
        return _backprop_input(input_sizes, filter, out_backprop, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.input_sizes, filter, out_backprop, ctx.options = inputs
        ctx.save_for_backward(filter, out_backprop)
        ctx.save_for_forward(filter, out_backprop)

    backward = _BackpropInput.backward

    @staticmethod
    def jvp(
        ctx: Any, _: None, filter_t: Tensor | None, out_t: Tensor | None, __: None
    ) -> Tensor | None:
        filter, out_backprop = ctx.saved_tensors
        sizes, options = ctx.input_sizes, ctx.options
        return _sum(
            None if filter_t is None else backprop_input(sizes, filter_t, out_backprop, options),
            None if out_t is None else backprop_input(sizes, filter, out_t, options),
        )

    vmap = staticmethod(partial(backprop_input_vmap, backprop_input))


class _DualBackpropFilter(Function):
    @staticmethod
    def forward(
        input: Tensor, filter_sizes: Sequence[int], out_backprop: Tensor, options: Options
    ) -> Tensor:
        return _backprop_filter(input, filter_sizes, out_backprop, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        input, ctx.filter_sizes, out_backprop, ctx.options = inputs
        ctx.save_for_backward(input, out_backprop)
        ctx.save_for_forward(input, out_backprop)

    backward = _BackpropFilter.backward

    @staticmethod
    def jvp(
        ctx: Any, input_t: Tensor | None, _: None, out_t: Tensor | None, __: None
    ) -> Tensor | None:
        input, out_backprop = ctx.saved_tensors
        sizes, options = ctx.filter_sizes, ctx.options
        return _sum(
            None if input_t is None else backprop_filter(input_t, sizes, out_backprop, options),
            None if out_t is None else backprop_filter(input, sizes, out_t, options),
        )

    vmap = staticmethod(partial(backprop_filter_vmap, backprop_filter))


# Of the operators that stand in compiled and exported graphs.


def _register_gradient(operator: Any, function: type[Function], saved: tuple[int, int]) -> None:
    """Give an operator the gradient of a function, which keeps the arguments at `saved`."""

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*(inputs[i] for i in saved))
        ctx.options = tuple(inputs[3:])

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*function.backward(ctx, gradient)[:3], *(None for _ in ctx.options))

    torch.library.register_autograd(operator, backward, setup_context=setup_context, lib=LIBRARY)


_register_gradient(GRAPH_CONV2D, _Conv2d, (0, 1))
_register_gradient(GRAPH_BACKPROP_INPUT, _BackpropInput, (1, 2))
_register_gradient(GRAPH_BACKPROP_FILTER, _BackpropFilter, (0, 2))
