"""What the specification says of values: padding, NaN and infinity, overflow, one rounding."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cases import Case
from comparator import BFLOAT16, DTYPES, Expected, assert_matches, assert_same_bits
from depthwise import _native, depthwise_conv2d
from depthwise._reference import depthwise_conv2d_reference
from operations import (
    BACKPROP_FILTER,
    BACKPROP_INPUT,
    EVERY_OPERATION,
    FORWARD,
    Operands,
    Operation,
)

# One of each kind of kernel: small filters, packed ones, few channels, strides, dilation, padding.
CASES = [
    Case((9, 10), (3, 3), 17),
    Case((9, 10), (3, 3), 16, strides=(2, 2)),
    Case((7, 7), (3, 3), 17),
    Case((9, 40), (3, 3), 16, strides=(2, 2)),
    Case((8, 38), (5, 4), 3, strides=(2, 2)),
    Case((9, 38), (5, 5), 3, strides=(2, 2)),
    Case((8, 26), (5, 5), 16),
    Case((11, 12), (5, 5), 18),
    Case((9, 18), (7, 7), 16, strides=(2, 2)),
    Case((9, 19), (3, 3), 3),
    Case((9, 39), (3, 3), 3, strides=(2, 2)),
    Case((9, 18), (11, 11), 3),
    Case((20, 70), (7, 5), 3),
    Case((16, 30), (3, 3), 2, batch=2),
    Case((31, 29), (7, 7), 1, padding=((3, 3), (9, 0)), strides=(2, 1)),
    Case((24, 31), (5, 3), 2, 2, dilations=(2, 4)),
    Case((6, 60), (2, 3), 17),
    Case((20, 14), (3, 1), 17),
    Case((5, 60), (1, 5), 17),
    Case((1, 150), (1, 12), 16),
    Case((70, 40), (5, 3), 2),
    Case((8, 9), (3, 3), 5, 3),
    Case((12, 13), (3, 3), 16, dilations=(2, 3)),
    Case((12, 13), (3, 3), 2, dilations=(3, 2)),
    Case((6, 7), (5, 4), 16, padding=((3, 6), (7, 2))),
    Case((6, 7), (3, 3), 1, padding=((3, 0), (0, 4)), strides=(1, 3)),
    Case((4, 5), (31, 31), 17),
    Case((20, 21), (15, 15), 16),
]
FORMATS = pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=str)
EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def check(
    operation: Operation,
    case: Case,
    operands: Operands,
    data_format: str,
    *,
    exact: bool = False,
    context: str = "",
) -> None:
    """Compare with the reference; the operands are NHWC."""
    expected = operation.expect(case, operands)
    got = operation(case, operation.to_format(operands, data_format), data_format)
    want = operation.expected_in(expected, data_format)
    assert_matches(got, want, operands[0].dtype, exact=exact, context=context)


@EVERY_DTYPE
@FORMATS
@EVERY_CASE
@pytest.mark.parametrize("operation", [FORWARD, BACKPROP_INPUT], ids=str)
def test_infinite_taps_on_padding_contribute_nothing(
    operation: Operation, case: Case, data_format: str, dtype: np.dtype[Any], isa: str
) -> None:
    """Every corner and edge of the filter in turn is infinite or NaN."""
    operands = operation.random_data(case, dtype)
    filter = operands[operation.operands.index("filter")]
    clean = filter.copy()
    filter_height, filter_width = case.filter_size
    places = {(0, 0), (0, filter_width - 1), (filter_height - 1, 0), (-1, -1)}
    places |= {(filter_height // 2, 0), (0, filter_width // 2), (-1, filter_width // 2)}
    for place, value in zip(sorted(places), [np.inf, np.nan, -np.inf] * 3, strict=False):
        filter[...] = clean
        filter[place] = value
        check(operation, case, operands, data_format, context=f"{value} at {place}")


@EVERY_DTYPE
@EVERY_CASE
@EVERY_OPERATION
def test_a_wholly_infinite_array(
    operation: Operation, case: Case, dtype: np.dtype[Any], restored_isa: None
) -> None:
    """Where the other one is positive; a zero of the padding would make NaN of it."""
    first, second = (abs(array) + dtype.type(1) for array in operation.random_data(case, dtype))
    for operands in ((first, np.full_like(second, np.inf)), (np.full_like(first, np.inf), second)):
        nhwc = operation.expect(case, operands)
        assert not np.isnan(nhwc.values).any()
        for data_format in ("NHWC", "NCHW"):
            expected = operation.expected_in(nhwc, data_format)
            for isa in _native.supported_isas():
                _native.set_isa(isa)
                got = operation(case, operation.to_format(operands, data_format), data_format)
                assert_matches(got, expected, dtype, exact=True, context=f"{data_format}, {isa}")


@pytest.mark.usefixtures("direct_sums")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@FORMATS
@EVERY_CASE
@EVERY_OPERATION
def test_containment(
    operation: Operation, case: Case, data_format: str, value: float, isa: str
) -> None:
    """A special element reaches exactly the results it takes part in, the others bit for bit.

    Where it goes is found by replacing it by a marker among zeros, and the other array by ones.
    """
    clean = operation.random_data(case, np.dtype(np.float32))
    want = operation(case, operation.to_format(clean, data_format), data_format)
    random = case.random()
    for number in range(8):
        spoilt, marker = list(clean), [np.ones_like(array) for array in clean]
        which = number % 2
        place = tuple(int(random.integers(size)) for size in spoilt[which].shape)
        spoilt[which] = clean[which].copy()
        spoilt[which][place] = value
        marker[which] = np.zeros_like(clean[which])
        marker[which][place] = 1
        reached = operation.expect(case, (marker[0], marker[1])).values.astype(bool)
        reached = operation.result_in(reached, data_format)
        operands = operation.to_format((spoilt[0], spoilt[1]), data_format)
        got = operation(case, operands, data_format)
        context = f"{operation.operands[which]} at {place}"
        np.testing.assert_array_equal(~np.isfinite(got), reached, context)
        assert_same_bits(np.where(reached, 0, got), np.where(reached, 0, want), context)
        if not np.isnan(value):
            assert np.isinf(got[reached]).all(), "an infinity alone makes no NaN"


@FORMATS
@EVERY_CASE
@EVERY_OPERATION
def test_zero_times_infinity_is_nan(
    operation: Operation, case: Case, data_format: str, isa: str
) -> None:
    """Only padding is left out of the sum: a zero in an array is multiplied like any value."""
    for which in (0, 1):
        arrays = [np.zeros(case.shapes[name], np.float32) for name in operation.operands]
        pixels = arrays[which]
        if operation.operands[which] != "filter":
            pixels = np.moveaxis(pixels, 0, 2)
        pixels[pixels.shape[0] // 2, pixels.shape[1] // 2] = np.inf
        check(operation, case, (arrays[0], arrays[1]), data_format, exact=True)


@FORMATS
@EVERY_CASE
@EVERY_OPERATION
def test_many_special_values(operation: Operation, case: Case, data_format: str, isa: str) -> None:
    operands = operation.random_data(case, np.dtype(np.float32))
    random = case.random()
    for array, name in zip(operands, operation.operands, strict=True):
        # So many in the filter, or anywhere that a filter gradient sums over, would reach all.
        count = array.size // 10 if name == "input" and operation is FORWARD else 2
        for value in (np.nan, np.inf, -np.inf):
            array.ravel()[random.choice(array.size, min(count, array.size))] = value
    check(operation, case, operands, data_format)


@pytest.mark.parametrize("channels", [1, 3, 16, 17])
@pytest.mark.parametrize("filter_size", [3, 7])
def test_float16_overflows_to_infinity(channels: int, filter_size: int, isa: str) -> None:
    """Partial sums beyond 65504 are no overflow; a final one is."""
    input = np.full((1, 20, 20, channels), 1000, np.float16)
    filter = np.full((filter_size, filter_size, channels, 1), 100, np.float16)
    assert np.isposinf(depthwise_conv2d(input, filter, [1] * 4, "VALID")).all()
    assert np.isneginf(depthwise_conv2d(-input, filter, [1] * 4, "VALID")).all()
    filter[filter_size // 2 + 1 :] = -100
    filter[filter_size // 2] = 1
    want = np.full((1, 21 - filter_size, 21 - filter_size, channels), 1000 * filter_size)
    got = depthwise_conv2d(input, filter, [1] * 4, "VALID")
    assert_same_bits(got, want.astype(np.float16))


@pytest.mark.parametrize("channels", [1, 3, 16, 17])
@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [(np.float16, 11), (BFLOAT16, 8)],
    ids=["float16", "bfloat16"],
)
def test_one_rounding_at_the_end(dtype: Any, exponent: int, channels: int, isa: str) -> None:
    """Sums of one large and many small terms, each of which would be lost alone.

    2**exponent + 1 is halfway between two values, so that a single small term more decides.
    """
    filter = np.ones((3, 3, channels, 1), dtype)
    for small in (0.25, 0.125, -0.125):
        input = np.full((1, 3, 3, channels), small)
        input[:, 0, 0] = 2.0**exponent
        input[:, 1, 1] = 1.0
        total = 2.0**exponent + 1 + 7 * small
        want = np.full((1, 1, 1, channels), total).astype(dtype)
        assert_same_bits(depthwise_conv2d(input.astype(dtype), filter, [1] * 4, "VALID"), want)


@pytest.mark.parametrize("channels", [1, 3, 16, 17])
@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [(np.float16, 11), (BFLOAT16, 8)],
    ids=["float16", "bfloat16"],
)
def test_filter_gradients_are_rounded_once(
    dtype: Any, exponent: int, channels: int, isa: str
) -> None:
    """The same over a batch of large images: whatever is added up in between is float32."""
    case = Case((40, 41), (3, 3), channels, padding="VALID", batch=5)
    input = np.zeros(case.shapes["input"])
    out_backprop = np.ones(case.shapes["out_backprop"], dtype)
    for small in (0.25, -0.25):
        input[:] = 0
        input[0, 10, 10] = 2.0**exponent
        input[2, 20, 20] = 1.0
        input[:, 30, 10] = small
        want = np.full(case.shapes["filter"], 2.0**exponent + 1 + 5 * small).astype(dtype)
        got = BACKPROP_FILTER(case, (input.astype(dtype), out_backprop), "NHWC")
        assert_same_bits(got, want)


def test_filter_gradients_overflow_only_at_the_end(isa: str) -> None:
    """Partial sums far beyond 65504, of single images too, are no overflow of float16."""
    case = Case((40, 41), (3, 3), 17, padding="VALID", batch=2)
    input = np.full(case.shapes["input"], 1024, np.float16)
    out_backprop = np.full(case.shapes["out_backprop"], 64, np.float16)
    assert np.isposinf(BACKPROP_FILTER(case, (input, out_backprop), "NHWC")).all()
    out_backprop[1] = -64
    out_backprop[0, 0, 0] = 65
    got = BACKPROP_FILTER(case, (input, out_backprop), "NHWC")
    assert_same_bits(got, np.full_like(got, 1024))


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=["float16", "bfloat16"])
def test_every_small_value_passes_unchanged(dtype: Any, isa: str) -> None:
    """A single tap of 1 gives back all 65536 bit patterns: subnormals, infinities and NaN."""
    values = np.arange(2**16, dtype=np.uint16).view(dtype)
    # A sum starts at +0, and +0 + -0 is +0.
    minus_zero = 0x8000
    want = values.copy()
    want[minus_zero] = 0
    for shape in [(1, 64, 64, 16), (1, 16, 4096, 1), (1, 2, 1024, 32), (1, 4, 1024, 16)]:
        count = int(np.prod(shape))
        filter = np.ones((1, 1, shape[3], 1), dtype)
        for part in range(0, 2**16, count):
            input = values[part : part + count].reshape(shape)
            got = depthwise_conv2d(input, filter, [1] * 4, "VALID")
            assert_same_bits(got, want[part : part + count].reshape(shape))


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=["float16", "bfloat16"])
def test_rounding_is_to_nearest_even(dtype: Any, isa: str) -> None:
    """Halfway cases between all neighbours of a wide range, made as `a*1 + b*1`."""
    bits = np.arange(2**14, dtype=np.uint16)
    low, high = bits.view(dtype), (bits + 1).view(dtype)
    half = (high.astype(np.float64) - low.astype(np.float64)) / 2
    exact_half = half.astype(dtype)
    usable = (exact_half.astype(np.float64) == half) & (half > 0)
    low, exact_half = low[usable], exact_half[usable]
    total = low.astype(np.float64) + exact_half.astype(np.float64)
    # The accumulator has 24 bits: the sum of the two must fit.
    fits = total.astype(np.float32).astype(np.float64) == total
    low, exact_half, total = low[fits], exact_half[fits], total[fits]
    assert low.size > 1000
    for sign in (1, -1):
        input = (np.stack([low, exact_half]) * np.array(sign, dtype)).reshape(1, 2, -1, 1)
        got = depthwise_conv2d(input, np.ones((2, 1, 1, 1), dtype), [1] * 4, "VALID")
        assert_same_bits(got.ravel(), (sign * total).astype(np.float32).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_subnormals_are_not_flushed(dtype: Any, isa: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    input = np.arange(1, 1 + 4 * 5 * 17).reshape(1, 4, 5, 17).astype(dtype) * tiny
    for filter_size in (1, 3):
        filter = np.ones((filter_size, filter_size, 17, 1), dtype)
        got = depthwise_conv2d(input, filter, [1] * 4, "SAME")
        integers = depthwise_conv2d_reference(input / tiny, filter, [1] * 4, "SAME")
        assert_same_bits(got, integers.astype(dtype) * tiny)


@EVERY_DTYPE
@EVERY_OPERATION
def test_zero_sums_are_positive(operation: Operation, dtype: np.dtype[Any], isa: str) -> None:
    for case in CASES:
        first, second = (case.shapes[name] for name in operation.operands)
        operands = (np.full(first, -0.0, dtype), np.ones(second, dtype))
        for data_format in ("NHWC", "NCHW"):
            got = operation(case, operation.to_format(operands, data_format), data_format)
            assert_same_bits(got, np.zeros_like(got), str(case))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_accumulates_in_its_own_type_or_better(dtype: Any, isa: str) -> None:
    """One unit in the last place of 1.0 survives."""
    eps = np.finfo(dtype).eps
    input = np.array([1, eps], dtype).reshape(1, 1, 2, 1)
    got = depthwise_conv2d(input, np.ones((1, 2, 1, 1), dtype), [1] * 4, "VALID")
    assert got.item() == 1 + eps


def test_magnitudes_at_the_end_of_float32(isa: str) -> None:
    """A finite result next to the largest float32 stays finite, one beyond becomes infinite."""
    largest = np.finfo(np.float32).max
    input = np.full((1, 1, 1, 16), largest, np.float32)
    for tap, want in ((1.0, largest), (1.0000001, np.inf), (-2.0, -np.inf)):
        filter = np.full((1, 1, 16, 1), tap, np.float32)
        got = depthwise_conv2d(input, filter, [1] * 4, "VALID")
        assert_same_bits(got, np.full((1, 1, 1, 16), want, np.float32))


def test_bfloat16_is_ml_dtypes_type() -> None:
    input = np.ones((1, 2, 2, 1), ml_dtypes.bfloat16)
    got = depthwise_conv2d(input, input.transpose(1, 2, 0, 3), [1] * 4, "VALID")
    assert got.dtype == ml_dtypes.bfloat16
    expected = Expected(np.full((1, 1, 1, 1), 4.0), np.full((1, 1, 1, 1), 4.0), allowed=6)
    assert_matches(got, expected, ml_dtypes.bfloat16, exact=True)
