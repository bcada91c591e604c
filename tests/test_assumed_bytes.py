"""Kernels of large data on small problems: they give the same bits and write the result alone.

Beyond the caches, blocks of pixels, pairs of vectors, memory that is fetched ahead and stores past
the caches take the place of other kernels; `_native.set_assumed_bytes` has them do so for any size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cases import Case
from comparator import DTYPES, Array, assert_same_bits
from depthwise import set_num_threads
from families import all_cases, larger_than_cache_cases
from layouts import after_forbidden_page, before_forbidden_page
from operations import BACKPROP_FILTER, EVERY_OPERATION, Operation

# MiB of input and output together, where the operands lie, and how many elements after the
# beginning of a cache line the result does: so much that a batch fetches its next image, beyond the
# second-level cache, and more than any cache keeps, stored past them in whole lines and not.
RUNS = [
    (11, before_forbidden_page, 0),
    (4, after_forbidden_page, 0),
    (64, before_forbidden_page, 0),
    (64, after_forbidden_page, 3),
]

# Nine of them are few enough bytes each for the next image to be fetched.
BATCHES = [case.repeated(9) for case in larger_than_cache_cases()]


# Elements before and after a result, which must stay NaN: whole lines of every dtype.
GUARD = 64


def _poisoned(like: Array, offset: int) -> tuple[Array, Array]:
    """Return a result to be written, `offset` elements after a line begins, and what it lies in."""
    memory: Array = np.full(like.size + 4 * GUARD, np.nan, like.dtype)
    start = (-memory.ctypes.data % 64) // like.itemsize + GUARD + offset
    return memory[start : start + like.size].reshape(like.shape), memory


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", [*all_cases(), *BATCHES], ids=str)
@EVERY_OPERATION
def test_every_case(
    operation: Operation,
    case: Case,
    data_format: str,
    isa: str,
    assume_bytes: Callable[[float], None],
    restored_threads: None,
) -> None:
    set_num_threads(1)  # of several each would have a share of the bytes
    operands = operation.to_format(operation.random_data(case, np.dtype(np.float64)), data_format)
    for dtype in DTYPES:
        first, second = (array.astype(dtype) for array in operands)
        assume_bytes(0)
        want = operation(case, (first, second), data_format)
        if want.size == 0:
            return
        for mebibytes, place, offset in RUNS[: 1 if operation is BACKPROP_FILTER else None]:
            assume_bytes(mebibytes * 2.0**20)
            result, memory = _poisoned(want, offset)
            operation.write_into(result, case, (place(first), place(second)), data_format)
            context = f"{dtype}, as of {mebibytes} MiB, {place.__name__}"
            assert_same_bits(result, want, context)
            result.fill(np.nan)
            assert np.isnan(memory).all(), f"{context}: written around the result"
