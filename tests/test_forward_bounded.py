"""Random values of both signs: results lie within the error bound of the specification."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import depthwise
from cases import Case, expected_in, random_data, to_format
from comparator import DTYPES, assert_matches, expect
from depthwise import _native
from families import (
    dilation_cases,
    drawn_cases,
    filter_cases,
    large_cases,
    multiplier_cases,
    stride_cases,
)

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
def test_random_values(case: Case, dtype: np.dtype[Any], restored_isa: None) -> None:
    input, filter = random_data(case, dtype)
    nhwc = expect(input, filter, **case.arguments("NHWC"))
    for data_format in ("NHWC", "NCHW"):
        expected = expected_in(nhwc, data_format)
        for isa in _native.supported_isas():
            _native.set_isa(isa)
            got = depthwise.depthwise_conv2d(
                to_format(input, data_format), filter, **case.arguments(data_format)
            )
            context = f"{case}, {data_format}, {dtype}, {isa}"
            assert_matches(got, expected, dtype, exact=False, context=context)
            got.fill(np.nan)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cancellation(dtype: np.dtype[Any], isa: str) -> None:
    """Large values that cancel leave the rounding errors of the small ones visible."""
    random = np.random.default_rng(3)
    input = (random.standard_normal((1, 12, 13, 17)) * 100 + 100).astype(dtype)
    filter = random.standard_normal((5, 5, 17, 1))
    filter = (filter - filter.mean(axis=(0, 1), keepdims=True)).astype(dtype)
    got = depthwise.depthwise_conv2d(input, filter, [1, 1, 1, 1], "VALID")
    assert_matches(got, expect(input, filter, [1] * 4, "VALID"), dtype, exact=False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_wide_range_of_exponents(dtype: np.dtype[Any], isa: str) -> None:
    random = np.random.default_rng(4)
    input = random.standard_normal((1, 12, 13, 17)) * 2.0 ** random.integers(-6, 7, (1, 12, 13, 17))
    filter = random.standard_normal((3, 3, 17, 2)) * 2.0 ** random.integers(-6, 7, (3, 3, 17, 2))
    input, filter = input.astype(dtype), filter.astype(dtype)
    got = depthwise.depthwise_conv2d(input, filter, [1, 2, 2, 1], "SAME")
    assert_matches(got, expect(input, filter, [1, 2, 2, 1], "SAME"), dtype, exact=False)
