"""The least time this machine allows for a case, measured in the same run as the case.

Nothing computes a convolution faster than its input and output bytes pass through memory, nor
(by the direct sum) faster than its multiply-adds at the peak of the FMA units. One thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.shapes import Case
from depthwise import _native

_COPY_SECONDS = 0.1
_MINIMUM_COPIES = 5
_PEAK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Floor:
    """Both bounds of a case in microseconds; the larger one is the floor."""

    memcpy_us: float
    arithmetic_us: float

    @property
    def us(self) -> float:
        """The floor."""
        return max(self.memcpy_us, self.arithmetic_us)


def measure_floor(case: Case) -> Floor:
    """Measure the floor of a case."""
    return Floor(
        memcpy_us=_memcpy_us(case.moved_bytes),
        arithmetic_us=case.flops / (fma_peak_gflops(case.dtype) * 1e3),
    )


@cache
def fma_peak_gflops(dtype: str) -> float:
    """Return the FMA peak of one core for the type that sums of ``dtype`` accumulate in."""
    if dtype == "float64":
        return fma_peak_gflops("float32") / 2  # Half as many fit a vector.
    return _native.peak_gflops(_PEAK_SECONDS)


def _memcpy_us(moved_bytes: int) -> float:
    """Best time to read half of ``moved_bytes`` and write the other half, buffers warm."""
    source = np.ones(moved_bytes // 2, np.uint8)
    target = np.zeros_like(source)
    best = float("inf")
    copies = 0
    end = time.perf_counter() + _COPY_SECONDS
    while copies < _MINIMUM_COPIES or time.perf_counter() < end:
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
        copies += 1
    return best * 1e6
