"""The three functions on tensors: NumPy's bits, PyTorch's derivatives, compiler and transforms."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import depthwise
from cases import Case
from comparator import Array, assert_same_bits
from operations import EVERY_OPERATION, FORWARD, Operation, exact_data
from subprocesses import run_script

# A framework's own warnings are not ours to turn into errors.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

BOTH_FORMATS = pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# Strides, dilations, each padding, a multiplier, every kernel.
CASES = (
    Case((6, 9), channels=5, batch=2),
    Case((5, 8), (2, 3), 3, 2, padding="VALID"),
    Case((7, 6), channels=17, strides=(2, 2)),
    Case((7, 6), channels=3, strides=(3, 1), padding=((1, 0), (2, 3))),
    Case((9, 9), (3, 2), 16, dilations=(2, 3)),
    Case((8, 8), (9, 9), 18),
    Case((4, 5), channels=1, multiplier=4, batch=3),
)
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=str)

# For numeric derivatives, which take thousands of calls.
SMALL_CASES = (
    Case((3, 4), (2, 3), 2, 2),
    Case((4, 3), (3, 2), 2, strides=(2, 1), padding=((1, 0), (0, 2))),
    Case((4, 4), (2, 2), 2, dilations=(2, 1), batch=2),
)


def tensors(
    operation: Operation, case: Case, data_format: str, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return operands of random values."""
    operands = operation.random_data(case, np.dtype(np.float64))
    first, second = operation.to_format(operands, data_format)
    return torch.from_numpy(first).to(dtype), torch.from_numpy(second).to(dtype)


def function_of(operation: Operation, case: Case, data_format: str) -> Callable[..., torch.Tensor]:
    """Return the operation as a function of its two operands."""
    return lambda first, second: operation(case, (first, second), data_format)


def as_array(tensor: torch.Tensor) -> Array:
    """Return a contiguous copy; bfloat16, which NumPy does not know, as float32."""
    tensor = tensor.detach().contiguous()
    return tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()


def assert_equal(got: torch.Tensor, want: torch.Tensor, context: str = "") -> None:
    assert isinstance(got, torch.Tensor)
    assert got.dtype == want.dtype
    assert_same_bits(as_array(got), as_array(want), context)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@BOTH_FORMATS
@EVERY_CASE
@EVERY_OPERATION
def test_same_bits_as_numpy(
    operation: Operation, case: Case, data_format: str, dtype: torch.dtype
) -> None:
    (first, second), expected = exact_data(operation, case)
    operands = operation.to_format((first, second), data_format)
    a, b = (torch.from_numpy(array).to(dtype) for array in operands)
    before = a.clone(), b.clone()
    got = operation(case, (a, b), data_format)
    assert got.device.type == "cpu"
    assert got.is_contiguous()
    want = torch.from_numpy(operation.expected_in(expected, data_format).values).to(dtype)
    assert_equal(got, want, str(case))
    assert_equal(a, before[0])
    assert_equal(b, before[1])


@EVERY_CASE
@EVERY_OPERATION
def test_channels_last_memory(operation: Operation, case: Case) -> None:
    """NCHW tensors in channels-last memory: the same bits, and the same memory format."""
    first, second = tensors(operation, case, "NCHW", torch.float32)
    want = operation(case, (first, second), "NCHW")
    order = torch.channels_last
    images = [
        operand if name == "filter" else operand.contiguous(memory_format=order)
        for name, operand in zip(operation.operands, (first, second), strict=True)
    ]
    got = operation(case, (images[0], images[1]), "NCHW")
    assert_equal(got, want)
    if operation.result != "filter" and case.channels > 1:
        assert got.is_contiguous(memory_format=order)
    if operation.result == "filter":  # and with one image in each order
        assert_equal(operation(case, (images[0], second), "NCHW"), want)
        assert_equal(operation(case, (first, images[1]), "NCHW"), want)


