"""The three functions under PyTorch's transforms: vmap, grad and jvp of `torch.func`, autocast."""

from __future__ import annotations

import pytest
import torch

from cases import Case
from operations import EVERY_OPERATION, FORWARD, Operation, exact_data
from torch_helpers import BOTH_FORMATS, EVERY_CASE, assert_equal, function_of, tensors

# A framework's own warnings are not ours to turn into errors.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_transforms_that_do_not_touch_the_arguments() -> None:
    input, filter = tensors(FORWARD, Case((3, 4), channels=2), "NHWC")
    filter.requires_grad_()
    function = function_of(FORWARD, Case((3, 4), channels=2), "NHWC")
    scale = torch.arange(1.0, 3.0, dtype=torch.float64)
    got = torch.func.vmap(lambda a: function(input, filter).sum() * a)(scale)
    torch.testing.assert_close(got, function(input, filter).sum() * scale)
    slope = torch.func.grad(lambda a: function(input, filter).sum() * a)(scale[0])
    torch.testing.assert_close(slope, function(input, filter).sum())


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
