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
from interpreter_lock import assert_python_runs_during
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
                # One channel is in either order, and its outputs are in the other one.
                assert got is None
                continue
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
def test_tracers_and_transforms(operation: Operation) -> None:
    first, second = tensors(operation, CASE, "NHWC", torch.float32)
    taken = []

    def call(image: torch.Tensor) -> torch.Tensor:
        taken.append(natively(operation, CASE, (first, image), "NHWC") is not None)
        return operation(CASE, (first, image), "NHWC")  # type: ignore[return-value]

    want = call(second)
    assert taken == [True]
    traced = torch.jit.trace(call, (second,), check_trace=False)
    assert_equal(traced(2 * second), 2 * want)
    assert_equal(torch.func.vmap(call)(second[None])[0], want)
    torch.func.grad(lambda image: call(image).sum())(second)
    assert not any(taken[1:])


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


def test_other_layers_of_the_same_shapes() -> None:
    """Every option tells layers apart."""
    torch.manual_seed(1)
    input = torch.randn(1, 4, 9, 9)
    layers = [
        DepthwiseConv2d(4, (3, 3), stride=stride, padding=padding, dilation=dilation)
        for stride in (1, (1, 2), (2, 1))
        for padding in (0, (1, 2), (2, 1), "SAME", "VALID")
        for dilation in (1, (1, 2), (2, 1))
    ]
    for layer in layers:
        layer.load_state_dict(layers[0].state_dict())
    with Operators(), torch.no_grad():
        wanted = [layer(input) for layer in layers]
    with torch.no_grad():
        for _ in range(2):
            for layer, want in zip(layers, wanted, strict=True):
                assert_equal(layer(input), want, str(layer))


def test_parameters_that_lie_apart() -> None:
    layer, input = DepthwiseConv2d(8, 3), torch.randn(1, 8, 9, 9)
    turned = torch.randn(8, 1, 3, 3).transpose(2, 3)
    every_second = torch.randn(16)[::2]
    with torch.no_grad():
        layer(input)
        for name, values in (("weight", turned), ("bias", every_second)):
            setattr(layer, name, torch.nn.Parameter(values))
            assert not getattr(layer, name).is_contiguous()
            with Operators():
                want = layer(input)
            assert_equal(layer(input), want, name)


def test_parameters_of_two_dtypes() -> None:
    layer, input = DepthwiseConv2d(8, 3), torch.randn(1, 8, 9, 9)
    with torch.no_grad():
        layer(input)
        layer.bias.data = layer.bias.data.double()
        with pytest.raises(TypeError, match="bias has dtype"):
            layer(input)


def test_a_tensor_that_changes_while_the_geometry_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread, say: nothing is remembered or computed of what is no more."""
    solve = _torch_calls.solve
    input, filter = torch.ones(1, 7, 8, 13), torch.ones(1, 1, 13, 1)

    def change(*arguments: Any) -> Any:
        geometry = solve(*arguments)
        input.data = torch.ones(1, 1, 1, 13)
        return geometry

    monkeypatch.setattr(_torch_calls, "solve", change)
    call = (_native.FORWARD, input, filter, None, [1, 1, 1, 1], "SAME", None, None)
    assert _torch_calls.call(*call) is None
    monkeypatch.undo()
    output = _torch_calls.call(*call)
    assert output is not None and output.shape == input.shape


def test_options_that_are_changed_after_the_output() -> None:
    layer, input = DepthwiseConv2d(4, 3), torch.ones(1, 4, 9, 9, requires_grad=True)
    want = torch.autograd.grad(layer(input).sum(), [input, layer.weight])
    vars(layer).update(padding=[0, 0], dilation=[1, 1])
    output = layer(input)
    layer.padding[0] = layer.padding[1] = 1
    layer.dilation[0] = layer.dilation[1] = 2
    for got, gradient in zip(
        torch.autograd.grad(output.sum(), [input, layer.weight]), want, strict=True
    ):
        assert_equal(got, gradient)


def test_layers_of_other_channels_and_equal_shapes() -> None:
    """Weights [8, 1, 3, 3] are those of 8 channels, or of 4 with two outputs each."""
    two_each, one_each = DepthwiseConv2d(4, 3, channel_multiplier=2), DepthwiseConv2d(8, 3)
    input = torch.ones(1, 4, 5, 5)
    with torch.no_grad():
        for _ in range(2):
            assert two_each(input).shape == (1, 8, 3, 3)
            with pytest.raises(ValueError, match="channels"):
                one_each(input)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_errors_that_are_not_of_arguments(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what Python code would raise again is left to it."""

    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(_torch_calls, "solve", fail)
    input, filter = torch.ones(1, 5, 6, 11), torch.ones(3, 2, 11, 1)
    with pytest.raises(error):
        depthwise.depthwise_conv2d(input, filter, [1, 1, 1, 1], "SAME")
    with pytest.raises(error), torch.no_grad():
        DepthwiseConv2d(11, (2, 3))(torch.ones(1, 11, 6, 5))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_empty_results_of_inputs_that_are_not(order: torch.memory_format) -> None:
    """They have the strides that a compiler is told."""
    layer = DepthwiseConv2d(8, 3)
    input = torch.ones(1, 8, 2, 2).contiguous(memory_format=order)
    with torch.no_grad():
        output = layer(input)
    want = torch.empty(1, 8, 0, 0).to(memory_format=order)
    assert output.shape == want.shape
    assert output.stride() == want.stride()