@BOTH_FORMATS
@EVERY_OPERATION
def test_any_strides(operation: Operation, data_format: str) -> None:
    """Slices, transposed and expanded tensors are read as they are."""
    case = Case((6, 9), channels=17, batch=2)
    first, second = tensors(operation, case, data_format, torch.float32)
    want = operation(case, (first, second), data_format)

    def sliced(tensor: torch.Tensor) -> torch.Tensor:
        larger = torch.full([2 * n + 1 for n in tensor.shape], torch.nan)
        part = larger[tuple(slice(1, None, 2) for _ in tensor.shape)]
        return part.copy_(tensor)

    def transposed(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)

    for place in (sliced, transposed):
        assert_equal(operation(case, (place(first), place(second)), data_format), want)
    one = torch.ones(1, 1, 1, 1).expand(first.shape)
    want = operation(case, (one.contiguous(), second), data_format)
    assert_equal(operation(case, (one, second), data_format), want)


@BOTH_FORMATS
@pytest.mark.parametrize("case", SMALL_CASES, ids=str)
@EVERY_OPERATION
def test_derivatives(operation: Operation, case: Case, data_format: str) -> None:
    """In reverse and forward mode, and of second order, against central differences."""
    operands = tensors(operation, case, data_format)
    for operand in operands:
        operand.requires_grad_()
    function = function_of(operation, case, data_format)
    assert torch.autograd.gradcheck(
        function, operands, check_forward_ad=True, check_batched_grad=True
    )
    assert torch.autograd.gradgradcheck(function, operands, check_fwd_over_rev=True)


@BOTH_FORMATS
@EVERY_CASE
def test_autograd_gives_our_gradients(case: Case, data_format: str) -> None:
    input, filter = tensors(FORWARD, case, data_format, torch.float32)
    input.requires_grad_()
    filter.requires_grad_()
    output = FORWARD(case, (input, filter), data_format)
    out_backprop = torch.randn(output.shape)
    output.backward(out_backprop)
    arguments = case.arguments(data_format)
    a, b, c = (tensor.detach().numpy() for tensor in (input, filter, out_backprop))
    assert input.grad is not None
    assert filter.grad is not None
    assert_same_bits(
        input.grad.numpy(),
        depthwise.depthwise_conv2d_backprop_input(a.shape, b, c, **arguments),
    )
    assert_same_bits(
        filter.grad.numpy(),
        depthwise.depthwise_conv2d_backprop_filter(a, b.shape, c, **arguments),
    )


def test_no_gradient_is_computed_that_nobody_asks_for() -> None:
    case = Case((6, 9), channels=4)
    input, filter = tensors(FORWARD, case, "NHWC", torch.float32)
    filter.requires_grad_()
    output = FORWARD(case, (input, filter), "NHWC")
    output.sum().backward()
    assert input.grad is None
    assert filter.grad is not None
    with torch.no_grad():
        assert not FORWARD(case, (input, filter), "NHWC").requires_grad


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


def test_transforms_that_do_not_touch_the_arguments() -> None:
    input, filter = tensors(FORWARD, Case((3, 4), channels=2), "NHWC")
    filter.requires_grad_()
    function = function_of(FORWARD, Case((3, 4), channels=2), "NHWC")
    scale = torch.arange(1.0, 3.0, dtype=torch.float64)
    got = torch.func.vmap(lambda a: function(input, filter).sum() * a)(scale)
    torch.testing.assert_close(got, function(input, filter).sum() * scale)
    slope = torch.func.grad(lambda a: function(input, filter).sum() * a)(scale[0])
    torch.testing.assert_close(slope, function(input, filter).sum())


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
    for tensors in (
        (image, filter.double(), None),
        (image, filter, torch.zeros(4).double()),
        (image.half(), filter, None),
    ):
        with pytest.raises(TypeError, match="needed one dtype"):
            operator(*tensors, *options)


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


