"""Rows that are cut into strips, and outputs that are stored past the caches.

Both begin beyond the sizes of the other tests. Strips can lie wholly in the padding, and must not
begin off a cache line where vectors are stored whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import depthwise
from cases import Case
from comparator import DTYPES, assert_matches
from depthwise import _kernels, _numpy
from depthwise._geometry import solve_geometry
from operations import BACKPROP_INPUT, EVERY_OPERATION, FORWARD, Operation, exact_data

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


IN_PADDING = [
    Case(size=(6, 26), channels=16, padding=((0, 0), (3000, 0))),
    Case(size=(6, 26), channels=16, padding=((0, 0), (0, 3000))),
    Case(size=(4, 26), channels=3, padding=((1, 1), (9000, 9000))),
    Case(
        size=(6, 26),
        filter_size=(21, 11),
        channels=8,
        multiplier=2,
        strides=(2, 5),
        padding=((15, 15), (606, 3)),
    ),
    Case(size=(4, 815), filter_size=(7, 1), channels=5, padding=((3, 3), (622, 0))),
]

GAPS = [
    Case(size=(200, 50), channels=16, strides=(100, 20)),
    Case(size=(200, 50), channels=3, strides=(100, 20)),
    Case(size=(90, 50), filter_size=(2, 9), channels=16, strides=(7, 3)),
]

# More than 16 MiB of input and output; rows a whole number of cache lines, and not.
LARGE = [
    Case(size=(512, 1024), channels=16),
    Case(size=(400, 1000), channels=16),
    Case(size=(300, 640), channels=16, dilations=(1, 5)),
    Case(size=(160, 384), filter_size=(5, 5), channels=64),
    Case(size=(700, 1001), channels=3),
    # Walks of 16 rows each, and four rows for a tile (native/tall_walk_tile.h).
    Case(size=(196, 1366), filter_size=(5, 3), channels=3),
]


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", [*IN_PADDING, *GAPS], ids=str)
@EVERY_OPERATION
def test_strips_and_gaps(operation: Operation, case: Case, data_format: str, isa: str) -> None:
    check(operation, case, data_format, DTYPES)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", LARGE, ids=str)
@EVERY_OPERATION
def test_large_images(operation: Operation, case: Case, data_format: str, isa: str) -> None:
    check(operation, case, data_format, [FLOAT32])


@pytest.mark.parametrize("operation", [FORWARD, BACKPROP_INPUT], ids=str)
def test_large_results_of_float64(operation: Operation, isa: str) -> None:
    check(operation, Case(size=(512, 520), channels=8), "NCHW", [FLOAT64])


def check(
    operation: Operation, case: Case, data_format: str, dtypes: Sequence[np.dtype[Any]]
) -> None:
    """Compare with the reference, bit for bit."""
    operands, nhwc = exact_data(operation, case)
    expected = operation.expected_in(nhwc, data_format)
    first, second = operation.to_format(operands, data_format)
    for dtype in dtypes:
        got = operation(case, (first.astype(dtype), second.astype(dtype)), data_format)
        assert_matches(got, expected, dtype, exact=True)


@pytest.mark.parametrize("strides", [(2, 2), (2, 1), (4, 2)])
@pytest.mark.parametrize("dilations", [(1, 1), (1, 2), (2, 2), (3, 2), (1, 3)])
def test_strides_with_dilations_of_large_images(
    strides: tuple[int, int],
    dilations: tuple[int, int],
    isa: str,
    restored_threads: None,
) -> None:
    """Only layers of PyTorch have both. Of pixels without strides, those that strides meet."""
    depthwise.set_num_threads(1)
    random = np.random.default_rng(3)
    input = random.integers(-8, 9, (1, 111, 113, 68)).astype(np.float32)
    filter = random.integers(-8, 9, (3, 3, 68, 1)).astype(np.float32)

    def result(strides: tuple[int, int]) -> Any:
        geometry = solve_geometry(
            input.shape, filter.shape, (1, *strides, 1), "VALID", "NHWC", dilations
        )
        return _kernels.forward(geometry, *_numpy._dtype_and_code(FLOAT32), input, filter)

    np.testing.assert_array_equal(result(strides), result((1, 1))[:, :: strides[0], :: strides[1]])
    # By the definition, for one pixel.
    rows, columns = slice(None, 2 * dilations[0] + 1, dilations[0]), 2 * dilations[1] + 1
    window = input[0, rows, : columns : dilations[1]].astype(np.float64)
    np.testing.assert_array_equal(
        result(strides)[0, 0, 0], np.einsum("ijc,ijc->c", window, filter[..., 0])
    )
