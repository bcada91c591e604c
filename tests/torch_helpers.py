"""What the tests of the three functions on tensors share: problems, operands, a comparison."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cases import Case
from comparator import Array, assert_same_bits
from operations import Operation

BOTH_FORMATS = pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])

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
    assert isinstance(got, torch.Tensor), type(got)
    assert got.dtype == want.dtype, f"{got.dtype}, needed {want.dtype}"
    assert_same_bits(as_array(got), as_array(want), context)