def test_python_runs_while_native_code_does() -> None:
    """The interpreter lock is released."""
    input, filter = torch.ones(1, 300, 300, 16), torch.ones(31, 31, 16, 1)
    options = ([1, 1, 1, 1], "SAME", None, None)

    def call() -> None:
        assert _torch_calls.call(_native.FORWARD, input, filter, None, *options) is not None

    assert_python_runs_during(call)


def test_nothing_leaks() -> None:
    """A thousand calls of changing shapes leave no more memory in use than a hundred did."""
    grown = output_of(
        """
        import re, torch, depthwise
        from depthwise.torch import DepthwiseConv2d
        def resident():
            with open("/proc/self/status") as status:
                return 1024 * int(re.search(r"VmRSS:\\s+(\\d+)", status.read())[1])
        layer = DepthwiseConv2d(16, 3)
        def work(count):
            for i in range(count):
                # Results below and above the size of those that lie in memory that is used again.
                ones = torch.ones(1, 16, 8 + 24 * (i % 2), 20 + i % 10)
                filter = torch.ones(3, 3, 16, 1)
                depthwise.depthwise_conv2d(ones, filter, [1] * 4, "SAME", "NCHW")
                layer(ones).sum().backward()
                try:
                    depthwise.depthwise_conv2d(ones, filter, [1] * 4, "SAME", "NHWC")
                except ValueError:
                    pass
        work(500)
        before = resident()
        work(5000)
        print(resident() - before)
        """
    )
    # 5000 results of 16 channels of 8x20 pixels have 51 MB.
    assert int(grown) < 8e6


@pytest.mark.parametrize("size", [1, 8, 96])
def test_results_are_aligned(size: int) -> None:
    input, filter = torch.ones(1, size, size, 8), torch.ones(1, 1, 8, 1)
    options = ([1, 1, 1, 1], "VALID", None, None)
    results = [_torch_calls.call(_native.FORWARD, input, filter, None, *options) for _ in range(5)]
    assert all(result is not None and result.data_ptr() % 64 == 0 for result in results)


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


OTHER_INTERFACE = """
import ctypes
import torch

real = torch.Tensor.__dlpack_c_exchange_api__
name = b"dlpack_exchange_api"
new = ctypes.pythonapi.PyCapsule_New
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
torch.Tensor.__dlpack_c_exchange_api__ = {interface}
import depthwise
from depthwise import _torch_calls
from depthwise.torch import DepthwiseConv2d

assert _torch_calls.IS_CONNECTED is {is_connected}
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

# A table is two numbers of 32 bits, the version, then seven addresses, the first of an earlier one.
INTERFACES = {
    "none": ("None", False),
    "another type": ("1", False),
    "a later version": ("new((table := (ctypes.c_uint64 * 7)(9)), name, None)", False),
    "a later version that has ours": (
        "new((table := (ctypes.c_uint64 * 7)(9, pointer_of(real, name))), name, None)",
        True,
    ),
    "no views": (
        "new((table := (ctypes.c_uint64 * 7)("
        "*(ctypes.c_uint64 * 7).from_address(pointer_of(real, name))[:5])), name, None)",
        False,
    ),
}


@pytest.mark.parametrize("name", INTERFACES)
def test_a_pytorch_with_another_interface(name: str) -> None:
    interface, is_connected = INTERFACES[name]
    output_of(OTHER_INTERFACE.format(interface=interface, is_connected=is_connected))
