"""NHWC pixels that begin within a line of the cache, as NumPy's do, and whose channels fill lines.

The vectors of channels then begin with lines, but for one of both ends of a pixel (`EndsLoad` in
native/channel_arrays.h): nothing between its halves, before the arrays or after them takes part.
"""

from __future__ import annotations

import numpy as np
import pytest

from cases import Case
from comparator import Expected, assert_matches
from depthwise import _kernels, _numpy
from depthwise._geometry import make_geometry
from families import pixel_end_cases, single_pixel_cases
from layouts import contiguous_at
from operations import BACKPROP_INPUT, FORWARD, Operation, exact_data

LINE = 64
GUARD = 1024  # elements
CASES = [*pixel_end_cases(), *single_pixel_cases()]

ELEMENTS_OFF = pytest.mark.parametrize("elements_off", [1, 4, 15])


@pytest.fixture(autouse=True)
def direct(direct_sums: None) -> None:
    """A transform is not exact."""


@ELEMENTS_OFF
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("operation", [FORWARD, BACKPROP_INPUT], ids=str)
def test_values_and_what_is_around(
    operation: Operation, case: Case, elements_off: int, isa: str
) -> None:
    operands, expected = exact_data(operation, case)
    first, second = (contiguous_at(array.astype(np.float32), elements_off) for array in operands)
    want = expected.values
    block = contiguous_at(np.full(want.size + 2 * GUARD, np.nan, np.float32), elements_off)
    result = block[GUARD : GUARD + want.size].reshape(want.shape)
    assert result.ctypes.data % LINE == first.ctypes.data % LINE == 4 * elements_off
    operation.write_into(result, case, (first, second), "NHWC")
    assert_matches(result, expected, np.dtype(np.float32), exact=True)
    assert np.isnan(block[:GUARD]).all()
    assert np.isnan(block[GUARD + want.size :]).all()


@ELEMENTS_OFF
@pytest.mark.parametrize("case", CASES[::3], ids=str)
def test_bias(case: Case, elements_off: int, isa: str) -> None:
    operands, expected = exact_data(FORWARD, case)
    input, filter = (contiguous_at(array.astype(np.float32), elements_off) for array in operands)
    bias = np.random.default_rng(1).integers(-99, 100, case.channels)
    geometry = make_geometry(input.shape, filter.shape, **case.arguments("NHWC"))
    dtype, code = _numpy._dtype_and_code(input.dtype)
    got = _kernels.forward(geometry, dtype, code, input, filter, bias.astype(np.float32))
    with_bias = Expected(expected.values + bias, expected.magnitude + abs(bias), expected.allowed)
    assert_matches(got, with_bias, dtype, exact=True)
