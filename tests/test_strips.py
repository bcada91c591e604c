"""Rows that are cut into strips, and outputs that are stored past the caches.

Both begin beyond the sizes of the other tests. Strips can lie wholly in the padding, and must not
begin off a cache line where vectors are stored whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from cases import Case, exact_data, expected_in, to_format
from comparator import DTYPES, Array, Expected, assert_matches
from depthwise import depthwise_conv2d

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


@lru_cache(maxsize=4)
def data_of(case: Case) -> tuple[Array, Array, Expected]:
    return exact_data(case)


IN_PADDING = [
    Case(size=(6, 26), channels=16, padding=((0, 0), (3000, 0))),
    Case(size=(6, 26), channels=16, padding=((0, 0), (0, 3000))),
    Case(size=(4, 26), channels=3, padding=((1, 1), (9000, 9000))),
    Case(
        size=(6, 26),
        filter_size=(21, 11),
        channels=8,
        multiplier=2,
        strides=(2, 5),
        padding=((15, 15), (606, 3)),
    ),
    Case(size=(4, 815), filter_size=(7, 1), channels=5, padding=((3, 3), (622, 0))),
]

GAPS = [
    Case(size=(200, 50), channels=16, strides=(100, 20)),
    Case(size=(200, 50), channels=3, strides=(100, 20)),
    Case(size=(90, 50), filter_size=(2, 9), channels=16, strides=(7, 3)),
]

# More than 16 MiB of input and output; rows a whole number of cache lines, and not.
LARGE = [
    Case(size=(512, 1024), channels=16),
    Case(size=(400, 1000), channels=16),
    Case(size=(300, 640), channels=16, dilations=(1, 5)),
    Case(size=(160, 384), filter_size=(5, 5), channels=64),
    Case(size=(700, 1001), channels=3),
]


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", [*IN_PADDING, *GAPS], ids=str)
def test_strips_and_gaps(case: Case, data_format: str, isa: str) -> None:
    check(case, data_format, DTYPES)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_large_outputs(case: Case, data_format: str, isa: str) -> None:
    check(case, data_format, [FLOAT32])


def test_large_outputs_of_float64(isa: str) -> None:
    check(Case(size=(512, 520), channels=8), "NCHW", [FLOAT64])


def check(case: Case, data_format: str, dtypes: Sequence[np.dtype[Any]]) -> None:
    """Compare with the reference, bit for bit."""
    input, filter, nhwc = data_of(case)
    expected = expected_in(nhwc, data_format)
    for dtype in dtypes:
        got = depthwise_conv2d(
            to_format(input, data_format).astype(dtype),
            filter.astype(dtype),
            **case.arguments(data_format),
        )
        assert_matches(got, expected, dtype, exact=True)
