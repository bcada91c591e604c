"""Interleaved timing: every contender meets the same moments of a machine that is never quiet."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import repeat

# Long enough that the clock's 50 ns vanish, short enough that a disturbance spoils few rounds.
_ROUND_SECONDS = 0.002
# Untimed calls ahead of a turn: they bring arrays, code and the branch predictor's memory back, and
# wake a library's threads. At least one, unless a call takes so long that it makes no difference.
_WARM_SECONDS = 0.0005
_NO_WARMING_SECONDS = 0.1
_MINIMUM_ROUNDS = 5
# Of calls so long that five rounds would not fit.
_FEW_ROUNDS = 3

Turn = Callable[[int, bool], float]
"""Makes so many calls, after some untimed ones if asked, and returns the seconds of one."""


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
    """Time several calls of one process in turns.

    Parameters
    ----------
    calls : mapping of str to callable
        What to time, by label. A call's result is dropped at once, as in a loop of a user's.
    seconds : float
        How long to go on, for all labels together.
    before : mapping of str to callable, optional
        Run untimed ahead of a label's turn, such as to set its number of threads.

    Returns
    -------
    dict of str to Timing
    """
    before = before or {}
    turns: dict[str, Turn] = {}
    first: dict[str, float] = {}
    for label, call in calls.items():
        turns[label] = partial(_prepared_turn, call, before.get(label, _nothing))
        # The first call pays for page faults, code generation and thread pools.
        turns[label](1, False)
        first[label] = turns[label](1, False)
    return take_turns(turns, first, seconds)


def take_turns(
    turns: Mapping[str, Turn], first: Mapping[str, float], seconds: float
) -> dict[str, Timing]:
    """Time several contenders in rounds, in which each has one turn of some milliseconds.

    Parameters
    ----------
    turns : mapping of str to callable
        By label. What a turn raises ends the timing.
    first : mapping of str to float
        About how many seconds one call takes, from a call that was made before.
    seconds : float
        How long to go on, for all labels together. Each has an equal share. At least five rounds
        are run, by a label whose calls are too long for that at least three.

    Returns
    -------
    dict of str to Timing
    """
    share = seconds / max(len(turns), 1)
    count = {label: max(1, int(_ROUND_SECONDS / first[label])) for label in turns}
    least = {
        label: _MINIMUM_ROUNDS if first[label] * _MINIMUM_ROUNDS < share else _FEW_ROUNDS
        for label in turns
    }
    samples: dict[str, list[float]] = {label: [] for label in turns}
    spent = dict.fromkeys(turns, 0.0)
    order = list(turns)
    while order:
        for label in order:
            start = time.perf_counter()
            warm = first[label] < _NO_WARMING_SECONDS
            samples[label].append(turns[label](count[label], warm))
            spent[label] += time.perf_counter() - start
        order.append(order.pop(0))  # Nobody always follows the same neighbour's leftovers.
        order = [
            label for label in order if len(samples[label]) < least[label] or spent[label] < share
        ]
    return {label: _summary(samples[label], count[label]) for label in turns}


def take_turn(call: Callable[[], object], count: int, warm: bool) -> float:
    """Call so often, after untimed calls if ``warm``; return the seconds that a call took."""
    if warm:
        end = time.perf_counter() + _WARM_SECONDS
        call()
        while time.perf_counter() < end:
            call()
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in repeat(None, count):
            call()
        return (time.perf_counter() - start) / count
    finally:
        if collecting:
            gc.enable()


def _prepared_turn(
    call: Callable[[], object], before: Callable[[], object], count: int, warm: bool
) -> float:
    before()
    return take_turn(call, count, warm)


def _summary(seconds: list[float], calls_per_round: int) -> Timing:
    q1, median, q3 = (1e6 * value for value in statistics.quantiles(seconds, n=4))
    return Timing(median, q1, q3, 1e6 * min(seconds), len(seconds), calls_per_round)


def _nothing() -> None:
    """Stand in for a label without a preparation."""
