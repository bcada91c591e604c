"""The same values give the same bits, on random data, whatever surrounds the computation.

Each test changes one thing that must not matter: threads, batch, data format, memory layout,
instruction set, repetition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cases import FMA_ISAS, Case
from comparator import BFLOAT16, DTYPES, Array, assert_matches, assert_same_bits
from depthwise import _native, set_num_threads
from layouts import LAYOUTS
from operations import (
    BACKPROP_FILTER,
    BACKPROP_INPUT,
    EVERY_OPERATION,
    FORWARD,
    Operands,
    Operation,
)

# Computed like so many MiB of input and output together, which are far for one thread, but not for
# all numbers of them, that find their shares in their caches.
FAR_CASES = {
    # Blocks of pixels (native/pixel_rows.h); pairs of vectors.
    Case((30, 29), (3, 3), 256, strides=(2, 2)): 4,
    Case((27, 30), (3, 3), 70, dilations=(3, 2)): 4,
    Case((24, 25), (3, 3), 97, padding=((0, 3), (4, 1))): 4,
    Case((15, 16), (3, 3), 256, dilations=(2, 2)): 4,
    # Tiles fetch what the next one needs (SuitsPrefetchedTiles in native/direct_plan.h).
    Case((24, 25), (3, 3), 100): 2.5,
    Case((36, 38), (2, 2), 100, padding="VALID"): 2.5,
    # Walks down several strips, fewer rows at a time, which are fetched ahead.
    Case((41, 140), (5, 5), 16, strides=(2, 2)): 4,
}
# All large enough that several threads get work, or of an odd shape.
CASES = [
    Case((29, 31), (3, 3), 64, batch=2),
    Case((31, 30), (3, 3), 33, strides=(2, 2), batch=3),
    Case((20, 23), (5, 5), 48, batch=2),
    Case((20, 27), (5, 5), 40),
    Case((41, 60), (5, 5), 33, strides=(2, 2)),
    Case((19, 20), (7, 7), 40, strides=(2, 1)),
    Case((90, 101), (3, 3), 3, batch=2),
    # Planes by pairs and by strips (native/plane_walk.h), whose rows are shared.
    Case((150, 14), (5, 5), 11),
    Case((61, 101), (3, 3), 10),
    Case((61, 63), (11, 11), 3),
    Case((100, 120), (5, 5), 1, batch=2),
    Case((33, 35), (3, 3), 16, 3, padding="VALID"),
    Case((40, 41), (3, 3), 3, 8, strides=(2, 2)),
    Case((61, 63), (3, 3), 3, strides=(2, 2), batch=2),
    Case((33, 30), (3, 3), 37, dilations=(2, 3), batch=2),
    Case((30, 41), (4, 5), 6, 2, padding=((5, 1), (0, 7)), strides=(1, 2)),
    Case((17, 18), (31, 31), 19),
    Case((7, 7), (3, 3), 1025, batch=3),
    Case((3, 2), (2, 2), 5, 2),
    # One thread computes a few vectors of channels at a time; of several, each has fewer rows, and
    # computes a few for all of them (VectorGroups in native/direct_plan.h).
    Case((53, 54), (7, 7), 70),
    Case((62, 60), (6, 6), 44, 2),
    # Pixels (native/pixel_rows.h), on any number of threads.
    Case((20, 23), (3, 3), 80, strides=(3, 3)),
    # Tall tiles, of which threads share rows and images (SplitRows() in native/kernels.cc).
    Case((17, 33), (3, 3), 80, batch=3),
    Case((45, 40), (3, 3), 17, 2),
    # Planes whose filter gradient is walked (native/plane_filter_gradient.h), of some channels
    # together, of several blocks, and of images in several tiles.
    Case((14, 15), (3, 3), 41, batch=9),
    Case((64, 61), (7, 5), 3, dilations=(2, 3), batch=4),
    Case((61, 130), (5, 5), 2, 2, strides=(3, 1)),
    # Fewer items than threads: pieces of columns (native/column_pieces.h).
    Case((1, 4100), (1, 31), 5),
    Case((4100, 1), (31, 1), 5),
    Case((1, 2048), (1, 15), 3, 8),
    Case((1, 6003), (1, 31), 6, strides=(1, 2)),
    Case((1, 6003), (1, 9), 3, strides=(1, 2)),
    Case((1, 5000), (1, 21), 5, dilations=(1, 7)),
    Case((2, 1500), (2, 9), 20, padding=((1, 0), (30, 200))),
    Case((1, 3000), (1, 11), 18, padding=((0, 0), (700, 40))),
    Case((9, 3000), (5, 5), 1),
    # The last piece is as wide as half a vector.
    Case((4, 903), (3, 3), 16),
    Case((4, 1806), (3, 3), 20, strides=(2, 2)),
    *FAR_CASES,
]
FORMATS = pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=str)
EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=str)
# Those whose result has images, each of which is computed for itself.
OF_IMAGES = pytest.mark.parametrize("operation", [FORWARD, BACKPROP_INPUT], ids=str)
FLOAT32 = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def far(request: pytest.FixtureRequest, assume_bytes: Callable[[float], None]) -> None:
    """Have each of FAR_CASES computed as it says."""
    callspec = getattr(request.node, "callspec", None)
    case = callspec.params.get("case") if callspec else None
    assume_bytes(FAR_CASES.get(case, 0) * 2.0**20)


def problem(
    operation: Operation, case: Case, dtype: np.dtype[Any], data_format: str = "NHWC"
) -> Operands:
    """Return random operands in `data_format`."""
    return operation.to_format(operation.random_data(case, dtype), data_format)


def check_threads(
    operation: Operation,
    case: Case,
    data_format: str,
    dtype: np.dtype[Any],
    counts: tuple[int, ...],
) -> None:
    operands = problem(operation, case, dtype, data_format)
    set_num_threads(1)
    want = operation(case, operands, data_format)
    for threads in counts:
        set_num_threads(threads)
        got = operation(case, operands, data_format)
        assert_same_bits(got, want, f"{threads} threads")
        got.fill(np.nan)


@EVERY_DTYPE
@FORMATS
@EVERY_CASE
@EVERY_OPERATION
def test_any_number_of_threads(
    operation: Operation,
    case: Case,
    data_format: str,
    dtype: np.dtype[Any],
    isa: str,
    restored_threads: None,
) -> None:
    check_threads(operation, case, data_format, dtype, (2, 5, 16))


@FORMATS
@pytest.mark.parametrize(
    "case",
    [
        Case((1501, 1469), (3, 3), 1),
        Case((901, 850), (3, 3), 3),
        Case((41, 43), (3, 3), 75, batch=18),
    ],
    ids=str,
)
def test_rows_that_end_within_lines(
    case: Case, data_format: str, isa: str, restored_threads: None
) -> None:
    """Threads store past the caches what ends and begins in the same line (StagedRows)."""
    check_threads(FORWARD, case, data_format, FLOAT32, (2, 3, 16))


@FORMATS
@pytest.mark.parametrize(
    "case",
    [
        Case((23, 23), (9, 9), 240, batch=17),
        Case((40, 41), (25, 25), 2, batch=30),
        Case((40, 40), (91, 91), 20, batch=3),
    ],
    ids=str,
)
def test_sums_that_are_not_all_kept(
    case: Case, data_format: str, isa: str, restored_threads: None
) -> None:
    """Two threads keep 1 MB of them, or one item each (ItemsTogether in native/dispatch.cc)."""
    check_threads(BACKPROP_FILTER, case, data_format, FLOAT32, (2, 3, 16))


@FORMATS
@pytest.mark.parametrize("tap", [0, 30])
def test_infinite_taps_on_any_number_of_threads(
    tap: int, data_format: str, isa: str, restored_threads: None
) -> None:
    """Outputs over padding are computed again, and only those."""
    case = Case((1, 4100), (1, 31), 5)
    operands = problem(FORWARD, case, FLOAT32, data_format)
    operands[1][0, tap] = np.inf
    set_num_threads(1)
    want = FORWARD(case, operands, data_format)
    assert np.isfinite(want).any()
    set_num_threads(2)
    assert_same_bits(FORWARD(case, operands, data_format), want, "2 threads")


@EVERY_DTYPE
@FORMATS
@EVERY_CASE
@OF_IMAGES
def test_alone_and_in_company(
    operation: Operation, case: Case, data_format: str, dtype: np.dtype[Any], isa: str
) -> None:
    """An image gives the same bits in a batch of any size and at any place in it."""
    operands = problem(operation, case, dtype, data_format)

    def result_of(images: list[int]) -> Array:
        first, second = (
            array if name == "filter" else array[images]
            for name, array in zip(operation.operands, operands, strict=True)
        )
        company = dataclasses.replace(case, batch=len(images))
        return operation(company, (first, second), data_format)

    alone = [result_of([b]) for b in range(case.batch)]
    for images in (list(range(case.batch)), [0] * 7, [case.batch - 1, 0, case.batch - 1]):
        want = np.concatenate([alone[b] for b in images])
        assert_same_bits(result_of(images), want, f"images {images}")


@EVERY_DTYPE
@EVERY_CASE
@OF_IMAGES
def test_both_data_formats(
    operation: Operation, case: Case, dtype: np.dtype[Any], isa: str
) -> None:
    nhwc = problem(operation, case, dtype)
    want = operation(case, nhwc, "NHWC")
    got = operation(case, operation.to_format(nhwc, "NCHW"), "NCHW")
    assert_same_bits(got, operation.result_in(want, "NCHW"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@EVERY_CASE
@EVERY_OPERATION
def test_underflow_has_one_sign(
    operation: Operation, case: Case, dtype: Any, restored_isa: None
) -> None:
    """Products too small for a sum become -0 or +0; which one must not depend on the kernel.

    A kernel that multiplies padding adds +0 after them, another one that skips it does not.
    """
    tiny = np.finfo(dtype).tiny ** 0.75
    first, second = (array * dtype(tiny) for array in problem(operation, case, np.dtype(dtype)))
    _native.set_isa(_native.supported_isas()[0])
    want = operation(case, (first, second), "NHWC")
    assert_same_bits(want, np.zeros_like(want))
    for isa in _native.supported_isas():
        _native.set_isa(isa)
        for layout in (LAYOUTS["aligned"], LAYOUTS["sliced"], LAYOUTS["last_axis_second"]):
            assert_same_bits(operation(case, (layout(first), layout(second)), "NHWC"), want, isa)
        got = operation(case, operation.to_format((first, second), "NCHW"), "NCHW")
        assert_same_bits(got, operation.result_in(want, "NCHW"), isa)


@EVERY_DTYPE
@FORMATS
@EVERY_CASE
@EVERY_OPERATION
def test_all_instruction_sets(
    operation: Operation,
    case: Case,
    data_format: str,
    dtype: np.dtype[Any],
    restored_isa: None,
) -> None:
    """All stay within the bound; those with fused multiply-add agree bit for bit.

    Not so for the filter gradient, whose sums are cut up by the number of lanes.
    """
    operands = problem(operation, case, dtype, data_format)
    results = {}
    for isa in _native.supported_isas():
        _native.set_isa(isa)
        results[isa] = operation(case, operands, data_format)
    if operation is not BACKPROP_FILTER:
        for isa in FMA_ISAS:
            assert_same_bits(results[isa], results[FMA_ISAS[0]], isa)
    expected = operation.expect(case, operands, data_format)
    for isa, got in results.items():
        assert_matches(got, expected, dtype, exact=False, context=isa)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@FORMATS
@EVERY_CASE
@EVERY_OPERATION
def test_any_layout_of_the_images(
    operation: Operation,
    case: Case,
    data_format: str,
    layout: Callable[[Array], Array],
    isa: str,
) -> None:
    for dtype in (FLOAT32, BFLOAT16):
        operands = problem(operation, case, dtype, data_format)
        want = operation(case, operands, data_format)
        first, second = (
            array if name == "filter" else layout(array)
            for name, array in zip(operation.operands, operands, strict=True)
        )
        assert_same_bits(operation(case, (first, second), data_format), want, str(dtype))
        for placed, array in zip((first, second), operands, strict=True):
            np.testing.assert_array_equal(placed.astype(dtype), array)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@EVERY_DTYPE
@EVERY_OPERATION
def test_any_layout_of_either_array(
    operation: Operation, layout: Callable[[Array], Array], dtype: np.dtype[Any], isa: str
) -> None:
    for case in CASES[::3]:
        for data_format in ("NHWC", "NCHW"):
            first, second = problem(operation, case, dtype, data_format)
            want = operation(case, (first, second), data_format)
            for operands in (
                (layout(first), layout(second)),
                (layout(first), second),
                (first, layout(second)),
            ):
                got = operation(case, operands, data_format)
                assert_same_bits(got, want, f"{case}, {data_format}")


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (3,), (1, 2), (0, 3), (0, 1, 2, 3)], ids=str)
@FORMATS
@EVERY_CASE
@EVERY_OPERATION
def test_broadcast_arrays(
    operation: Operation, case: Case, data_format: str, axes: tuple[int, ...], isa: str
) -> None:
    """A stride of zero along some axes: all their elements are one in memory."""
    place = tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(4))
    first, second = problem(operation, case, FLOAT32, data_format)
    same_first, same_second = (
        np.broadcast_to(array[place], array.shape) for array in (first, second)
    )
    for operands in ((same_first, same_second), (same_first, second), (first, same_second)):
        copies = (operands[0].copy(), operands[1].copy())
        want = operation(case, copies, data_format)
        assert_same_bits(operation(case, operands, data_format), want)


@FORMATS
@EVERY_CASE
@EVERY_OPERATION
def test_overlapping_windows_of_one_array(
    operation: Operation, case: Case, data_format: str, isa: str
) -> None:
    """Strides smaller than the extents: rows overlap in memory, as in a sliding view."""
    first, second = (
        np.lib.stride_tricks.as_strided(
            case.random().standard_normal(sum(array.shape)).astype(np.float32),
            array.shape,
            (4, 4, 4, 4),
            writeable=False,
        )
        for array in problem(operation, case, FLOAT32, data_format)
    )
    want = operation(case, (first.copy(), second.copy()), data_format)
    assert_same_bits(operation(case, (first, second), data_format), want)


@EVERY_CASE
@EVERY_OPERATION
def test_repeated_runs_and_any_alignment(operation: Operation, case: Case, isa: str) -> None:
    operands = problem(operation, case, FLOAT32)
    want = operation(case, operands, "NHWC")
    memory = [np.full(array.size + 32, np.nan, np.float32) for array in operands]
    for offset in range(0, 17, 3):
        for start in (0, offset):
            first, second = (
                block[begin : begin + array.size].reshape(array.shape)
                for block, begin, array in zip(memory, (offset, start), operands, strict=True)
            )
            first[...], second[...] = operands
            assert_same_bits(operation(case, (first, second), "NHWC"), want)
            for block in memory:
                block.fill(np.nan)
