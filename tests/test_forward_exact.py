"""Small signed integers, whose sums are exact: results equal the reference bit for bit.

Every case runs on every instruction set, in both data formats and all dtypes, from aligned memory
after a page that may not be read, from unaligned memory before one, and from a slice of a larger
array with NaN all around.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import depthwise
from cases import Case, exact_data, expected_in, to_format
from comparator import DTYPES, Array, assert_matches, expect
from families import all_cases, larger_than_cache_cases
from layouts import after_forbidden_page, before_forbidden_page, sliced

# Of the input alone.
CACHE_BYTES = 24_000_000

MEMORY = (after_forbidden_page, before_forbidden_page, sliced)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_every_case(case: Case, data_format: str, isa: str) -> None:
    input, filter, nhwc = exact_data(case)
    expected = expected_in(nhwc, data_format)
    input = to_format(input, data_format)
    arguments = case.arguments(data_format)
    for dtype in DTYPES:
        typed_input, typed_filter = input.astype(dtype), filter.astype(dtype)
        for place in MEMORY:
            got = depthwise.depthwise_conv2d(place(typed_input), place(typed_filter), **arguments)
            context = f"{case}, {data_format}, {dtype}, {place.__name__}, {isa}"
            assert_matches(got, expected, dtype, exact=True, context=context)
            # The next output may get this memory: it must not find the right answer there.
            got.fill(np.nan)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", list(larger_than_cache_cases()), ids=str)
def test_larger_than_the_cache(
    case: Case, data_format: str, dtype: np.dtype[Any], isa: str
) -> None:
    """A batch of copies of one image, so many that storing past the caches is worth it."""
    input, filter, nhwc = exact_data(case)
    image = to_format(input, data_format).astype(dtype)
    copies = CACHE_BYTES // image.nbytes
    got = depthwise.depthwise_conv2d(
        np.repeat(image, copies, axis=0), filter.astype(dtype), **case.arguments(data_format)
    )
    first = np.ascontiguousarray(got[:1])
    assert_matches(first, expected_in(nhwc, data_format), dtype, exact=True)
    # Comparing byte by byte is quicker than the reference would be.
    assert all(np.array_equal(got[b].view(np.uint8), got[0].view(np.uint8)) for b in range(copies))


@pytest.mark.parametrize("filter_size", [3, 11])
def test_one_large_photograph(filter_size: int, isa: str) -> None:
    """An image of few channels, larger than the caches, that repeats itself every 40 columns."""
    random = np.random.default_rng(2)
    rows = random.integers(-4, 5, (1, 1000, 40, 3), np.int8)
    filter = random.integers(-4, 5, (filter_size, filter_size, 3, 1), np.int8)
    got = depthwise.depthwise_conv2d(
        np.tile(rows, (1, 1, 75, 1)).astype(np.float32), filter.astype(np.float32), [1] * 4, "VALID"
    )
    expected = expect(np.tile(rows, (1, 1, 2, 1)), filter, [1] * 4, "VALID")
    period: Array = expected.values[:, :, :40]
    columns = 3000 - filter_size + 1
    want = np.tile(period, (1, 1, 75, 1))[:, :, :columns].astype(np.float32)
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()