@pytest.mark.parametrize("mapped", [(0, None), (None, 0), (2, 1)])
@BOTH_FORMATS
@EVERY_CASE
@EVERY_OPERATION
def test_vmap(
    operation: Operation, case: Case, data_format: str, mapped: tuple[int | None, int | None]
) -> None:
    """Over either operand or both is the loop over them, and so are the gradients."""
    size = 3
    function = function_of(operation, case, data_format)
    # Of integers: a filter gradient may add in another order if there are more channels.
    operands = [
        torch.from_numpy(operand).double()
        for operand in operation.to_format(exact_data(operation, case)[0], data_format)
    ]
    stacked = [
        operand if dim is None else torch.stack([operand * (n + 1) for n in range(size)], dim)
        for operand, dim in zip(operands, mapped, strict=True)
    ]
    want = torch.stack(
        [
            function(
                *(
                    operand if dim is None else operand.select(dim, n)
                    for operand, dim in zip(stacked, mapped, strict=True)
                )
            )
            for n in range(size)
        ]
    )
    assert_equal(torch.func.vmap(function, mapped)(*stacked), want)

    def norm(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return torch.func.vmap(function, mapped)(first, second).square().sum()

    got = torch.func.grad(norm, (0, 1))(*stacked)
    leaves = [operand.clone().requires_grad_() for operand in stacked]
    norm(*leaves).backward()
    for gradient, leaf in zip(got, leaves, strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(gradient, leaf.grad)


def test_transforms_compose() -> None:
    """A gradient for each image of a batch, and forward over reverse mode."""
    case = Case((4, 5), channels=3)
    function = function_of(FORWARD, case, "NHWC")
    _, filter = tensors(FORWARD, case, "NHWC")
    images = torch.randn(4, 1, 4, 5, 3, dtype=torch.float64)

    def loss(filter: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return function(image, filter).square().sum()

    gradients = torch.func.vmap(torch.func.grad(loss), (None, 0))(filter, images)
    for image, gradient in zip(images, gradients, strict=True):
        torch.testing.assert_close(gradient, torch.func.grad(loss)(filter, image))

    hessian = torch.func.hessian(loss)(filter, images[0])
    reverse = torch.func.jacrev(torch.func.jacrev(loss))(filter, images[0])
    torch.testing.assert_close(hessian, reverse)
    assert hessian.abs().max() > 0


def test_forward_mode_alone() -> None:
    case = Case((4, 5), channels=3)
    input, filter = tensors(FORWARD, case, "NHWC")
    function = function_of(FORWARD, case, "NHWC")
    direction = torch.randn_like(filter)
    with torch.no_grad():
        output, tangent = torch.func.jvp(lambda w: function(input, w), (filter,), (direction,))
    assert_equal(output, function(input, filter))
    assert_equal(tangent, function(input, direction))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    """The rule of PyTorch's own convolutions: floats become `dtype`, float64 stays."""
    case = Case((6, 9), channels=5)
    input, filter = tensors(FORWARD, case, "NHWC", torch.float32)
    filter.requires_grad_()
    function = function_of(FORWARD, case, "NHWC")
    with torch.autocast("cpu", dtype=dtype):
        got = function(input, filter)
        mixed = function(input.to(dtype), filter)
        wide = function(input.double(), filter.double())
        with torch.autocast("cpu", enabled=False):
            off = function(input, filter)
    want = function(input.to(dtype), filter.to(dtype))
    assert_equal(got, want)
    assert_equal(mixed, want)
    assert wide.dtype is torch.float64
    assert off.dtype is torch.float32
    got.float().sum().backward()
    assert filter.grad is not None
    assert filter.grad.dtype is torch.float32


def test_fake_and_meta_tensors() -> None:
    filter = torch.randn(3, 3, 4, 2, device="meta")
    output = depthwise.depthwise_conv2d(
        torch.empty(2, 5, 6, 4, device="meta"), filter, [1, 2, 2, 1], "SAME"
    )
    assert output.device.type == "meta"
    assert output.shape == (2, 3, 3, 8)


@BOTH_FORMATS
def test_empty_results(data_format: str) -> None:
    for case in (Case((4, 4), batch=0), Case((2, 5), (3, 3), padding="VALID")):
        input, filter = tensors(FORWARD, case, data_format, torch.float32)
        filter.requires_grad_()
        output = FORWARD(case, (input, filter), data_format)
        assert output.numel() == 0
        output.sum().backward()
        assert filter.grad is not None
        assert not filter.grad.any()


def test_views_that_pytorch_resolves_lazily() -> None:
    """A negative view has its sign in a flag, not in its memory."""
    complex_image = torch.randn(1, 4, 5, 3, dtype=torch.complex64)
    negated = complex_image.conj().imag
    assert negated.is_neg()
    filter = torch.randn(3, 3, 3, 1)
    got = depthwise.depthwise_conv2d(negated, filter, [1] * 4, "SAME")
    want = depthwise.depthwise_conv2d(-complex_image.imag, filter, [1] * 4, "SAME")
    assert_equal(got, want)


def test_parameters_and_subclasses() -> None:
    filter = torch.nn.Parameter(torch.randn(3, 3, 4, 1))
    output = depthwise.depthwise_conv2d(torch.randn(1, 5, 5, 4), filter, [1] * 4, "SAME")
    assert output.requires_grad
    assert type(output) is torch.Tensor


def test_nothing_is_said_at_exit() -> None:
    """Of results that a script holds to its end."""
    done = run_script(
        """
        import torch, depthwise
        image = torch.ones(1, 64, 40, 40, requires_grad=True)
        filter = torch.ones(3, 3, 64, 1)
        output = depthwise.depthwise_conv2d(image, filter, [1] * 4, "SAME", "NCHW")
        output.sum().backward()
        """
    )
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"filter": np.ones((3, 3, 4, 1), "f4")}, TypeError, "filter is a numpy.ndarray, input"),
        ({"input": np.ones((1, 5, 5, 4), "f4")}, TypeError, "filter is a torch.Tensor, input"),
        ({"filter": [[1.0]]}, TypeError, "filter is a list"),
        ({"filter": torch.ones(3, 3, 4, 1).double()}, TypeError, "filter has dtype torch.float64"),
        ({"input": torch.ones(1, 5, 5, 4).int()}, TypeError, "input has dtype torch.int32"),
        ({"input": torch.ones(5, 5, 4)}, ValueError, "input has rank 3"),
        ({"filter": torch.ones(3, 3, 5, 1)}, ValueError, "filter has 5 input channels"),
        ({"filter": torch.ones(3, 3, 4, 0)}, ValueError, "filter has shape"),
        ({"input": torch.ones(1, 5, 5, 4).to_sparse()}, TypeError, "input has layout"),
        ({"strides": [1, 0, 1, 1]}, ValueError, "strides is"),
        ({"strides": [1, 1.0, 1, 1]}, TypeError, "strides contains 1.0"),
        ({"padding": "same"}, ValueError, "upper case"),
        ({"padding": [[0, 0], [2**40, 0], [0, 0], [0, 0]]}, OverflowError, "padding too large"),
        ({"strides": [1, 2, 2, 1], "dilations": [2, 2]}, ValueError, "all strides must be 1"),
        ({"data_format": "CHWN"}, ValueError, "data_format"),
    ],
)
def test_errors(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    right = {
        "input": torch.ones(1, 5, 5, 4),
        "filter": torch.ones(3, 3, 4, 1),
        "strides": [1] * 4,
        "padding": "SAME",
    }
    with pytest.raises(error, match=words):
        depthwise.depthwise_conv2d(**{**right, **arguments})
    with pytest.raises(error, match=f"^blur: .*{words}"):
        depthwise.depthwise_conv2d(**{**right, **arguments}, name="blur")


def test_errors_of_the_gradients() -> None:
    image, filter = torch.ones(1, 5, 5, 4), torch.ones(3, 3, 4, 1)
    with pytest.raises(ValueError, match=r"out_backprop has shape \(1, 4, 5, 4\); needed \(1, 5"):
        depthwise.depthwise_conv2d_backprop_input(
            image.shape, filter, image[:, 1:], [1] * 4, "SAME"
        )
    with pytest.raises(ValueError, match="out_backprop has shape"):
        depthwise.depthwise_conv2d_backprop_filter(
            image, filter.shape, image[:, 1:], [1] * 4, "SAME"
        )
    with pytest.raises(TypeError, match="input_sizes contains"):
        depthwise.depthwise_conv2d_backprop_input([1, 5, 5, 4.0], filter, image, [1] * 4, "SAME")
    with pytest.raises(ValueError, match="input_sizes is"):
        depthwise.depthwise_conv2d_backprop_input([1, -5, 5, 4], filter, image, [1] * 4, "SAME")


def test_name_is_in_the_profile() -> None:
    input, filter = torch.ones(1, 5, 5, 4), torch.ones(3, 3, 4, 1)
    with torch.profiler.profile() as profile:
        depthwise.depthwise_conv2d(input, filter, [1] * 4, "SAME", name="blur the image")
    assert "blur the image" in {event.key for event in profile.key_averages()}
    torch.compiler.reset()
    compiled = torch.compile(
        lambda x: depthwise.depthwise_conv2d(x, filter, [1] * 4, "SAME", name="blur"),
        fullgraph=True,
        backend="aot_eager",
    )
    assert_equal(compiled(input), depthwise.depthwise_conv2d(input, filter, [1] * 4, "SAME"))
