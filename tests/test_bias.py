"""A bias for each output channel, which the front ends of frameworks add in the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cases import Case
from comparator import DTYPES, Array, Expected, assert_matches, assert_same_bits
from depthwise import _kernels, _numpy, set_num_threads
from depthwise._geometry import make_geometry
from operations import FORWARD, exact_data

# Each kernel, its borders, and its last channels.
CASES = (
    Case((6, 15), channels=37),
    Case((7, 9), channels=48, strides=(2, 2)),
    Case((9, 16), (5, 5), channels=33, padding="VALID", batch=2),
    Case((9, 12), (11, 11), channels=17),
    Case((12, 40), (7, 7), channels=3),
    Case((9, 30), (5, 3), channels=6),
    Case((8, 9), channels=16, multiplier=2),
    Case((8, 9), (5, 3), channels=3, multiplier=5, strides=(2, 1)),
    Case((5, 40), channels=1),
    Case((9, 50), channels=3, dilations=(2, 3)),
    Case((4, 4), channels=256),
    Case((7, 15), channels=512, strides=(2, 2)),
)


def convolve(
    case: Case, input: Array, filter: Array, bias: Array | None, data_format: str
) -> Array:
    geometry = make_geometry(input.shape, filter.shape, **case.arguments(data_format))
    dtype, code = _numpy._dtype_and_code(input.dtype)
    return _kernels.forward(geometry, dtype, code, input, filter, bias)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact(case: Case, data_format: str, dtype: np.dtype[Any], isa: str) -> None:
    operands, expected = exact_data(FORWARD, case)
    out_channels = case.channels * case.multiplier
    bias = np.random.default_rng(1).integers(-99, 100, out_channels)
    with_bias = Expected(expected.values + bias, expected.magnitude + abs(bias), expected.allowed)
    input, filter = (a.astype(dtype) for a in FORWARD.to_format(operands, data_format))
    got = convolve(case, input, filter, bias.astype(dtype), data_format)
    assert_matches(got, FORWARD.expected_in(with_bias, data_format), dtype, exact=True)


@pytest.mark.parametrize(
    "case", [Case((53, 54), (7, 7), 70), Case((62, 60), (6, 6), 44, 2)], ids=str
)
def test_a_few_vectors_at_a_time(case: Case, isa: str, restored_threads: None) -> None:
    """As one thread computes images that the second-level cache does not hold, in NHWC."""
    set_num_threads(1)
    test_exact(case, "NHWC", np.dtype(np.float32), isa)


def test_one_rounding(isa: str) -> None:
    """The bias of a 16-bit type is added to the sum in float32, before that is rounded."""
    input = np.ones((1, 1, 2, 16), np.float16)
    filter = np.ones((1, 2, 16, 1), np.float16)
    filter[0, 0] = 2048
    case = Case((1, 2), (1, 2), 16, padding="VALID")
    # 2049 is halfway between two numbers of float16, and would be rounded to 2048.
    assert convolve(case, input, filter, None, "NHWC")[0, 0, 0, 0] == 2048
    assert convolve(case, input, filter, np.ones(16, np.float16), "NHWC")[0, 0, 0, 0] == 2050


def test_an_empty_image_gives_the_bias(isa: str) -> None:
    case = Case((0, 0), channels=20, padding=((3, 2), (2, 2)))
    bias = np.arange(20, dtype=np.float32)
    empty, filter = np.empty((2, 0, 0, 20), np.float32), np.ones((3, 3, 20, 1), np.float32)
    got = convolve(case, empty, filter, bias, "NHWC")
    assert_same_bits(got, np.broadcast_to(bias, (2, 3, 2, 20)).copy())


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_minus_zero_is_plus_zero(data_format: str, isa: str) -> None:
    """So that the sign of a zero does not depend on which taps lie on padding."""
    for channels in (3, 16, 37):
        case = Case((4, 8), channels=channels)
        zeros, filter = (
            np.zeros((1, 4, 8, channels), np.float32),
            np.ones((3, 3, channels, 1), "f4"),
        )
        input = zeros if data_format == "NHWC" else zeros.reshape(1, channels, 4, 8)
        got = convolve(case, input, -filter, np.full(channels, -0.0, np.float32), data_format)
        assert_same_bits(got, np.zeros_like(got))


def test_a_bias_that_is_not_finite_stays_in_its_channel(isa: str) -> None:
    case = Case((5, 9), channels=20)
    (input, filter), _ = exact_data(FORWARD, case)
    bias = np.zeros(20, np.float32)
    bias[[3, 17]] = np.inf, np.nan
    got = convolve(case, input.astype("f4"), filter.astype("f4"), bias, "NHWC")
    others = np.delete(np.arange(20), [3, 17])
    plain = convolve(case, input.astype("f4"), filter.astype("f4"), None, "NHWC")
    assert (got[..., 3] == np.inf).all()
    assert np.isnan(got[..., 17]).all()
    assert_same_bits(np.ascontiguousarray(got[..., others]), plain[..., others].copy())


def test_repaired_borders_have_it_too(isa: str) -> None:
    """A filter that is not finite sends the borders of a packed problem to the definition."""
    case = Case((6, 9), channels=3)
    filter = np.ones((3, 3, 3, 1), np.float32)
    filter[0, 0, 0, 0] = np.inf
    bias = np.array([1, 2, 4], np.float32)
    got = convolve(case, np.ones((1, 6, 9, 3), np.float32), filter, bias, "NHWC")
    assert got[0, 0, 0].tolist() == [5, 6, 8]
    assert got[0, 3, 4].tolist() == [np.inf, 11, 13]
