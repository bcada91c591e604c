"""The comparator accepts a right answer and rejects every kind of wrong one, in both modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cases import Case
from comparator import BFLOAT16, DTYPES, Array, Expected, assert_matches, assert_same_bits
from operations import FORWARD

CASE = Case((6, 7), (3, 3), 4, 2, padding="VALID", batch=2)


def problem(dtype: np.dtype[Any], exact: bool) -> tuple[Array, Array]:
    """Return an input and a filter: small integers, or random values of both signs."""
    random = np.random.default_rng(5)
    if exact:
        input = random.integers(1, 9, (2, 6, 7, 4)) * random.choice([-1, 1], (2, 6, 7, 4))
        return input.astype(dtype), random.integers(1, 9, (3, 3, 4, 2)).astype(dtype)
    input = random.standard_normal((2, 6, 7, 4))
    return input.astype(dtype), random.standard_normal((3, 3, 4, 2)).astype(dtype)


def direct_sum(input: Array, filter: Array) -> Array:
    """Do what a kernel does with VALID padding: accumulate in the wide type, round once."""
    wide = np.float64 if input.dtype == np.float64 else np.float32
    total = np.zeros((2, 4, 5, 4, 2), wide)
    for di, dj in np.ndindex(3, 3):
        window = input[:, di : di + 4, dj : dj + 5, :, np.newaxis]
        total += window.astype(wide) * filter[di, dj].astype(wide)
    return total.reshape(2, 4, 5, 8).astype(input.dtype)


def dropped_tap(input: Array, filter: Array) -> Array:
    filter = filter.copy()
    filter[2, 1] = 0
    return direct_sum(input, filter)


def swapped_channels(input: Array, filter: Array) -> Array:
    return np.ascontiguousarray(direct_sum(input, filter)[..., [1, 0, 2, 3, 4, 5, 6, 7]])


def changed_element(value: Callable[[float], float]) -> Callable[[Array, Array], Array]:
    def change(input: Array, filter: Array) -> Array:
        got = direct_sum(input, filter)
        got[1, 2, 3, 4] = value(float(got[1, 2, 3, 4]))
        return got

    return change


MISTAKES: dict[str, Callable[[Array, Array], object]] = {
    "flipped sign": lambda input, filter: -direct_sum(input, filter),
    "one flipped sign": changed_element(lambda value: -value),
    "dropped tap": dropped_tap,
    "swapped channels": swapped_channels,
    "one wrong element": changed_element(lambda value: value + 1),
    "one NaN": changed_element(lambda value: np.nan),
    "one infinity": changed_element(lambda value: np.inf),
    "one zero": changed_element(lambda value: 0.0),
    "all zero": lambda input, filter: np.zeros_like(direct_sum(input, filter)),
    "all NaN": lambda input, filter: np.full_like(direct_sum(input, filter), np.nan),
    "wrong dtype": lambda input, filter: direct_sum(input, filter).astype(np.longdouble),
    "missing row": lambda input, filter: direct_sum(input, filter)[:, 1:].copy(),
    "missing axis": lambda input, filter: direct_sum(input, filter)[0],
    "broadcastable": lambda input, filter: direct_sum(input, filter)[:1].copy(),
    "transposed": lambda input, filter: np.asfortranarray(direct_sum(input, filter)),
    "a list": lambda input, filter: direct_sum(input, filter).tolist(),
    "a subclass": lambda input, filter: np.ma.asarray(direct_sum(input, filter)),
    "nothing": lambda input, filter: None,
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "bounded"])
def test_accepts_the_direct_sum(dtype: np.dtype[Any], exact: bool) -> None:
    input, filter = problem(dtype, exact)
    expected = FORWARD.expect(CASE, (input, filter))
    assert_matches(direct_sum(input, filter), expected, dtype, exact=exact)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "bounded"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_rejects(mistake: str, dtype: np.dtype[Any], exact: bool) -> None:
    input, filter = problem(dtype, exact)
    expected = FORWARD.expect(CASE, (input, filter))
    got = MISTAKES[mistake](input, filter)
    with pytest.raises(AssertionError):
        assert_matches(got, expected, dtype, exact=exact)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "bounded"])
def test_non_finite_values_must_be_in_their_places(dtype: np.dtype[Any], exact: bool) -> None:
    input, filter = problem(dtype, exact)
    input[0, 1, 1, 0], input[1, 3, 3, 2] = np.nan, -np.inf
    expected = FORWARD.expect(CASE, (input, filter))
    right = direct_sum(input, filter)
    assert np.isnan(right).any() and np.isinf(right).any()
    assert_matches(right, expected, dtype, exact=exact)

    swapped, negated = right.copy(), right.copy()
    swapped[np.isnan(right)], swapped[np.isinf(right)] = np.inf, np.nan
    negated[np.isinf(right)] *= dtype.type(-1)
    for wrong in (swapped, negated):
        with pytest.raises(AssertionError):
            assert_matches(wrong, expected, dtype, exact=exact)
    finite = right.copy()
    finite[~np.isfinite(right)] = 1
    with pytest.raises(AssertionError):
        assert_matches(finite, expected, dtype, exact=exact)


def test_bound_is_the_one_of_the_specification() -> None:
    """For one sum of 9 products: 11 eps of the magnitude are allowed, a little more is not."""
    expected = Expected(np.array([[[[1.0]]]]), np.array([[[[3.0]]]]), allowed=11)
    bound = 11 * 2.0**-23 * 3
    for error in (0.0, bound, -bound):
        got = np.array([[[[1 + error]]]], np.float32)
        assert_matches(got, expected, np.float32, exact=False)
    for error in (bound + 2.0**-22, -bound - 2.0**-22):
        got = np.array([[[[1 + error]]]], np.float32)
        with pytest.raises(AssertionError):
            assert_matches(got, expected, np.float32, exact=False)


@pytest.mark.parametrize(
    ("dtype", "right", "wrong"),
    [(np.float16, 1.0, 1 + 2.0**-10), (BFLOAT16, 1.0, 1 + 2.0**-7)],
    ids=["float16", "bfloat16"],
)
def test_small_types_are_rounded_once(dtype: Any, right: float, wrong: float) -> None:
    """A unit in the last place of a small type is far more than the sum's error."""
    expected = Expected(np.array([[[[1.0]]]]), np.array([[[[1.0]]]]), allowed=11)
    assert_matches(np.full((1, 1, 1, 1), right, dtype), expected, dtype, exact=False)
    with pytest.raises(AssertionError):
        assert_matches(np.full((1, 1, 1, 1), wrong, dtype), expected, dtype, exact=False)


