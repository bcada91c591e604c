"""The operators of the three functions: compiled, exported, checked by PyTorch, on fake tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import depthwise
from cases import Case
from operations import EVERY_OPERATION, FORWARD, Operation
from torch_helpers import BOTH_FORMATS, assert_equal, function_of, tensors

# A framework's own warnings are not ours to turn into errors.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("dynamic", [False, True])
@BOTH_FORMATS
@EVERY_OPERATION
def test_compile(operation: Operation, data_format: str, dynamic: bool) -> None:
    """As one graph, with gradients, and with sizes that are symbols."""
    torch.compiler.reset()
    # What makes code of the graph is the same for all operations, and takes seconds.
    backend = "inductor" if operation is FORWARD else "aot_eager"

    def compute(first: torch.Tensor, second: torch.Tensor, case: Case) -> torch.Tensor:
        return operation(case, (first * 1, second), data_format) * 1

    compiled = torch.compile(compute, fullgraph=True, dynamic=dynamic, backend=backend)
    case = Case((6, 9), channels=5, batch=2, strides=(2, 1))
    operands = tensors(operation, case, data_format)
    for operand in operands:
        operand.requires_grad_()
    want = compute(*operands, case)
    got = compiled(*operands, case)
    assert_equal(got, want)
    direction = torch.randn(want.shape, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(got, operands, direction),
        torch.autograd.grad(want, operands, direction),
        strict=True,
    ):
        assert_equal(a, b)


def test_one_graph_serves_all_batches() -> None:
    torch.compiler.reset()
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(
        lambda x, w: depthwise.depthwise_conv2d(x, w, [1, 2, 2, 1], "SAME"),
        fullgraph=True,
        dynamic=True,
        backend=backend,
    )
    filter = torch.randn(3, 3, 4, 1)
    for batch, height in ((2, 9), (3, 8), (5, 17)):
        input = torch.randn(batch, height, 7, 4)
        want = depthwise.depthwise_conv2d(input, filter, [1, 2, 2, 1], "SAME")
        assert_equal(compiled(input, filter), want)
    assert len(graphs) == 1


def test_channels_last_memory_is_compiled() -> None:
    torch.compiler.reset()
    case = Case((6, 9), channels=5, batch=2)
    input, filter = tensors(FORWARD, case, "NCHW", torch.float32)
    input = input.contiguous(memory_format=torch.channels_last)
    function = function_of(FORWARD, case, "NCHW")
    got = torch.compile(lambda x, w: function(x + 1, w) + 1, fullgraph=True)(input, filter)
    assert_equal(got, function(input + 1, filter) + 1)
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("transform", ["grad", "jvp", "jacrev", "vmap", "vmap of grad"])
def test_transforms_within_compile(transform: str) -> None:
    """PyTorch cannot make graphs of them all, but none of them may lose a derivative."""
    torch.compiler.reset()
    input, filter = tensors(FORWARD, Case((3, 4), channels=2), "NHWC")
    function = function_of(FORWARD, Case((3, 4), channels=2), "NHWC")

    def loss(image: torch.Tensor) -> torch.Tensor:
        return function(image, filter).square().sum()

    transforms: dict[str, Callable[[torch.Tensor], Any]] = {
        "grad": torch.func.grad(loss),
        "jvp": lambda x: torch.func.jvp(loss, (x,), (x,))[1],
        "jacrev": torch.func.jacrev(lambda x: function(x, filter)),
        "vmap": lambda x: torch.func.vmap(loss)(torch.stack([x, 2 * x])),
        "vmap of grad": lambda x: torch.func.vmap(torch.func.grad(loss))(torch.stack([x, 2 * x])),
    }
    compute = transforms[transform]
    got = torch.compile(compute, backend="aot_eager")(input)
    torch.testing.assert_close(got, compute(input))
    assert got.abs().max() > 0


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_with_a_repeated_gradient(
    dynamic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernels copy first has the layout that the compiler was told of."""
    # Not by code that the compiler has kept from another run.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    filter = torch.randn(3, 3, 8, 1)

    def pooled(image: torch.Tensor) -> torch.Tensor:
        output = depthwise.depthwise_conv2d(torch.relu(image), filter, [1] * 4, "VALID", "NCHW")
        return output.sum((2, 3))

    images = [
        torch.randn(4, 8, 9, 9),
        torch.randn(4, 8, 9, 9).to(memory_format=torch.channels_last),
    ]
    images.append(images[1][:1].expand(4, -1, -1, -1))
    for image in images:
        direction = torch.randn(4, 8)
        gradients = []
        for compute in (pooled, torch.compile(pooled, dynamic=dynamic)):
            leaf = image.detach().requires_grad_()
            compute(leaf).backward(direction)
            gradients.append(leaf.grad)
        torch.testing.assert_close(gradients[1], gradients[0])


