"""The libraries that are compared, one small adapter each; depthwise itself is one of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Protocol

from numpy.typing import NDArray

from benchmarks.shapes import Case

OURS = "depthwise"
PEERS = ("tensorflow", "pytorch")

# Read when a library loads, so they are set before any peer is imported.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


class Peer(Protocol):
    """What an adapter offers: each is a class ``Adapter(threads)`` in ``peers/NAME.py``."""

    label: str

    def version(self) -> str:
        """Version of the library."""

    def supports(self, case: Case) -> bool:
        """Whether the library can compute the case in its own layout on a CPU."""

    def prepare(self, case: Case, input: NDArray[Any], filter: NDArray[Any]) -> Callable[[], Any]:
        """Convert the arrays, untimed, and return what runs one call with a fresh output."""

    def to_numpy(self, case: Case, output: Any) -> NDArray[Any]:
        """Turn what a call returned into an array ordered by the case's ``data_format``."""


_TRIAL_SECONDS = 0.02


def load(names: Iterable[str], threads: int) -> tuple[dict[str, Peer], dict[str, str]]:
    """Import peers with a fixed number of threads.

    Returns
    -------
    peers : dict of str to Peer
        Those that loaded, by name.
    missing : dict of str to str
        Why the others did not, by name: an absent peer is named, not hidden.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    peers: dict[str, Peer] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            peers[name] = import_module(f"benchmarks.peers.{name}").Adapter(threads)
        except ImportError as error:
            missing[name] = str(error)
    return peers, missing


def fastest(*calls: Callable[[], Any]) -> Callable[[], Any]:
    """Choose among a library's several ways to compute the same: each is judged by its best."""
    return min(calls, key=_best_seconds)


def _best_seconds(call: Callable[[], Any]) -> float:
    call()
    best = float("inf")
    end = time.perf_counter() + _TRIAL_SECONDS
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best
