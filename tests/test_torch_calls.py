"""Calls with tensors that native code computes: as the operators do, and only where it may."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import depthwise
from cases import Case
from depthwise import _native, _torch_calls
from depthwise.torch import DepthwiseConv2d
from operations import BACKPROP_FILTER, BACKPROP_INPUT, EVERY_OPERATION, FORWARD, Operation
from subprocesses import output_of
from torch_helpers import BOTH_FORMATS, EVERY_CASE, assert_equal, tensors

# A framework's own warnings are not ours to turn into errors.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

NUMBERS = {
    FORWARD: _native.FORWARD,
    BACKPROP_INPUT: _native.BACKPROP_INPUT,
    BACKPROP_FILTER: _native.BACKPROP_FILTER,
}
CASE = Case((9, 7), (3, 2), 5, 2, strides=(2, 1), batch=2)


class Operators(TorchDispatchMode):
    """Sees every operator, so that calls go the way of all."""

    def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return f(*args, **(kwargs or {}))


def natively(
    operation: Operation, case: Case, operands: tuple[Any, Any], data_format: str
) -> torch.Tensor | None:
    """Call as ``depthwise.torch`` does; None if the call is left to PyTorch."""
    arguments = operation.arguments(case, operands, data_format)
    first, second = (arguments[name] for name in operation.operands)
    sizes = arguments.get(f"{operation.result}_sizes")
    options = (arguments.get(o) for o in ("strides", "padding", "data_format", "dilations"))
    return _torch_calls.call(NUMBERS[operation], first, second, sizes, *options)


def test_is_connected() -> None:
    """With the PyTorch that is tested; an older one has no such interface."""
    assert _torch_calls.IS_CONNECTED


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@BOTH_FORMATS
@EVERY_CASE
@EVERY_OPERATION
def test_as_the_operators_do(
    operation: Operation, case: Case, data_format: str, dtype: torch.dtype
) -> None:
    operands = tensors(operation, case, data_format, dtype)
    laid_out = [operands]
    if data_format == "NCHW":
        # Of equal shapes, which are not to be taken for each other.
        order = torch.channels_last
        images = [
            operand if name == "filter" else operand.contiguous(memory_format=order)
            for name, operand in zip(operation.operands, operands, strict=True)
        ]
        laid_out += [(images[0], images[1]), operands]
    for first, second in laid_out:
        with Operators():
            assert natively(operation, case, (first, second), data_format) is None
            want = operation(case, (first, second), data_format)
        for _ in range(2):
            got = natively(operation, case, (first, second), data_format)
            if operation is BACKPROP_FILTER and case.channels == 1 and second is not operands[1]:
                continue  # One channel is in either order, and its outputs are in the other one.
            assert got is not None
            assert_equal(got, want)
            assert got.stride() == want.stride()
            assert not got.requires_grad
        assert_equal(operation(case, (first, second), data_format), want)


@pytest.mark.parametrize("operation", [FORWARD, BACKPROP_INPUT], ids=str)
def test_filters_in_the_order_of_parameters(operation: Operation) -> None:
    """[channels, taps] in memory, of which a layer's parameters are views."""
    first, second = tensors(operation, CASE, "NCHW", torch.float32)
    want = operation(CASE, (first, second), "NCHW")
    operands = [
        x.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1) if name == "filter" else x
        for name, x in zip(operation.operands, (first, second), strict=True)
    ]
    for _ in range(2):
        got = natively(operation, CASE, (operands[0], operands[1]), "NCHW")
        assert got is not None
        assert_equal(got, want)


@pytest.mark.parametrize("operation", [BACKPROP_INPUT, BACKPROP_FILTER], ids=str)
def test_sizes_of_a_tensor(operation: Operation) -> None:
    first, second = tensors(operation, CASE, "NHWC")
    sizes = operation.shape(operation.result, CASE, "NHWC")
    options = [CASE.arguments("NHWC")[o] for o in ("strides", "padding", "data_format")]
    results = [
        _torch_calls.call(NUMBERS[operation], first, second, given, *options, None)
        for given in (torch.Size(sizes), list(sizes))
    ]
    assert results[0] is not None and results[1] is not None
    assert_equal(results[0], results[1])


def unaligned(tensor: torch.Tensor) -> torch.Tensor:
    memory = np.zeros(tensor.nbytes + 1, np.uint8)[1:].view(np.float32)
    return torch.from_numpy(memory).view(tensor.shape).copy_(tensor)


# What only PyTorch, or Python code, can compute from.
UNUSUAL: dict[str, Callable[[torch.Tensor], Any]] = {
    "array": torch.Tensor.numpy,
    "expanded": lambda tensor: tensor[:, :1].expand_as(tensor),
    "five axes": lambda tensor: tensor[None],
    "float64": torch.Tensor.double,
    "integers": torch.Tensor.int,
    "meta": lambda tensor: tensor.to("meta"),
    "negated": lambda tensor: torch.complex(tensor, tensor).conj().imag,
    "nested": lambda tensor: torch.nested.nested_tensor([tensor[0], tensor[0]]),
    "none": lambda tensor: None,
    "oneDNN": torch.Tensor.to_mkldnn,
    "sparse": torch.Tensor.to_sparse,
    "subclass": lambda tensor: tensor.as_subclass(type("Tensor", (torch.Tensor,), {})),
    "unaligned": unaligned,
    "with gradients": lambda tensor: tensor.clone().requires_grad_(),
    "zeros without memory": lambda tensor: torch._efficientzerotensor(tensor.shape),
}


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", UNUSUAL)
@EVERY_OPERATION
def test_what_is_left_to_pytorch(operation: Operation, name: str, place: int) -> None:
    operands = list(tensors(operation, CASE, "NHWC", torch.float32))
    assert natively(operation, CASE, (operands[0], operands[1]), "NHWC") is not None
    operands[place] = UNUSUAL[name](operands[place])
    assert natively(operation, CASE, (operands[0], operands[1]), "NHWC") is None


WATCHERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "forward mode": torch.autograd.forward_ad.dual_level,
    "functions": torch.overrides.BaseTorchFunctionMode,
    "operators": Operators,
    "profiler": torch.profiler.profile,
}


@pytest.mark.parametrize("name", WATCHERS)
@EVERY_OPERATION
def test_who_watches_is_not_passed_by(operation: Operation, name: str) -> None:
    operands = tensors(operation, CASE, "NHWC", torch.float32)
    assert natively(operation, CASE, operands, "NHWC") is not None
    with WATCHERS[name]():
        assert natively(operation, CASE, operands, "NHWC") is None
        operation(CASE, operands, "NHWC")
    assert natively(operation, CASE, operands, "NHWC") is not None


@EVERY_OPERATION
def test_gradients_that_are_not_recorded(operation: Operation) -> None:
    first, second = tensors(operation, CASE, "NHWC")
    first.requires_grad_()
    with torch.no_grad():
        assert natively(operation, CASE, (first, second), "NHWC") is not None
    assert natively(operation, CASE, (first, second), "NHWC") is None
    result = operation(CASE, (first, second), "NHWC")
    assert result.requires_grad  # type: ignore[attr-defined]


def test_what_a_layer_may_do_a_function_may_not() -> None:
    """A stride and a dilation together, of equal shapes."""
    layer = DepthwiseConv2d(4, 3, stride=2, dilation=2, bias=False)
    input = torch.ones(1, 4, 9, 9)
    with torch.no_grad():
        for _ in range(2):
            layer(input)
            with pytest.raises(ValueError, match="dilations"):
                depthwise.depthwise_conv2d(
                    input,
                    layer.weight.permute(2, 3, 0, 1),
                    strides=[1, 1, 2, 2],
                    padding="VALID",
                    data_format="NCHW",
                    dilations=[2, 2],
                )


def test_layers_of_other_channels_and_equal_shapes() -> None:
    """Weights [8, 1, 3, 3] are those of 8 channels, or of 4 with two outputs each."""
    two_each, one_each = DepthwiseConv2d(4, 3, channel_multiplier=2), DepthwiseConv2d(8, 3)
    input = torch.ones(1, 4, 5, 5)
    with torch.no_grad():
        for _ in range(2):
            assert two_each(input).shape == (1, 8, 3, 3)
            with pytest.raises(ValueError, match="channels"):
                one_each(input)


@pytest.mark.parametrize("size", [8, 96])
def test_memory_that_is_in_use_is_not_handed_out(size: int) -> None:
    """96x96 pixels of 8 channels lie in memory that is used again, and small results do not."""
    input, filter = torch.ones(1, size, size, 8), torch.ones(1, 1, 8, 1)
    options = ([1, 1, 1, 1], "VALID")

    def compute(factor: float) -> torch.Tensor:
        return depthwise.depthwise_conv2d(factor * input, filter, *options)

    rows = [compute(factor)[0, 0] for factor in range(4)]
    for factor, row in enumerate(rows):
        assert torch.equal(row, torch.full_like(row, factor))
    del row
    place = rows.pop().data_ptr()
    again = compute(5)
    assert size < 96 or again.data_ptr() == place
    assert all(row.data_ptr() != again.data_ptr() for row in rows)


WITHOUT_CONNECTION = """
import ctypes
import torch

{change}
import depthwise
from depthwise import _torch_calls
from depthwise.torch import DepthwiseConv2d

assert not _torch_calls.IS_CONNECTED
layer = DepthwiseConv2d(2, 3, bias=False)
image = torch.randn(1, 2, 5, 5)
want = torch.nn.functional.conv2d(image, layer.weight, groups=2)
filter = layer.weight.detach().permute(2, 3, 0, 1)
for _ in range(2):
    with torch.no_grad():
        torch.testing.assert_close(layer(image), want)
    got = depthwise.depthwise_conv2d(image, filter, [1, 1, 1, 1], "VALID", "NCHW")
    torch.testing.assert_close(got, want)
    layer(image).sum().backward()
"""


@pytest.mark.parametrize(
    "change",
    [
        "torch.Tensor.__dlpack_c_exchange_api__ = None",
        "torch.Tensor.__dlpack_c_exchange_api__ = 1",
        # Of a major version that nobody knows yet: the version, two 32-bit numbers, then no other.
        "table = (ctypes.c_uint64 * 7)(9)\n"
        "new = ctypes.pythonapi.PyCapsule_New\n"
        "new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3\n"
        'capsule = new(ctypes.addressof(table), b"dlpack_exchange_api", None)\n'
        "torch.Tensor.__dlpack_c_exchange_api__ = capsule",
    ],
    ids=["none", "another type", "another version"],
)
def test_a_pytorch_without_the_interface(change: str) -> None:
    output_of(WITHOUT_CONNECTION.format(change=change))
