"""One case, checked and timed on every peer: gives a row of plain numbers, ready for JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from benchmarks.cases import Case
from benchmarks.check import Part, make_arrays, right_parts
from benchmarks.floor import Floor, measure_floor
from benchmarks.peers import OURS
from benchmarks.timing import Timing, Turn, take_turns
from benchmarks.worker import Worker, WorkerError

# After a call the threads of some peers spin for a while, in case there is another. Longer than
# that, so that they do not take a core from whose turn is next.
_SETTLING_SECONDS = 0.005

# A turn that takes so many times as long as it should is given up.
_PATIENCE = 20


def measure(
    case: Case,
    workers: Mapping[str, Worker],
    seconds: float,
    limit: float = 30.0,
    neighbours: bool = False,
) -> dict[str, Any]:
    """Check and time one case.

    Parameters
    ----------
    case : Case
    workers : mapping of str to Worker
        By the peer's name, with ``case.threads`` threads.
    seconds : float
        Time to spend on the timing, all peers together.
    limit : float, default 30.0
        Seconds in which a peer has to be ready, checked, and through with its first calls.
    neighbours : bool, default False
        Whether to time ours on the neighbours of the case too.

    Returns
    -------
    dict
        The case's fields and ``flops``, ``moved_bytes``, ``floor``, ``peers``; then what is read
        most: ``gflops``, ``gbytes_per_second``, ``best_peer``, ``ratio`` to it (above 1 if ours
        is faster), ``floor_share``; and ``neighbours``, if asked for. Each peer's entry is a
        timing, an ``error``, or ``unsupported``. What cannot be told is absent: with more than
        one thread a row has no floor, which is that of one core.
    """
    row: dict[str, Any] = {
        "name": case.name,
        **asdict(case),
        "flops": case.flops,
        "moved_bytes": case.moved_bytes,
    }
    floors = {OURS: measure_floor(case)} if case.threads == 1 else {}
    contenders = {name: (worker, case) for name, worker in workers.items()}
    if neighbours and OURS in workers:
        for label, neighbour in case.neighbours.items():
            contenders[label] = workers[OURS], neighbour
            if neighbour.threads == 1:
                floors[label] = measure_floor(neighbour)
    entries = _time(contenders, seconds, limit)
    row["peers"] = {name: entries[name] for name in workers}
    if OURS in floors:
        row["floor"] = {**asdict(floors[OURS]), "us": floors[OURS].us}
    row |= _derived(row)
    beside = [label for label in entries if label not in workers]
    if beside:
        row["neighbours"] = {
            label: _neighbour(contenders[label][1], entries[label], floors.get(label))
            for label in beside
        }
    return row


def _time(
    contenders: Mapping[str, tuple[Worker, Case]], seconds: float, limit: float
) -> dict[str, dict[str, Any]]:
    """Return the entry of each contender; whoever fails does not stop the others."""
    entries: dict[str, dict[str, Any]] = {}
    first: dict[str, float] = {}
    generations: dict[str, int] = {}
    parts: dict[Case, list[Part]] = {}
    for label, (worker, case) in contenders.items():
        if case not in parts:
            parts[case] = right_parts(case, make_arrays(case))
        try:
            needed = worker.ask(limit, "prepare", label, case, parts[case])
        except WorkerError as error:
            entries[label] = {"error": str(error)}
            continue
        if needed is None:
            entries[label] = {"unsupported": True}
        else:
            first[label] = needed
            generations[label] = worker.generation
    # Whose process has died since has lost what it had prepared.
    for label in list(first):
        if contenders[label][0].generation != generations[label]:
            entries[label] = {"error": "its process died on a neighbour"}
            del first[label]
    entries |= {
        label: result if isinstance(result, dict) else asdict(result)
        for label, result in _interleave(contenders, first, seconds, limit).items()
    }
    for worker in {id(worker): worker for worker, _ in contenders.values()}.values():
        worker.forget()
    return entries


def _interleave(
    contenders: Mapping[str, tuple[Worker, Case]],
    first: dict[str, float],
    seconds: float,
    limit: float,
) -> dict[str, Timing | dict[str, Any]]:
    """Time the prepared contenders in turns; begin anew without one that fails meanwhile."""
    failed: dict[str, Timing | dict[str, Any]] = {}
    while True:
        turns: dict[str, Turn] = {
            label: partial(_turn, *contenders[label], label, limit)
            for label in first
            if label not in failed
        }
        try:
            return {**failed, **take_turns(turns, first, seconds)}
        except _FailedTurnError as failure:
            failed[failure.label] = {"error": str(failure)}


class _FailedTurnError(Exception):
    """A contender that had worked before died or hung."""

    def __init__(self, label: str, reason: str) -> None:
        super().__init__(reason)
        self.label = label


def _turn(worker: Worker, case: Case, label: str, limit: float, count: int, warm: bool) -> float:
    if case.threads > 1:
        time.sleep(_SETTLING_SECONDS)
    try:
        seconds: float = worker.ask(_PATIENCE * limit, "turn", label, count, warm)
    except WorkerError as error:
        raise _FailedTurnError(label, str(error)) from None
    return seconds


def _derived(row: Mapping[str, Any]) -> dict[str, Any]:
    """Work out speeds and ratios from a row's times."""
    medians = {
        name: entry["median_us"] for name, entry in row["peers"].items() if "median_us" in entry
    }
    if OURS not in medians:
        return {}
    ours = medians.pop(OURS)
    derived = {
        "gflops": row["flops"] / ours / 1e3,
        "gbytes_per_second": row["moved_bytes"] / ours / 1e3,
    }
    if medians:
        best = min(medians, key=lambda name: medians[name])
        derived |= {"best_peer": best, "ratio": medians[best] / ours}
    if "floor" in row:
        derived["floor_share"] = row["floor"]["us"] / ours
    return derived


def _neighbour(case: Case, entry: Mapping[str, Any], floor: Floor | None) -> dict[str, Any]:
    """Return the neighbour's name, its entry, and its share of its own floor."""
    found = {"name": case.name, **entry}
    if floor and "median_us" in entry:
        found |= {"floor_us": floor.us, "floor_share": floor.us / entry["median_us"]}
    return found
