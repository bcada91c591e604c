"""Large filters by a transform: within the error bound everywhere, whatever the values are.

A transform mixes all columns of a row. What these tests look for is what that may spoil: outputs
whose own window has little or nothing in it.
"""

from __future__ import annotations

import dataclasses
import math
from itertools import cycle, product
from typing import Any

import numpy as np
import pytest

from cases import Case
from comparator import DTYPES, Array, assert_matches, assert_same_bits
from depthwise import _native, set_num_threads
from layouts import after_forbidden_page, before_forbidden_page, sliced
from operations import BACKPROP_FILTER, BACKPROP_INPUT, FORWARD, Operands, Operation

# One strip of columns and several, strips of rows, vectors of channels that are not full, a filter
# wider than the image, a multiplier, dilation, windows that hold nothing but padding, all of some
# rows among them; more padding above the image than output rows, and than a strip has; filters that
# are hardly worth it, and columns too few for outputs to be verified together.
CASES = [
    Case((56, 57), (31, 31), 17),
    Case((48, 49), (17, 17), 30, batch=2),
    Case((20, 200), (21, 21), 16),
    Case((150, 61), (33, 33), 16),
    Case((37, 38), (37, 37), 18),
    Case((31, 24), (19, 61), 16, padding=((9, 9), (30, 30))),
    Case((60, 65), (22, 18), 30, padding="VALID"),
    Case((36, 37), (21, 23), 10, 3),
    Case((70, 99), (21, 23), 16, dilations=(2, 3)),
    Case((63, 64), (25, 27), 16, padding=((20, 3), (0, 30))),
    Case((24, 25), (21, 21), 16, padding=((23, 21), (10, 10))),
    Case((28, 29), (13, 13), 16),
    Case((100, 9), (31, 19), 16),
    Case((20, 20), (43, 13), 16),
    Case((47, 50), (87, 79), 16, dilations=(2, 1)),
]
SMALL = CASES[1]
# Fewer than a vector has lanes.
FEW_CHANNELS = Case((60, 61), (45, 47), 8)
# In the filter gradient an image's out_backprop is the filter and the taps are the outputs, so that
# it is strides which make interleaved problems. Chunks of several images, of one, of different
# lengths.
FILTER_GRADIENTS = [
    Case((28, 29), (31, 31), 30, batch=2),
    Case((20, 90), (21, 21), 16),
    Case((60, 61), (31, 30), 16, padding=((20, 3), (0, 30))),
    Case((31, 24), (19, 61), 16, padding=((9, 9), (30, 30))),
    Case((64, 65), (33, 33), 16, strides=(2, 2)),
    Case((95, 90), (41, 43), 16, strides=(2, 3)),
    Case((36, 37), (21, 23), 10, 3),
    Case((60, 65), (22, 18), 30, padding="VALID"),
    Case((20, 21), (13, 13), 32, batch=67),
    Case((28, 29), (10, 10), 16),
    FEW_CHANNELS,
]
MEMORY = (after_forbidden_page, before_forbidden_page, sliced)
FORMATS = pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
# Input gradients that sum over a multiplier's channels are not transformed.
PROBLEMS = [
    *((FORWARD, case) for case in CASES),
    *((BACKPROP_INPUT, case) for case in CASES if case.multiplier == 1),
    *((BACKPROP_FILTER, case) for case in FILTER_GRADIENTS),
]
EVERY_PROBLEM = pytest.mark.parametrize(
    ("operation", "case"), PROBLEMS, ids=[f"{operation}-{case}" for operation, case in PROBLEMS]
)


def check(operation: Operation, case: Case, operands: Operands, context: str = "") -> None:
    """Compare with the reference, in both formats; the operands are NHWC."""
    expected = operation.expect(case, operands)
    for data_format in ("NHWC", "NCHW"):
        got = operation(case, operation.to_format(operands, data_format), data_format)
        want = operation.expected_in(expected, data_format)
        assert_matches(
            got, want, operands[0].dtype, exact=False, context=f"{data_format} {context}"
        )


def of_case(case: Case, image: Array, operation: Operation = FORWARD) -> Operands:
    """Return operands of random taps and the given image, float32."""
    first, second = operation.random_data(case, np.dtype(np.float32))
    return (image.astype(np.float32), second) if operation is FORWARD else (first, image)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@EVERY_PROBLEM
