"""The three functions on tensors: NumPy's bits in any memory format, derivatives and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import depthwise
from cases import Case
from comparator import assert_same_bits
from operations import EVERY_OPERATION, FORWARD, Operation, exact_data
from subprocesses import run_script
from torch_helpers import BOTH_FORMATS, EVERY_CASE, assert_equal, function_of, tensors

# A framework's own warnings are not ours to turn into errors.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# For numeric derivatives, which take thousands of calls.
SMALL_CASES = (
    Case((3, 4), (2, 3), 2, 2),
    Case((4, 3), (3, 2), 2, strides=(2, 1), padding=((1, 0), (0, 2))),
    Case((4, 4), (2, 2), 2, dilations=(2, 1), batch=2),
)


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
