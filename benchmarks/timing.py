"""Interleaved timing: every contender meets the same moments of a machine that is never quiet."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import repeat

# Long enough that the clock's 50 ns vanish, short enough that a disturbance spoils few rounds.
_ROUND_SECONDS = 0.002
_MINIMUM_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Timing:
    """Time of one call over all rounds: median, quartiles and minimum in microseconds."""

    median_us: float
    q1_us: float
    q3_us: float
    min_us: float
    rounds: int
    calls_per_round: int


def interleave(
    calls: Mapping[str, Callable[[], object]],
    seconds: float,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, Timing]:
    """Time several calls in turns.

    Parameters
    ----------
    calls : mapping of str to callable
        What to time, by label. A call's result is dropped at once, as in a loop of a user's.
    seconds : float
        How long to go on, for all labels together; at least five rounds are run.
    before : mapping of str to callable, optional
        Run untimed ahead of a label's turn, such as to set its number of threads.

    Returns
    -------
    dict of str to Timing
    """
    before = before or {}
    repeats = {}
    for label, call in calls.items():
        before.get(label, _nothing)()
        call()  # The first call pays for page faults, code generation and thread pools.
        repeats[label] = max(1, int(_ROUND_SECONDS / _seconds_per_call(call, 1)))
    samples: dict[str, list[float]] = {label: [] for label in calls}
    order = list(calls)
    collecting = gc.isenabled()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        while len(samples[order[0]]) < _MINIMUM_ROUNDS or time.perf_counter() < end:
            for label in order:
                before.get(label, _nothing)()
                calls[label]()  # Brings its arrays back into the cache.
                samples[label].append(_seconds_per_call(calls[label], repeats[label]))
            order.append(order.pop(0))  # Nobody always follows the same neighbour's leftovers.
    finally:
        if collecting:
            gc.enable()
    return {label: _summary(samples[label], repeats[label]) for label in calls}


def _seconds_per_call(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in repeat(None, count):
        call()
    return (time.perf_counter() - start) / count


def _summary(seconds: list[float], calls_per_round: int) -> Timing:
    q1, median, q3 = (1e6 * value for value in statistics.quantiles(seconds, n=4))
    return Timing(median, q1, q3, 1e6 * min(seconds), len(seconds), calls_per_round)


def _nothing() -> None:
    """Stand in for a label without a preparation."""
