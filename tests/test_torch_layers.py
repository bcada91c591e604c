"""Layers straight to the kernels: the results of operators, and no one who watches is passed by."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
import torch.nn.utils.prune
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

# What returns None for a call that it leaves to others.
from depthwise._torch_layers import convolve as shortcut
from depthwise.torch import DepthwiseConv2d

# The way of all calls, whose gradients are those of the operators.
from depthwise.torch import _convolve_by_operator as by_operators

# A framework's own warnings are not ours to turn into errors.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def make_layer(dtype: torch.dtype = torch.float32, **options: Any) -> DepthwiseConv2d:
    torch.manual_seed(1)
    options = {"kernel_size": (3, 2), "channel_multiplier": 2, **options}
    return DepthwiseConv2d(5, **options, dtype=dtype)


def make_input(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn((2, 5, 9, 7), dtype=dtype)


class Watching(TorchFunctionMode):
    """A mode that changes nothing."""

    def __torch_function__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return f(*args, **(kwargs or {}))


DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
OPTIONS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"padding": (1, 0), "stride": 2},
        {"padding": "SAME", "stride": (2, 3)},
        {"padding": "same", "dilation": (1, 2)},
        {"channel_multiplier": 1, "padding": 1, "dilation": 2, "stride": 2},
        {"channel_multiplier": 1, "kernel_size": 1},
    ],
    ids=str,
)
LAYOUTS = pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "transposed"])


def in_layout(input: torch.Tensor, layout: str) -> torch.Tensor:
    if layout == "channels_last":
        input = input.to(memory_format=torch.channels_last)
    elif layout == "sliced":
        input = torch.cat([input, input], 3)[..., 3:10]
    elif layout == "transposed":
        input = input.transpose(2, 3)
    return input


@DTYPES
@OPTIONS
@LAYOUTS
def test_output_is_that_of_operators(dtype: torch.dtype, options: Any, layout: str) -> None:
    layer = make_layer(dtype, **options)
    input = in_layout(make_input(dtype), layout)
    want = by_operators(layer, input)
    for _ in range(2):
        with torch.no_grad():
            got = shortcut(layer, input)
            assert got is not None
            assert torch.equal(got, want)
            assert torch.equal(layer(input), want)
        assert got.stride() == want.stride()
        assert got.dtype is want.dtype
    with torch.no_grad():  # What a layer has is looked up in each call.
        layer.weight.mul_(2)
        if layer.bias is not None:
            layer.bias.mul_(2)
        assert torch.equal(layer(input), 2 * want)


def gradients(
    layer: Any,
    input: torch.Tensor,
    out_backprop: torch.Tensor | None = None,
    compute: Callable[[Any, torch.Tensor], torch.Tensor] = lambda layer, input: layer(input),
) -> dict[str, torch.Tensor]:
    """Return the output and the gradients of what wants one, of input and parameters."""
    output = compute(layer, input)
    assert output.requires_grad
    wanted = {
        name: tensor
        for name, tensor in (("input", input), *layer.named_parameters())
        if tensor.requires_grad
    }
    if out_backprop is None:
        torch.manual_seed(2)
        out_backprop = torch.randn_like(output)
    found = torch.autograd.grad(output, list(wanted.values()), out_backprop)
    return {"output": output, **dict(zip(wanted, found, strict=True))}


def assert_same(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, tensor in got.items():
        assert torch.equal(tensor, want[name]), name
        if name == "weight":
            assert tensor.is_contiguous()  # as the parameter; that of operators is a view
        else:
            assert tensor.stride() == want[name].stride(), name


@DTYPES
@OPTIONS
@LAYOUTS
def test_gradients_are_those_of_operators(dtype: torch.dtype, options: Any, layout: str) -> None:
    layer = make_layer(dtype, **options)
    input = in_layout(make_input(dtype), layout).requires_grad_()
    assert shortcut(layer, input) is not None
    want = gradients(layer, input, compute=by_operators)
    assert_same(gradients(layer, input), want)


@pytest.mark.parametrize("frozen", ["input", "weight", "bias"])
def test_gradients_that_nobody_asks_for(frozen: str) -> None:
    layer, input = make_layer(), make_input().requires_grad_()
    dict(layer.named_parameters(), input=input)[frozen].requires_grad_(False)
    want = gradients(layer, input, compute=by_operators)
    assert_same(gradients(layer, input), want)


@pytest.mark.parametrize("kind", ["repeated", "sliced", "channels_last", "negated", "float64"])
def test_an_unusual_gradient_of_the_output(kind: str) -> None:
    layer, input = make_layer(), make_input().requires_grad_()
    shape = layer(input).shape
    out_backprop = {
        "repeated": torch.ones(1).expand(shape),
        "sliced": torch.randn(*shape[:3], 2 * shape[3])[..., ::2],
        "channels_last": torch.randn(shape).to(memory_format=torch.channels_last),
        "negated": torch.randn(shape, dtype=torch.complex64).conj().imag,
        "float64": torch.randn(shape, dtype=torch.float64).float(),
    }[kind]
    want = gradients(layer, input, out_backprop, compute=by_operators)
    torch.testing.assert_close(gradients(layer, input, out_backprop), want)


def test_derivatives_of_gradients() -> None:
    layer = make_layer(torch.float64, padding=1, stride=2)
    input = make_input(torch.float64)[:, :, :5, :4].requires_grad_()
    weight = layer.weight.detach().clone().requires_grad_()
    assert layer.bias is not None
    bias = layer.bias.detach().clone().requires_grad_()

    def function(input: Any, weight: Any, bias: Any) -> Any:
        return functional_call(layer, {"weight": weight, "bias": bias}, (input,))

    assert torch.autograd.gradcheck(function, (input, weight, bias), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, (input, weight, bias), check_batched_grad=True)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradients_have_a_graph_of_their_own(layout: str) -> None:
    """What lacks one would be left out by gradgradcheck."""
    layer = make_layer(padding=1, stride=2)
    input = in_layout(make_input(), layout).requires_grad_()
    wanted = [input, *layer.parameters()]
    out_backprop = torch.randn_like(layer(input)).requires_grad_()

    def second(compute: Callable[[Any, torch.Tensor], torch.Tensor]) -> tuple[Any, ...]:
        first = torch.autograd.grad(compute(layer, input), wanted, out_backprop, create_graph=True)
        assert all(gradient.requires_grad for gradient in first)
        loss = sum((gradient.square().sum() for gradient in first), torch.zeros(()))
        return torch.autograd.grad(loss, [input, layer.weight, out_backprop])

    torch.testing.assert_close(second(lambda layer, input: layer(input)), second(by_operators))


def test_saved_tensors_that_hooks_change() -> None:
    layer = make_layer()
    input = make_input().to(memory_format=torch.channels_last).requires_grad_()
    want = gradients(layer, input)

    def contiguous(tensor: Any) -> Any:
        return tensor.detach().clone(memory_format=torch.contiguous_format)

    with torch.autograd.graph.saved_tensors_hooks(contiguous, lambda packed: packed):
        got = gradients(layer, input)
    torch.testing.assert_close(got, want)


def test_saved_tensors_of_another_type() -> None:
    layer, input = make_layer(), make_input().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: tensor.detach().half(), lambda packed: packed
    ):
        output = layer(input)
    with pytest.raises(TypeError, match="needed one dtype"):
        output.backward(torch.ones_like(output))


def test_a_checkpoint_that_is_watched_once() -> None:
    """What is saved is the same in both of its passes, whoever looks at one of them."""
    layer, input = make_layer(), make_input().requires_grad_()
    want = gradients(layer, input)

    def checkpointed(image: torch.Tensor) -> torch.Tensor:
        with torch.profiler.profile():
            output: torch.Tensor = checkpoint(layer, image, use_reentrant=False)
        return output

    output = checkpointed(input)
    torch.manual_seed(2)
    got = torch.autograd.grad(output, [input, *layer.parameters()], torch.randn_like(output))
    for gradient, name in zip(got, ("input", *dict(layer.named_parameters())), strict=True):
        assert torch.equal(gradient, want[name]), name


def test_saved_tensors_that_are_overwritten() -> None:
    layer, input = make_layer(), make_input()
    output = layer(input)
    input.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_the_profiler_sees_gradients() -> None:
    layer, input = make_layer(), make_input().requires_grad_()
    output = layer(input)
    with torch.profiler.profile() as profile:
        output.backward(torch.ones_like(output))
    names = {event.key for event in profile.key_averages()}
    for name in ("input", "filter"):
        assert any(f"depthwise_conv2d_backprop_{name}" in key for key in names)


def watchers() -> dict[str, AbstractContextManager[Any]]:
    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return f(*args, **(kwargs or {}))

    return {
        "autocast": torch.autocast("cpu", torch.bfloat16),
        "functions": Watching(),
        "operators": Operators(),
        "profiler": torch.profiler.profile(),
        "forward mode": torch.autograd.forward_ad.dual_level(),
    }


@pytest.mark.parametrize("with_gradients", [False, True])
@pytest.mark.parametrize("name", ["autocast", "functions", "operators", "profiler", "forward mode"])
def test_who_watches_is_not_passed_by(name: str, with_gradients: bool) -> None:
    layer, input = make_layer(), make_input()
    with torch.set_grad_enabled(with_gradients):
        assert shortcut(layer, input) is not None
        with watchers()[name]:
            # With gradients it is the same function as otherwise, which calls the operator then.
            is_within = with_gradients and name not in ("autocast", "forward mode")
            assert (shortcut(layer, input) is not None) == is_within
            layer(input)
        assert shortcut(layer, input) is not None


@pytest.mark.parametrize("with_gradients", [False, True])
def test_the_profiler_sees_the_operator(with_gradients: bool) -> None:
    layer, input = make_layer(), make_input()
    with torch.set_grad_enabled(with_gradients), torch.profiler.profile() as profile:
        layer(input)
    assert any("depthwise_conv2d" in event.key for event in profile.key_averages())


def test_transforms_and_traces() -> None:
    layer, input = make_layer(), make_input()
    taken = []

    def call(image: Any) -> Any:
        taken.append(shortcut(layer, image) is not None)
        return layer(image)

    with torch.no_grad():
        want = layer(input)
        assert torch.allclose(torch.func.vmap(call)(input[:, None])[:, 0], want, atol=1e-5)
        traced = torch.jit.trace(layer, input, check_trace=False)
        assert torch.equal(traced(2 * input), layer(2 * input))
    slope = torch.func.grad(lambda image: call(image).square().sum())(input)
    leaf = input.clone().requires_grad_()
    layer(leaf).square().sum().backward()
    torch.testing.assert_close(slope, leaf.grad)
    assert not any(taken)


@pytest.mark.parametrize(
    "change", ["float64", "three_axes", "meta", "channels", "small", "negated"]
)
def test_what_is_wrong_or_unusual_goes_the_way_of_all(change: str) -> None:
    layer, input = make_layer(), make_input()
    changed = {
        "float64": input.double(),
        "three_axes": input[0],
        "meta": input.to("meta"),
        "channels": input[:, :4],
        "small": input[:, :, :1],
        "negated": torch.complex(input, input).conj().imag,
    }[change]
    with torch.no_grad():
        assert shortcut(layer, input) is not None
        assert shortcut(layer, changed) is None
        layer.weight = torch.nn.Parameter(layer.weight.double())
        assert shortcut(layer, input) is None


class Doubled(torch.nn.Module):
    """A parametrization."""

    def forward(self, parameter: torch.Tensor) -> torch.Tensor:
        return 2 * parameter


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("way", ["parametrized", "pruned"])
def test_what_stands_for_a_parameter(way: str, name: str) -> None:
    layer, input = make_layer(), make_input()
    if way == "pruned":
        torch.nn.utils.prune.l1_unstructured(layer, name, amount=1)
    else:
        torch.nn.utils.parametrize.register_parametrization(layer, name, Doubled())
    assert layer.bias is not None
    want = torch.nn.functional.conv2d(input, layer.weight, layer.bias, groups=5)
    torch.testing.assert_close(layer(input), want)
    with torch.no_grad():
        torch.testing.assert_close(layer(input), want)


def test_parameters_of_the_wrong_shape() -> None:
    layer, input = make_layer(), make_input()
    for shape in ((10, 2, 3, 2), (10, 3, 2), (9, 1, 3, 2)):
        layer.weight = torch.nn.Parameter(torch.ones(shape))
        with pytest.raises(ValueError, match=r"weight has shape .*; needed \(out_channels, 1"):
            layer(input)


def test_options_that_are_lists() -> None:
    layer, input = make_layer(stride=2, padding=1), make_input()
    want = layer(input)
    vars(layer).update(stride=[2, 2], padding=[1, 1])
    assert torch.equal(layer(input), want)


def test_inference_mode() -> None:
    layer, input = make_layer(), make_input()
    want = layer(input)
    with torch.inference_mode():
        for image in (input, input.clone()):
            assert shortcut(layer, image) is not None
            assert torch.equal(layer(image), want)


def test_views_that_negate() -> None:
    """PyTorch keeps in a flag what the elements of such a view are."""
    layer, input = make_layer(padding=1), make_input()
    negated = torch.complex(input, input).conj().imag
    assert negated.is_neg()
    with torch.no_grad():
        assert torch.equal(layer(negated), layer(-input))
    gradients = []
    for image in (negated, -input):
        image = image.detach().requires_grad_()
        output = layer(image)
        output.backward(torch.complex(output, output).detach().conj().imag)
        gradients.append(image.grad)
    assert torch.equal(*gradients)
