"""Layers without gradients: the same outputs as with them, and no one who watches is passed by."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# What returns None for a call that it leaves to others.
from depthwise._torch_inference import convolve as shortcut
from depthwise.torch import DepthwiseConv2d

# A framework's own warnings are not ours to turn into errors.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def make_layer(dtype: torch.dtype = torch.float32, **options: Any) -> DepthwiseConv2d:
    torch.manual_seed(1)
    options = {"kernel_size": (3, 2), "channel_multiplier": 2, **options}
    return DepthwiseConv2d(5, **options, dtype=dtype)


def make_input(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn((2, 5, 9, 7), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"padding": (1, 0), "stride": 2},
        {"padding": "SAME", "stride": (2, 3)},
        {"padding": "same", "dilation": (1, 2)},
        {"channel_multiplier": 1, "padding": 1, "dilation": 2, "stride": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "transposed"])
def test_output_is_that_with_gradients(dtype: torch.dtype, options: Any, layout: str) -> None:
    layer = make_layer(dtype, **options)
    input = make_input(dtype)
    if layout == "channels_last":
        input = input.to(memory_format=torch.channels_last)
    elif layout == "sliced":
        input = torch.cat([input, input], 3)[..., 3:10]
    elif layout == "transposed":
        input = input.transpose(2, 3)
    want = layer(input)
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


def watchers() -> dict[str, AbstractContextManager[Any]]:
    class Functions(TorchFunctionMode):
        def __torch_function__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return f(*args, **(kwargs or {}))

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return f(*args, **(kwargs or {}))

    return {
        "gradients": torch.enable_grad(),
        "autocast": torch.autocast("cpu", torch.bfloat16),
        "functions": Functions(),
        "operators": Operators(),
        "profiler": torch.profiler.profile(),
        "forward mode": torch.autograd.forward_ad.dual_level(),
    }


@pytest.mark.parametrize(
    "name", ["gradients", "autocast", "functions", "operators", "profiler", "forward mode"]
)
def test_who_watches_is_not_passed_by(name: str) -> None:
    layer, input = make_layer(), make_input()
    with torch.no_grad():
        assert shortcut(layer, input) is not None
        with watchers()[name]:
            assert shortcut(layer, input) is None
            layer(input)
        assert shortcut(layer, input) is not None


def test_the_profiler_sees_the_operator() -> None:
    layer, input = make_layer(), make_input()
    with torch.no_grad(), torch.profiler.profile() as profile:
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


def test_a_parametrized_layer() -> None:
    layer, input = make_layer(), make_input()
    torch.nn.utils.parametrizations.weight_norm(layer)
    want = layer(input)
    with torch.no_grad():
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
