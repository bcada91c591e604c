"""The same values give the same bits, on random data, whatever surrounds the computation.

Each test changes one thing that must not matter: threads, batch, data format, memory layout,
instruction set, repetition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cases import FMA_ISAS, Case, expected_in, random_data, to_format
from comparator import BFLOAT16, DTYPES, Array, assert_matches, assert_same_bits, expect
from depthwise import _native, depthwise_conv2d, set_num_threads
from layouts import LAYOUTS

# All large enough that several threads get work, or of an odd shape.
CASES = [
    Case((29, 31), (3, 3), 64, batch=2),
    Case((31, 30), (3, 3), 33, strides=(2, 2), batch=3),
    Case((20, 23), (5, 5), 48, batch=2),
    Case((19, 20), (7, 7), 40, strides=(2, 1)),
    Case((90, 101), (3, 3), 3, batch=2),
    Case((61, 63), (11, 11), 3),
    Case((100, 120), (5, 5), 1, batch=2),
    Case((33, 35), (3, 3), 16, 3, padding="VALID"),
    Case((40, 41), (3, 3), 3, 8, strides=(2, 2)),
    Case((33, 30), (3, 3), 37, dilations=(2, 3), batch=2),
    Case((30, 41), (4, 5), 6, 2, padding=((5, 1), (0, 7)), strides=(1, 2)),
    Case((17, 18), (31, 31), 19),
    Case((7, 7), (3, 3), 1025, batch=3),
    Case((3, 2), (2, 2), 5, 2),
]
FORMATS = pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=str)
EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def problem(case: Case, dtype: np.dtype[Any], data_format: str) -> tuple[Array, Array]:
    """Return random input, in `data_format`, and filter."""
    input, filter = random_data(case, dtype)
    return to_format(input, data_format), filter


@EVERY_DTYPE
@FORMATS
@EVERY_CASE
def test_any_number_of_threads(
    case: Case, data_format: str, dtype: np.dtype[Any], isa: str, restored_threads: None
) -> None:
    input, filter = problem(case, dtype, data_format)
    set_num_threads(1)
    want = depthwise_conv2d(input, filter, **case.arguments(data_format))
    for threads in (2, 5, 16):
        set_num_threads(threads)
        got = depthwise_conv2d(input, filter, **case.arguments(data_format))
        assert_same_bits(got, want, f"{threads} threads")
        got.fill(np.nan)


@EVERY_DTYPE
@FORMATS
@EVERY_CASE
def test_alone_and_in_company(case: Case, data_format: str, dtype: np.dtype[Any], isa: str) -> None:
    """An image gives the same bits in a batch of any size and at any place in it."""
    input, filter = problem(case, dtype, data_format)
    alone = [
        depthwise_conv2d(input[b : b + 1], filter, **case.arguments(data_format))
        for b in range(case.batch)
    ]
    for order in (range(case.batch), [0] * 7, [case.batch - 1, 0, case.batch - 1]):
        got = depthwise_conv2d(input[list(order)], filter, **case.arguments(data_format))
        assert_same_bits(got, np.concatenate([alone[b] for b in order]), f"images {order}")


@EVERY_DTYPE
@EVERY_CASE
def test_both_data_formats(case: Case, dtype: np.dtype[Any], isa: str) -> None:
    nhwc, filter = random_data(case, dtype)
    want = depthwise_conv2d(nhwc, filter, **case.arguments("NHWC"))
    got = depthwise_conv2d(to_format(nhwc, "NCHW"), filter, **case.arguments("NCHW"))
    assert_same_bits(got, to_format(want, "NCHW"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@EVERY_CASE
def test_underflow_has_one_sign(case: Case, dtype: Any, restored_isa: None) -> None:
    """Products too small for a sum become -0 or +0; which one must not depend on the kernel.

    A kernel that multiplies padding adds +0 after them, another one that skips it does not.
    """
    tiny = np.finfo(dtype).tiny ** 0.75
    input, filter = (array * dtype(tiny) for array in random_data(case, np.dtype(dtype)))
    _native.set_isa(_native.supported_isas()[0])
    want = depthwise_conv2d(input, filter, **case.arguments("NHWC"))
    assert not want.any()
    for isa in _native.supported_isas():
        _native.set_isa(isa)
        for placed in (input, LAYOUTS["sliced"](input), LAYOUTS["last_axis_second"](input)):
            assert_same_bits(depthwise_conv2d(placed, filter, **case.arguments("NHWC")), want, isa)
        got = depthwise_conv2d(to_format(input, "NCHW"), filter, **case.arguments("NCHW"))
        assert_same_bits(got, to_format(want, "NCHW"), isa)


@EVERY_DTYPE
@FORMATS
@EVERY_CASE
def test_all_instruction_sets_with_fma(
    case: Case, data_format: str, dtype: np.dtype[Any], restored_isa: None
) -> None:
    """They agree bit for bit; the one without fused multiply-add stays within the bound."""
    input, filter = problem(case, dtype, data_format)
    results = {}
    for isa in _native.supported_isas():
        _native.set_isa(isa)
        results[isa] = depthwise_conv2d(input, filter, **case.arguments(data_format))
    for isa in FMA_ISAS:
        assert_same_bits(results[isa], results[FMA_ISAS[0]], isa)
    expected = expect(*random_data(case, dtype), **case.arguments("NHWC"))
    for isa, got in results.items():
        assert_matches(got, expected_in(expected, data_format), dtype, exact=False, context=isa)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@FORMATS
@EVERY_CASE
def test_any_layout_of_the_input(
    case: Case, data_format: str, layout: Callable[[Array], Array], isa: str
) -> None:
    for dtype in (np.dtype(np.float32), BFLOAT16):
        input, filter = problem(case, dtype, data_format)
        want = depthwise_conv2d(input, filter, **case.arguments(data_format))
        placed = layout(input)
        got = depthwise_conv2d(placed, filter, **case.arguments(data_format))
        assert_same_bits(got, want, str(dtype))
        np.testing.assert_array_equal(placed.astype(dtype), input)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@EVERY_DTYPE
def test_any_layout_of_both_arrays(
    layout: Callable[[Array], Array], dtype: np.dtype[Any], isa: str
) -> None:
    for case in CASES[::3]:
        for data_format in ("NHWC", "NCHW"):
            input, filter = problem(case, dtype, data_format)
            want = depthwise_conv2d(input, filter, **case.arguments(data_format))
            got = depthwise_conv2d(layout(input), layout(filter), **case.arguments(data_format))
            assert_same_bits(got, want, f"{case}, {data_format}")


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (3,), (1, 2), (0, 3), (0, 1, 2, 3)], ids=str)
@FORMATS
@EVERY_CASE
def test_broadcast_arrays(case: Case, data_format: str, axes: tuple[int, ...], isa: str) -> None:
    """A stride of zero along some axes: all their elements are one in memory."""
    input, filter = problem(case, np.dtype(np.float32), data_format)
    first = tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(4))
    same_input = np.broadcast_to(input[first], input.shape)
    same_filter = np.broadcast_to(filter[first], filter.shape)
    for placed_filter in (filter, same_filter):
        want = depthwise_conv2d(
            same_input.copy(), placed_filter.copy(), **case.arguments(data_format)
        )
        got = depthwise_conv2d(same_input, placed_filter, **case.arguments(data_format))
        assert_same_bits(got, want)


@FORMATS
@EVERY_CASE
def test_overlapping_windows_of_one_array(case: Case, data_format: str, isa: str) -> None:
    """Strides smaller than the extents: rows overlap in memory, as in a sliding view."""
    shape = problem(case, np.dtype(np.float32), data_format)[0].shape
    values = case.random().standard_normal(sum(shape)).astype(np.float32)
    filter = random_data(case, np.dtype(np.float32))[1]
    view = np.lib.stride_tricks.as_strided(values, shape, (4, 4, 4, 4), writeable=False)
    want = depthwise_conv2d(view.copy(), filter, **case.arguments(data_format))
    assert_same_bits(depthwise_conv2d(view, filter, **case.arguments(data_format)), want)


@EVERY_CASE
def test_repeated_runs_and_any_alignment(case: Case, isa: str) -> None:
    input, filter = random_data(case, np.dtype(np.float32))
    want = depthwise_conv2d(input, filter, **case.arguments("NHWC"))
    memory = np.full(input.size + 32, np.nan, np.float32)
    for offset in range(0, 17, 3):
        placed = memory[offset : offset + input.size].reshape(input.shape)
        placed[...] = input
        assert_same_bits(depthwise_conv2d(placed, filter, **case.arguments("NHWC")), want)
        memory.fill(np.nan)


def test_strides_of_axes_of_one_element_do_not_matter(isa: str) -> None:
    """NumPy may hold anything there, even what is no multiple of the element size."""
    values = np.random.default_rng(1).standard_normal(300).astype(np.float32)
    filter = np.random.default_rng(2).standard_normal((3, 3, 2, 1)).astype(np.float32)
    input = values[:60].reshape(1, 5, 6, 2)
    want = depthwise_conv2d(input, filter, [1] * 4, "SAME")
    for odd in (0, 3, -5, 2**62 + 1):
        placed = np.lib.stride_tricks.as_strided(values, input.shape, (odd, 48, 8, 4))
        assert_same_bits(depthwise_conv2d(placed, filter, [1] * 4, "SAME"), want)


def test_input_and_filter_may_share_memory(isa: str) -> None:
    array = np.random.default_rng(0).standard_normal((3, 3, 16, 2)).astype(np.float32)
    want = depthwise_conv2d(array.transpose(3, 0, 1, 2).copy(), array.copy(), [1] * 4, "SAME")
    before = array.copy()
    assert_same_bits(depthwise_conv2d(array.transpose(3, 0, 1, 2), array, [1] * 4, "SAME"), want)
    assert_same_bits(array, before)


@pytest.mark.parametrize("size", [4, 40, 90, 180, 400])
def test_results_are_memory_of_their_own(size: int) -> None:
    """Neither a later call nor the end of the array that a view came from changes a result."""
    filter = np.ones((1, 1, 16, 1), np.float32)
    kept = []
    for number in range(6):
        input = np.full((1, size, size, 16), number, np.float32)
        result = depthwise_conv2d(input, filter, [1] * 4, "SAME")
        assert not np.shares_memory(result, input)
        kept.append(result[0, 1:] if number % 2 else result)
        # Its memory may be used again at once.
        depthwise_conv2d(input + 100, filter, [1] * 4, "SAME")
    del result
    for number, array in enumerate(kept):
        assert (array == number).all()
        array += 1
    for number, array in enumerate(kept):
        assert (array == number + 1).all()
