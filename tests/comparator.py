"""The one comparator of the test suite: results against the float64 reference.

`Expected` is what the reference says, `assert_matches()` judges a result by it: bit for bit where
every sum is exact, within the specification's error bound elsewhere. Its own test is
`test_comparator.py`, which shows that it fails when it should. `operations.py` makes the
expectations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = (np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True)
class Expected:
    """The defining sum, the same sum over absolute values, and the error allowed.

    `allowed` is how many eps of that magnitude, eps being that of the accumulation type.
    """

    values: Array
    magnitude: Array
    allowed: float

    def to_nchw(self) -> Expected:
        """Return the same expectation of a result whose channel axis is second."""
        return Expected(
            np.ascontiguousarray(np.moveaxis(self.values, 3, 1)),
            np.ascontiguousarray(np.moveaxis(self.magnitude, 3, 1)),
            self.allowed,
        )


def assert_matches(
    got: object, expected: Expected, dtype: DTypeLike, *, exact: bool, context: str = ""
) -> None:
    """Assert that `got` is the `expected` array of `dtype`.

    With `exact`, every value must be the expected one rounded once, bit for bit. Without, `got`
    must satisfy `|got - values| <= allowed * eps * magnitude` with eps of the accumulation type,
    plus the rounding to `dtype`. Rounding is monotonic, so this is to say that `got` lies between
    the roundings of the ends of that interval, which holds across overflow and underflow too.
    """
    dtype = np.dtype(dtype)
    if exact:
        assert_same_bits(got, round_to(expected.values, dtype), context)
        return

    array = _checked_array(got, expected.values.shape, dtype, context)
    wide = array.astype(expected.values.dtype)
    finite = np.isfinite(expected.values)
    eps = np.finfo(np.float64 if dtype == np.float64 else np.float32).eps
    slack = np.where(finite, expected.allowed * eps * expected.magnitude, 0.0)
    assert np.isfinite(slack).all(), "an infinite bound would accept anything"
    lowest = round_to(expected.values - slack, dtype).astype(wide.dtype)
    highest = round_to(expected.values + slack, dtype).astype(wide.dtype)
    right = np.where(
        np.isnan(expected.values), np.isnan(wide), (lowest <= wide) & (wide <= highest)
    )
    _assert_all(right, array, expected.values, context)


def assert_same_bits(got: object, want: Array, context: str = "") -> None:
    """Assert equal shape, dtype and bits; a NaN equals any NaN, a zero only its own sign."""
    array = _checked_array(got, want.shape, want.dtype, context)
    bits = np.dtype(f"u{want.dtype.itemsize}")
    same = np.ascontiguousarray(array).view(bits) == np.ascontiguousarray(want).view(bits)
    # Looking at a signalling NaN counts as an invalid operation.
    with np.errstate(invalid="ignore"):
        both_nan = np.isnan(array) & np.isnan(want)
    _assert_all(same | both_nan, array, want, context)


def round_to(values: Array, dtype: np.dtype[Any]) -> Array:
    """Round to the nearest value of `dtype`, to infinity where it is too large."""
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def _checked_array(
    got: object, shape: tuple[int, ...], dtype: np.dtype[Any], context: str
) -> Array:
    """Return `got` if it is an array of the right shape and dtype, contiguous and writeable."""
    assert type(got) is np.ndarray, f"{context}: got a {type(got).__name__}, not an ndarray"
    assert got.shape == shape, f"{context}: got shape {got.shape}, expected {shape}"
    assert got.dtype == dtype, f"{context}: got dtype {got.dtype}, expected {dtype}"
    assert got.flags.c_contiguous, f"{context}: the result is not C-contiguous"
    assert got.flags.writeable, f"{context}: the result is read-only"
    return got


def _assert_all(right: Array, got: Array, want: Array, context: str) -> None:
    """Assert that `right` holds everywhere; if not, tell how often and where it first fails."""
    if right.all():
        return
    first = tuple(int(index) for index in np.argwhere(~right)[0])
    raise AssertionError(
        f"{context}: {np.count_nonzero(~right)} of {right.size} values are wrong, "
        f"first at {first}: got {got[first]!r}, expected {want[first]!r}"
    )