def test_exported_programs_are_differentiable() -> None:
    """Also by who calls the operator itself."""

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filter = torch.nn.Parameter(torch.randn(3, 3, 4, 1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return depthwise.depthwise_conv2d(image, self.filter, [1] * 4, "SAME")

    layer, image = Layer(), torch.randn(1, 6, 6, 4)
    # Of a copy: the parameters of the exported program are those of the layer.
    exported = torch.export.export(copy.deepcopy(layer), (image,)).module()
    for module in (layer, exported):
        module(image).square().sum().backward()
    (parameter,) = exported.parameters()
    assert parameter.grad is not None
    torch.testing.assert_close(parameter.grad, layer.filter.grad)


def test_operators_check_what_they_hand_over_as_addresses() -> None:
    operator = torch.ops.depthwise.depthwise_conv2d
    image, filter = torch.ones(1, 5, 5, 4), torch.ones(3, 3, 4, 1)
    options = ([1] * 4, "SAME", [], "NHWC", [1, 1])
    for bias in (torch.zeros(1), torch.zeros(4, 1), torch.zeros(5)):
        with pytest.raises(ValueError, match=r"bias has shape .*; needed \(4,\)"):
            operator(image, filter, bias, *options)
    for operands in (
        (image, filter.double(), None),
        (image, filter, torch.zeros(4).double()),
        (image.half(), filter, None),
    ):
        with pytest.raises(TypeError, match="needed one dtype"):
            operator(*operands, *options)


@BOTH_FORMATS
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@EVERY_OPERATION
def test_opcheck(operation: Operation, order: torch.memory_format, data_format: str) -> None:
    """PyTorch's own test of what is registered: schema, fake tensors, tracing."""
    case = Case((5, 8), (2, 3), 3, 2, strides=(2, 1))
    first, second = tensors(operation, case, data_format, torch.float32)
    operands = {
        name: operand if name == "filter" else operand.contiguous(memory_format=order)
        for name, operand in zip(operation.operands, (first, second), strict=True)
    }
    operands = {name: operand.requires_grad_() for name, operand in operands.items()}
    arguments = operation.arguments(case, tuple(operands.values()), data_format)
    options = (list(arguments["strides"]), "SAME", [], data_format, [1, 1])
    if operation is FORWARD:
        given: tuple[Any, ...] = (*operands.values(), torch.randn(6))
    elif operation.result == "input":
        given = (list(arguments["input_sizes"]), *operands.values())
    else:
        given = (operands["input"], list(arguments["filter_sizes"]), operands["out_backprop"])
    operator = getattr(torch.ops.depthwise, operation.function.__name__)
    torch.library.opcheck(operator, (*given, *options))


def test_fake_and_meta_tensors() -> None:
    filter = torch.randn(3, 3, 4, 2, device="meta")
    output = depthwise.depthwise_conv2d(
        torch.empty(2, 5, 6, 4, device="meta"), filter, [1, 2, 2, 1], "SAME"
    )
    assert output.device.type == "meta"
    assert output.shape == (2, 3, 3, 8)