def test_random_values(
    operation: Operation, case: Case, dtype: np.dtype[Any], restored_isa: None
) -> None:
    """On every instruction set, between pages that may not be read, and after NaN."""
    operands = operation.random_data(case, dtype)
    nhwc = operation.expect(case, operands)
    for data_format in ("NHWC", "NCHW"):
        expected = operation.expected_in(nhwc, data_format)
        first, second = operation.to_format(operands, data_format)
        for isa, place in zip(_native.supported_isas(), cycle(MEMORY), strict=False):
            _native.set_isa(isa)
            got = operation(case, (place(first), place(second)), data_format)
            context = f"{case}, {data_format}, {dtype}, {place.__name__}, {isa}"
            assert_matches(got, expected, dtype, exact=False, context=context)
            got.fill(np.nan)


@FORMATS
@EVERY_PROBLEM
def test_the_cases_are_transformed(
    operation: Operation, case: Case, data_format: str, isa: str
) -> None:
    """A transform rounds otherwise than the sum of the taps; without this, nothing is tested."""
    operands = operation.random_data(case, np.dtype(np.float32))
    operands = operation.to_format(operands, data_format)
    transformed = operation(case, operands, data_format)
    _native.set_large_filter("direct")
    try:
        direct = operation(case, operands, data_format)
    finally:
        _native.set_large_filter("transform")
    assert (transformed != direct).mean() > 0.5
    np.testing.assert_allclose(transformed, direct, rtol=0, atol=1e-3)


@FORMATS
@EVERY_PROBLEM
def test_same_bits_for_any_number_of_threads(
    operation: Operation, case: Case, data_format: str, isa: str, restored_threads: None
) -> None:
    operands = operation.random_data(case, np.dtype(np.float32))
    operands = operation.to_format(operands, data_format)
    set_num_threads(1)
    want = operation(case, operands, data_format)
    for threads in (2, 5):
        set_num_threads(threads)
        assert operation(case, operands, data_format).tobytes() == want.tobytes()


@pytest.mark.parametrize(
    ("case", "quarters"), [*((case, 1) for case in CASES), (SMALL, 2), (SMALL, 3)], ids=str
)
def test_an_impulse_leaves_exact_zeros(case: Case, quarters: int, isa: str) -> None:
    """One pixel of 1000: every output that does not see it is a zero."""
    image = np.zeros(case.shapes["input"])
    image[0, case.size[0] // 3, case.size[1] * quarters // 4] = 1000
    check(FORWARD, case, of_case(case, image))


def test_an_impulse_under_one_tap(isa: str) -> None:
    """One output is not zero; its neighbours are not taken for it."""
    filter = np.zeros(SMALL.shapes["filter"], np.float32)
    filter[8, 8] = 1
    for column in range(20, 24):
        image = np.zeros(SMALL.shapes["input"], np.float32)
        image[0, 20, column] = 1000
        check(FORWARD, SMALL, (image, filter), f"column {column}")


@pytest.mark.parametrize("ratio", [1e-2, 1e-5, 1e-9, 1e-30])
def test_small_values_beside_large_ones(ratio: float, isa: str) -> None:
    """The windows of the right hold nothing but values far below the rounding errors of the left.

    Also of one sign, since the errors of equal numbers add up.
    """
    case = Case((40, 64), (17, 19), 16)
    random = case.random()
    for of_one_sign in (False, True):
        image = random.standard_normal(case.shapes["input"])
        if of_one_sign:
            image = np.full_like(image, 1.1)
        image[:, :, 20:] *= ratio
        check(FORWARD, case, of_case(case, image), f"of one sign: {of_one_sign}")


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-18, 1e15, 1e22, 1e35])
def test_squares_that_overflow_or_underflow(scale: float, isa: str) -> None:
    first, second = FORWARD.random_data(SMALL, np.dtype(np.float32))
    check(FORWARD, SMALL, (first * np.float32(scale), second))
    check(FORWARD, SMALL, (first, second * np.float32(min(scale, 1e30))))


def test_sums_that_overflow_on_the_way(isa: str) -> None:
    """The spectrum of a row overflows where no output does."""
    image = np.full(SMALL.shapes["input"], 3e38, np.float32)
    filter = np.zeros(SMALL.shapes["filter"], np.float32)
    filter[::7, ::7] = 0.05
    check(FORWARD, SMALL, (image, filter))


