"""One case, checked and timed on every peer: gives a row of plain numbers, ready for JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.check import find_error, make_arrays, right_parts
from benchmarks.floor import measure_floor
from benchmarks.peers import OURS, Peer
from benchmarks.shapes import Case
from benchmarks.timing import interleave


def measure(
    case: Case, peers: Mapping[str, Peer], seconds: float, threads: int = 1
) -> dict[str, Any]:
    """Check and time one case.

    Parameters
    ----------
    case : Case
    peers : mapping of str to Peer
        Loaded with ``threads`` threads.
    seconds : float
        Time to spend on the timing, all peers together.
    threads : int, default 1
        With more than one the row has no floor, which is that of one core.

    Returns
    -------
    dict
        The case's fields and ``flops``, ``moved_bytes``, ``floor``, ``peers``; then what is read
        most: ``gflops``, ``gbytes_per_second``, ``best_peer``, ``ratio`` to it (above 1 if ours
        is faster), ``floor_share``. Each peer's entry is a timing, an ``error``, or
        ``unsupported``. What cannot be told is absent.
    """
    calls, entries = _prepare(case, peers)
    row: dict[str, Any] = {
        "name": case.name,
        **asdict(case),
        "flops": case.flops,
        "moved_bytes": case.moved_bytes,
    }
    if threads == 1:
        floor = measure_floor(case)
        row["floor"] = {**asdict(floor), "us": floor.us}
    if calls:
        entries |= {name: asdict(timing) for name, timing in interleave(calls, seconds).items()}
    row["peers"] = {name: entries[name] for name in peers}
    return row | _derived(row)


def _prepare(
    case: Case, peers: Mapping[str, Peer]
) -> tuple[dict[str, Callable[[], Any]], dict[str, dict[str, Any]]]:
    """Return the calls that gave the right answer, and the entries of the peers without one."""
    arrays = make_arrays(case)
    parts = right_parts(case, arrays)
    calls: dict[str, Callable[[], Any]] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, peer in peers.items():
        if not peer.supports(case):
            entries[name] = {"unsupported": True}
            continue
        try:
            call = peer.prepare(case, arrays)
            error = find_error(case, parts, peer.to_numpy(case, call()))
        except Exception as exception:  # A peer may fail in any way; the others go on.
            error = f"{type(exception).__name__}: {exception}"
        if error is None:
            calls[name] = call
        else:
            entries[name] = {"error": error}
    return calls, entries


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