def test_overflow_is_infinite() -> None:
    """What is beyond the largest float16, 65504, by half a unit or more is infinite."""
    for value, right, wrong in ((65400.0, 65408.0, np.inf), (66000.0, np.inf, 65504.0)):
        expected = Expected(np.full((1, 1, 1, 1), value), np.full((1, 1, 1, 1), value), allowed=3)
        for exact in (True, False):
            got = np.full((1, 1, 1, 1), right, np.float16)
            assert_matches(got, expected, np.float16, exact=exact)
            with pytest.raises(AssertionError):
                got = np.full((1, 1, 1, 1), wrong, np.float16)
                assert_matches(got, expected, np.float16, exact=exact)


def test_same_bits() -> None:
    values = np.array([0.0, 1.5, np.inf, np.nan], np.float32)
    assert_same_bits(values.copy(), values)
    for index, wrong in (
        (0, -0.0),
        (1, np.nextafter(np.float32(1.5), np.float32(2))),
        (2, -np.inf),
        (3, 0),
    ):
        got = values.copy()
        got[index] = wrong
        with pytest.raises(AssertionError, match=rf"first at \({index},\)"):
            assert_same_bits(got, values)
    with pytest.raises(AssertionError, match="dtype"):
        assert_same_bits(values.astype(ml_dtypes.bfloat16), values.astype(np.float16))