@pytest.mark.parametrize("ratio", [1e-2, 1e-3, 1e-5, 1e-30])
def test_filter_gradients_of_small_values_beside_large_ones(ratio: float, isa: str) -> None:
    """Right of a column everything is small: some taps meet nothing else.

    Their error may be that of a plain sum of an image's pixels.
    """
    for case in (Case((31, 24), (19, 61), 16, padding=((9, 9), (30, 30))), FEW_CHANNELS):
        image, out_backprop = BACKPROP_FILTER.random_data(case, np.dtype(np.float32))
        image[:, :, case.size[1] // 3 :] *= np.float32(ratio)
        for context in ("everywhere", "zero but for a few rows"):
            expected = dataclasses.replace(
                BACKPROP_FILTER.expect(case, (image, out_backprop)),
                allowed=math.prod(case.output_size) + 2,
            )
            got = BACKPROP_FILTER(case, (image, out_backprop), "NHWC")
            assert_matches(got, expected, np.float32, exact=False, context=f"{case}, {context}")
            out_backprop[:, 5:, :] = 0


@pytest.mark.parametrize(
    "filter_kind", ["one tap", "one on the right", "zeros", "bell", "first row"]
)
def test_sparse_filters(filter_kind: str, isa: str) -> None:
    image, filter = FORWARD.random_data(SMALL, np.dtype(np.float32))
    height, width = SMALL.filter_size
    taps = np.zeros_like(filter)
    if filter_kind == "one tap":
        taps[2, 3] = filter[2, 3]
    elif filter_kind == "one on the right":
        taps[2, 13] = filter[2, 13]
    elif filter_kind == "first row":
        taps[0] = filter[0]
    elif filter_kind == "bell":
        u, v = np.ogrid[:height, :width]
        bell = np.exp(-((u - height // 2) ** 2 + (v - width // 2) ** 2) / 6)
        taps[...] = bell[:, :, None, None]
    check(FORWARD, SMALL, (image, taps))
    image[:, 9:30, 5:33] = 0
    check(FORWARD, SMALL, (image, taps), "with a hole in the image")


@EVERY_PROBLEM
def test_same_bits_for_any_layout(operation: Operation, case: Case, isa: str) -> None:
    """Both formats, as slices of larger arrays, have the bits of NHWC without gaps."""
    nhwc = operation.random_data(case, np.dtype(np.float32))
    want = operation(case, nhwc, "NHWC")
    for data_format in ("NHWC", "NCHW"):
        first, second = operation.to_format(nhwc, data_format)
        got = operation(case, (sliced(first), sliced(second)), data_format)
        assert_same_bits(got, operation.result_in(want, data_format), data_format)


@pytest.mark.parametrize(
    ("operation", "case", "operand"),
    [
        *((FORWARD, case, 0) for case in CASES),
        *((BACKPROP_FILTER, case, operand) for case in FILTER_GRADIENTS for operand in (0, 1)),
    ],
    ids=str,
)
def test_containment(operation: Operation, case: Case, operand: int, restored_isa: None) -> None:
    """A special pixel reaches exactly the results that have a product with it."""
    random = case.random()
    operands = operation.random_data(case, np.dtype(np.float32))
    clean = operation.expect(case, operands)
    for value in (np.nan, np.inf, -np.inf):
        place = tuple(int(random.integers(size)) for size in operands[operand].shape)
        marked = [np.ones_like(array) for array in operands]
        marked[operand] = np.zeros_like(operands[operand])
        marked[operand][place] = 1
        reached = operation.expect(case, (marked[0], marked[1])).values != 0
        spoilt = [array.copy() for array in operands]
        spoilt[operand][place] = value
        for data_format, isa in product(("NHWC", "NCHW"), _native.supported_isas()):
            _native.set_isa(isa)
            given = operation.to_format((spoilt[0], spoilt[1]), data_format)
            got = operation(case, given, data_format)
            if data_format == "NCHW" and operation.result != "filter":
                got = np.moveaxis(got, 1, 3)
            context = f"{value} at {place}, {data_format}, {isa}"
            np.testing.assert_array_equal(~np.isfinite(got), reached, context)
            error = np.abs(got.astype(np.float64) - clean.values)[~reached]
            allowed = (clean.allowed * np.finfo(np.float32).eps * clean.magnitude)[~reached]
            assert (error <= allowed + np.spacing(np.abs(clean.values[~reached]))).all(), context
            if not np.isnan(value):
                assert np.isinf(got[reached]).all(), f"an infinity alone makes no NaN: {context}"
