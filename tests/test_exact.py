"""Small signed integers, whose sums are exact: results equal the reference bit for bit.

Every case runs on every instruction set, in both data formats and all dtypes, from aligned memory
after a page that may not be read, from unaligned memory before one, and from a slice of a larger
array with NaN all around.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cases import Case
from comparator import DTYPES, Array, Expected, assert_matches
from families import all_cases, larger_than_cache_cases
from layouts import after_forbidden_page, before_forbidden_page, sliced
from operations import BACKPROP_FILTER, EVERY_OPERATION, EXACT, FORWARD, Operation, exact_data

# Of the image alone.
CACHE_BYTES = 24_000_000

# A transform, which large filters may be computed by, is not exact: see test_transform.py.
pytestmark = pytest.mark.usefixtures("direct_sums")

MEMORY = (after_forbidden_page, before_forbidden_page, sliced)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", all_cases(), ids=str)
@EVERY_OPERATION
def test_every_case(operation: Operation, case: Case, data_format: str, isa: str) -> None:
    operands, nhwc = exact_data(operation, case)
    expected = operation.expected_in(nhwc, data_format)
    first, second = operation.to_format(operands, data_format)
    for dtype in DTYPES:
        typed_first, typed_second = first.astype(dtype), second.astype(dtype)
        for place in MEMORY:
            got = operation(case, (place(typed_first), place(typed_second)), data_format)
            context = f"{case}, {data_format}, {dtype}, {place.__name__}, {isa}"
            assert_matches(got, expected, dtype, exact=True, context=context)
            # The next result may get this memory: it must not find the right answer there.
            got.fill(np.nan)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", list(larger_than_cache_cases()), ids=str)
@EVERY_OPERATION
def test_larger_than_the_cache(
    operation: Operation, case: Case, data_format: str, dtype: np.dtype[Any], isa: str
) -> None:
    """A batch of copies of one image, so many that storing past the caches is worth it."""
    # A filter gradient sums over all copies, which must stay exact.
    operands, nhwc = exact_data(operation, case, 2 if operation is BACKPROP_FILTER else 8)
    expected = operation.expected_in(nhwc, data_format)
    image_bytes = max(array.size for array in operands) * dtype.itemsize
    copies = CACHE_BYTES // image_bytes
    many = tuple(
        array if name == "filter" else np.repeat(array, copies, axis=0)
        for name, array in zip(
            operation.operands, operation.to_format(operands, data_format), strict=True
        )
    )
    first, second = (array.astype(dtype) for array in many)
    got = operation(case.repeated(copies), (first, second), data_format)
    if operation is BACKPROP_FILTER:
        assert expected.magnitude.max() * copies < EXACT
        expected = Expected(expected.values * copies, expected.magnitude * copies, 0)
        assert_matches(got, expected, dtype, exact=True)
        return
    assert_matches(np.ascontiguousarray(got[:1]), expected, dtype, exact=True)
    # Comparing byte by byte is quicker than the reference would be.
    assert all(np.array_equal(got[b].view(np.uint8), got[0].view(np.uint8)) for b in range(copies))


@pytest.mark.parametrize("filter_size", [3, 11])
def test_one_large_photograph(filter_size: int, isa: str) -> None:
    """An image of few channels, larger than the caches, that repeats itself every 40 columns."""
    random = np.random.default_rng(2)
    rows = random.integers(-4, 5, (1, 1000, 40, 3), np.int8)
    filter = random.integers(-4, 5, (filter_size, filter_size, 3, 1), np.int8)
    case = Case((1000, 3000), (filter_size, filter_size), padding="VALID")
    operands = (np.tile(rows, (1, 1, 75, 1)).astype(np.float32), filter.astype(np.float32))
    got = FORWARD(case, operands, "NHWC")
    two_periods = Case((1000, 80), (filter_size, filter_size), padding="VALID")
    expected = FORWARD.expect(two_periods, (np.tile(rows, (1, 1, 2, 1)), filter))
    period: Array = expected.values[:, :, :40]
    columns = 3000 - filter_size + 1
    want = np.tile(period, (1, 1, 75, 1))[:, :, :columns].astype(np.float32)
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()
