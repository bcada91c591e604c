"""Random values of both signs: results lie within the error bound of the specification."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from cases import Case
from comparator import BFLOAT16, DTYPES, Array, assert_matches
from depthwise import _native
from families import (
    dilation_cases,
    drawn_cases,
    filter_cases,
    large_cases,
    multiplier_cases,
    stride_cases,
)
from operations import BACKPROP_FILTER, EVERY_OPERATION, Operation

CASES = [
    *list(filter_cases())[::3],
    *list(multiplier_cases())[::4],
    *list(stride_cases())[::7],
    *list(dilation_cases())[::7],
    *list(drawn_cases())[::2],
    *large_cases(),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", dict.fromkeys(CASES), ids=str)
@EVERY_OPERATION
def test_random_values(
    operation: Operation, case: Case, dtype: np.dtype[Any], restored_isa: None
) -> None:
    operands = operation.random_data(case, dtype)
    nhwc = operation.expect(case, operands)
    for data_format in ("NHWC", "NCHW"):
        expected = operation.expected_in(nhwc, data_format)
        placed = operation.to_format(operands, data_format)
        for isa in _native.supported_isas():
            _native.set_isa(isa)
            got = operation(case, placed, data_format)
            context = f"{case}, {data_format}, {dtype}, {isa}"
            assert_matches(got, expected, dtype, exact=False, context=context)
            got.fill(np.nan)


def check(operation: Operation, case: Case, operands: tuple[Array, Array]) -> None:
    expected = operation.expect(case, operands)
    for data_format in ("NHWC", "NCHW"):
        got = operation(case, operation.to_format(operands, data_format), data_format)
        want = operation.expected_in(expected, data_format)
        assert_matches(got, want, operands[0].dtype, exact=False, context=data_format)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@EVERY_OPERATION
def test_cancellation(operation: Operation, dtype: np.dtype[Any], isa: str) -> None:
    """Large values that cancel leave the rounding errors of the small ones visible."""
    case = Case((12, 13), (5, 5), 17, padding="VALID")
    random = np.random.default_rng(3)
    large = random.standard_normal(case.shapes["input"]) * 100 + 100
    filter = random.standard_normal(case.shapes["filter"])
    out_backprop = random.standard_normal(case.shapes["out_backprop"])
    arrays = {
        "input": large,
        "filter": filter - filter.mean(axis=(0, 1), keepdims=True),
        "out_backprop": out_backprop - out_backprop.mean(axis=(1, 2), keepdims=True),
    }
    if operation.result == "input":
        arrays["out_backprop"] = large[:, :8, :9]
    first, second = (arrays[name].astype(dtype) for name in operation.operands)
    check(operation, case, (first, second))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@EVERY_OPERATION
def test_wide_range_of_exponents(operation: Operation, dtype: np.dtype[Any], isa: str) -> None:
    case = Case((12, 13), (3, 3), 17, 2, strides=(2, 2))
    random = np.random.default_rng(4)
    first, second = (
        (random.standard_normal(shape) * 2.0 ** random.integers(-6, 7, shape)).astype(dtype)
        for shape in (case.shapes[name] for name in operation.operands)
    )
    check(operation, case, (first, second))


# Each filter gradient here is a sum of about a million products. One row, one column, few large
# images, many small ones; channels in the lanes and columns in the lanes.
LONG_SUMS = [
    Case((1000, 1001), (1, 1), 1),
    Case((1000, 1001), (3, 3), 2, padding="VALID"),
    Case((63, 64), (2, 1), 17, batch=256, padding="VALID"),
    Case((1, 2**20), (1, 3), 1),
    Case((2**20, 1), (3, 1), 1),
    Case((1, 2**20), (1, 2), 16),
    Case((7, 7), (3, 3), 16, batch=20000),
    Case((1, 1), (1, 1), 16, batch=2**20),
    Case((512, 1024), (2, 1), 3, 2, batch=2),
]


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", LONG_SUMS, ids=str)
def test_filter_gradients_are_summed_in_blocks(case: Case, data_format: str, isa: str) -> None:
    """Equal products: one running sum in float32 would be wrong by half a percent or more.

    From about 2**17 on each further 0.1 is added to a much larger sum, and rounded the same way
    every time.
    """
    length = BACKPROP_FILTER.sum_length(case)
    assert length > 900_000
    running = np.cumsum(np.full(length, 0.1, np.float32), dtype=np.float32)[-1]
    assert abs(running / (length * 0.1) - 1) > 5e-3

    operands = (
        np.full(case.shapes["input"], 0.1, np.float32),
        np.ones(case.shapes["out_backprop"], np.float32),
    )
    got = BACKPROP_FILTER(case, BACKPROP_FILTER.to_format(operands, data_format), data_format)
    # All channels are equal.
    one_channel = dataclasses.replace(case, channels=1, multiplier=1)
    want = BACKPROP_FILTER.expect(one_channel, (operands[0][..., :1], operands[1][..., :1]))
    worst = float(np.abs(got / want.values - 1).max())
    assert worst <= want.allowed * 2.0**-23
    assert worst < 1e-4


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32], ids=["f16", "bf16", "f32"])
@pytest.mark.parametrize("case", LONG_SUMS[1::5], ids=str)
def test_long_sums_of_positive_values(case: Case, dtype: Any, isa: str) -> None:
    """Nothing cancels, so that every sum is as large as its magnitude."""
    random = case.random()
    first, second = (
        random.uniform(0.5, 1.5, case.shapes[name]).astype(dtype)
        for name in BACKPROP_FILTER.operands
    )
    check(BACKPROP_FILTER, case, (first, second))
