"""The least time this machine allows for a case, measured in the same run as the case.

Nothing computes a convolution or a gradient faster than the bytes of its images pass through
memory, nor (by the direct sum) faster than its multiply-adds at the peak of the FMA units. What
reads an image and writes another is held against `memcpy` of as many bytes, half of them read and
half written; the filter's gradient, which writes no image, against a search that reads them all.
One thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from benchmarks.cases import Case
from depthwise import _native

_PASS_SECONDS = 0.1
_MINIMUM_PASSES = 5
_PEAK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Floor:
    """Both bounds of a case in microseconds; the larger one is the floor."""

    memory_us: float
    arithmetic_us: float

    @property
    def us(self) -> float:
        """The floor."""
        return max(self.memory_us, self.arithmetic_us)


def measure_floor(case: Case) -> Floor:
    """Measure the floor of a case."""
    return Floor(
        memory_us=_memory_us(case),
        arithmetic_us=case.flops / (fma_peak_gflops(case.dtype) * 1e3),
    )


@cache
def fma_peak_gflops(dtype: str) -> float:
    """Return the FMA peak of one core for the type that sums of ``dtype`` accumulate in."""
    if dtype == "float64":
        return fma_peak_gflops("float32") / 2  # Half as many fit a vector.
    return _native.peak_gflops(_PEAK_SECONDS)


def _memory_us(case: Case) -> float:
    """Best time to move the bytes of the images, buffers warm."""
    if case.written_bytes == 0:
        # A search for a byte that is not there (`memchr`): reads as fast as anything that was
        # tried, 101 GB/s in 6.4 MB against 95 by `numpy.max` of bytes and 68 by `numpy.dot`
        # (Zen 4).
        return _best_us(partial(bytearray(case.read_bytes).find, 1))
    source = np.ones(case.moved_bytes // 2, np.uint8)
    return _best_us(partial(np.copyto, np.zeros_like(source), source))


def _best_us(run: Callable[[], object]) -> float:
    """Return the shortest time of a call, whatever disturbs the others."""
    best = float("inf")
    passes = 0
    end = time.perf_counter() + _PASS_SECONDS
    while passes < _MINIMUM_PASSES or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        passes += 1
    return best * 1e6
