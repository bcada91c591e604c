"""NHWC pixels that begin within a line of the cache, as NumPy's do, and whose channels fill lines.

The vectors of channels then begin with lines, but for one of both ends of a pixel (`EndsLoad` in
native/channel_arrays.h): nothing between its halves, before the arrays or after them takes part.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cases import Case
from comparator import Array, Expected, assert_matches
from depthwise import _native, set_num_threads
from depthwise._geometry import make_geometry
from layouts import contiguous_at
from operations import BACKPROP_INPUT, FORWARD, Operation, exact_data
from pixel_families import pixel_block_cases, pixel_end_cases, single_pixel_cases

# A transform is not exact.
pytestmark = pytest.mark.usefixtures("direct_sums", "restored_threads")

LINE = 64
GUARD = 1024  # elements
FLOAT32 = np.dtype(np.float32)
CASES = [
    case
    for case in (*pixel_end_cases(), *single_pixel_cases(), *pixel_block_cases())
    if case.channels % 16 == 0
]
# Threads, how many MiB the data are taken for, and how many elements after a line they begin. Far
# data are computed by pairs and blocks of pixels, or fetched ahead.
SITUATIONS = [(1, 0, 1), (1, 0, 4), (1, 0, 15), (2, 0, 4), (5, 0, 4), (1, 2.5, 4), (1, 4, 4)]
SITUATIONS += [(1, 12, 4), (3, 12, 4)]


def result_between_guards(shape: tuple[int, ...], elements_off: int) -> tuple[Array, Array]:
    """Return a result of NaN, and the memory around it."""
    size = int(np.prod(shape))
    block = contiguous_at(np.full(size + 2 * GUARD, np.nan, np.float32), elements_off)
    return block[GUARD : GUARD + size].reshape(shape), block


def assert_guards_are_whole(block: Array) -> None:
    assert np.isnan(block[:GUARD]).all(), "written before the result"
    assert np.isnan(block[-GUARD:]).all(), "written after the result"


@pytest.mark.parametrize(("threads", "mebibytes", "elements_off"), SITUATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("operation", [FORWARD, BACKPROP_INPUT], ids=str)
def test_values_and_what_is_around(
    operation: Operation,
    case: Case,
    threads: int,
    mebibytes: float,
    elements_off: int,
    isa: str,
    assume_bytes: Callable[[float], None],
) -> None:
    operands, expected = exact_data(operation, case)
    first, second = (contiguous_at(array.astype(FLOAT32), elements_off) for array in operands)
    result, block = result_between_guards(expected.values.shape, elements_off)
    assert result.ctypes.data % LINE == first.ctypes.data % LINE == 4 * elements_off
    set_num_threads(threads)
    assume_bytes(mebibytes * 2.0**20)
    operation.write_into(result, case, (first, second), "NHWC")
    assert_matches(result, expected, FLOAT32, exact=True)
    assert_guards_are_whole(block)


def convolve_into(
    result: Array, case: Case, input: Array, filter: Array, bias: Array | None
) -> None:
    geometry = make_geometry(input.shape, filter.shape, **case.arguments("NHWC"))
    _native.forward(geometry.native, 0, input, filter, result, bias)


@pytest.mark.parametrize("elements_off", [1, 4, 15])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bias(case: Case, elements_off: int, isa: str) -> None:
    operands, expected = exact_data(FORWARD, case)
    input, filter = (contiguous_at(array.astype(FLOAT32), elements_off) for array in operands)
    bias = np.random.default_rng(1).integers(-99, 100, case.channels)
    with_bias = Expected(expected.values + bias, expected.magnitude + abs(bias), expected.allowed)
    result, block = result_between_guards(expected.values.shape, elements_off)
    convolve_into(result, case, input, filter, bias.astype(FLOAT32))
    assert_matches(result, with_bias, FLOAT32, exact=True)
    assert_guards_are_whole(block)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_slices_and_reversed_images(case: Case, isa: str) -> None:
    """Pixels that are further apart than their channels reach, and in any order."""
    operands, expected = exact_data(FORWARD, case)
    input, filter = (array.astype(FLOAT32) for array in operands)
    batch, height, width, channels = input.shape
    for step in (1, -1):
        shape = (batch + 1, height + 2, width + 1, channels + 32)
        larger = contiguous_at(np.full(shape, np.nan, FLOAT32), 4)
        image = larger[1:, 1 : height + 1, :width, 16 : 16 + channels][:, ::step, ::step]
        image[...] = input
        result, block = result_between_guards(expected.values.shape, 4)
        lowest = min(row.ctypes.data for row in (image[0, 0, 0], image[0, -1, -1]))
        assert lowest % LINE == result.ctypes.data % LINE == 16
        convolve_into(result, case, image, filter, None)
        assert_matches(result, expected, FLOAT32, exact=True)
        assert_guards_are_whole(block)
