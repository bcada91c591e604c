"""What the specification says of values: padding, NaN and infinity, overflow, one rounding."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cases import Case, expected_in, random_data, to_format
from comparator import BFLOAT16, DTYPES, Array, Expected, assert_matches, assert_same_bits, expect
from depthwise import depthwise_conv2d
from depthwise._reference import depthwise_conv2d_reference

# One of each kind of kernel: small filters, packed ones, few channels, strides, dilation, padding.
CASES = [
    Case((9, 10), (3, 3), 17),
    Case((9, 10), (3, 3), 16, strides=(2, 2)),
    Case((11, 12), (5, 5), 18),
    Case((9, 18), (7, 7), 16, strides=(2, 2)),
    Case((9, 19), (3, 3), 3),
    Case((9, 18), (11, 11), 3),
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


def run(case: Case, input: Array, filter: Array, data_format: str) -> Array:
    """Convolve an NHWC input in `data_format`."""
    return depthwise_conv2d(to_format(input, data_format), filter, **case.arguments(data_format))


@EVERY_DTYPE
@FORMATS
@EVERY_CASE
def test_infinite_taps_on_padding_contribute_nothing(
    case: Case, data_format: str, dtype: np.dtype[Any], isa: str
) -> None:
    """Every corner and edge of the filter in turn is infinite or NaN."""
    input, filter = random_data(case, dtype)
    filter_height, filter_width = case.filter_size
    places = {(0, 0), (0, filter_width - 1), (filter_height - 1, 0), (-1, -1)}
    places |= {(filter_height // 2, 0), (0, filter_width // 2), (-1, filter_width // 2)}
    for place, value in zip(sorted(places), [np.inf, np.nan, -np.inf] * 3, strict=False):
        spoilt = filter.copy()
        spoilt[place] = value
        expected = expect(input, spoilt, **case.arguments("NHWC"))
        got = run(case, input, spoilt, data_format)
        context = f"{value} at {place}"
        assert_matches(got, expected_in(expected, data_format), dtype, exact=False, context=context)


@EVERY_DTYPE
@EVERY_CASE
def test_a_wholly_infinite_filter(case: Case, dtype: np.dtype[Any], isa: str) -> None:
    input, filter = random_data(case, dtype)
    input = np.abs(input) + input.dtype.type(1)
    filter = np.full_like(filter, np.inf)
    expected = expect(input, filter, **case.arguments("NHWC"))
    for data_format in ("NHWC", "NCHW"):
        got = run(case, input, filter, data_format)
        assert_matches(got, expected_in(expected, data_format), dtype, exact=True)
        assert not np.isnan(got).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@FORMATS
@EVERY_CASE
def test_containment(case: Case, data_format: str, value: float, isa: str) -> None:
    """A special pixel reaches exactly the outputs whose window covers it, the others bit for bit.

    Where it goes is found by convolving a marker with a filter of ones.
    """
    input, filter = random_data(case, np.dtype(np.float32))
    clean = run(case, input, filter, data_format)
    random = case.random()
    for _ in range(6):
        pixel = tuple(int(random.integers(size)) for size in input.shape)
        marker = np.zeros(input.shape)
        marker[pixel] = 1
        covered = depthwise_conv2d_reference(
            to_format(marker, data_format), np.ones_like(filter), **case.arguments(data_format)
        ).astype(bool)
        spoilt = input.copy()
        spoilt[pixel] = value
        got = run(case, spoilt, filter, data_format)
        np.testing.assert_array_equal(~np.isfinite(got), covered)
        assert_same_bits(np.where(covered, 0, got), np.where(covered, 0, clean), f"pixel {pixel}")
        if not np.isnan(value):
            assert np.isinf(got[covered]).all(), "an infinity alone makes no NaN"


@FORMATS
@EVERY_CASE
def test_a_zero_tap_times_infinity_is_nan(case: Case, data_format: str, isa: str) -> None:
    """Only padding is left out of the sum: a zero in the filter is multiplied like any value."""
    input, filter = random_data(case, np.dtype(np.float32))
    filter = np.zeros_like(filter)
    input[:, case.size[0] // 2, case.size[1] // 2] = np.inf
    got = run(case, input, filter, data_format)
    expected = expect(input, filter, **case.arguments("NHWC"))
    assert_matches(got, expected_in(expected, data_format), np.float32, exact=True)


@FORMATS
@EVERY_CASE
def test_many_special_values(case: Case, data_format: str, isa: str) -> None:
    input, filter = random_data(case, np.dtype(np.float32))
    random = case.random()
    input.ravel()[random.choice(input.size, input.size // 10)] = np.nan
    input.ravel()[random.choice(input.size, input.size // 10)] = np.inf
    input.ravel()[random.choice(input.size, input.size // 10)] = -np.inf
    got = run(case, input, filter, data_format)
    expected = expect(input, filter, **case.arguments("NHWC"))
    assert_matches(got, expected_in(expected, data_format), np.float32, exact=False)


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
def test_zero_sums_are_positive(dtype: np.dtype[Any], isa: str) -> None:
    for case in CASES:
        input, filter = np.full(case.input_shape, -0.0, dtype), np.ones(case.filter_shape, dtype)
        for data_format in ("NHWC", "NCHW"):
            got = run(case, input, filter, data_format)
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
    expected = Expected(np.full((1, 1, 1, 1), 4.0), np.full((1, 1, 1, 1), 4.0), taps=4)
    assert_matches(got, expected, ml_dtypes.bfloat16, exact=True)
