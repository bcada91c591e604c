"""The libraries that are compared, one small adapter each; depthwise itself is one of them."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Protocol

from numpy.typing import NDArray

from benchmarks.cases import Case

OURS = "depthwise"
PEERS = ("tensorflow", "pytorch", "onnxruntime", "openvino", "litert", "opencv", "jax")

# Read when a library loads, so they are set before any peer is imported.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")

# M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h: never shrink the heap, and allocate nowhere else.
_MALLOPT = {-1: 2**31 - 1, -4: 0}


class Peer(Protocol):
    """What an adapter offers: each is a class ``Adapter(threads)`` in ``peers/NAME.py``."""

    label: str

    def version(self) -> str:
        """Version of the library."""

    def supports(self, case: Case) -> bool:
        """Whether the library can compute the case in its own layout on a CPU."""

    def prepare(self, case: Case, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], Any]:
        """Convert the arrays, untimed, and return what runs one call with a fresh answer.

        ``arrays`` are named like ``case.shapes`` and lack the answer.
        """

    def to_numpy(self, case: Case, answer: Any) -> NDArray[Any]:
        """Turn what a call returned into an array ordered by the case's ``data_format``."""


# Of a trial among a library's ways to compute the same, and of a call that is not worth another.
_TRIAL_SECONDS = 0.02
_LONG_SECONDS = 1.0


def load(
    names: Iterable[str], threads: int, package: str = __name__
) -> tuple[dict[str, Peer], dict[str, str]]:
    """Import peers of a package into this process, with a fixed number of threads.

    Returns
    -------
    peers : dict of str to Peer
        Those that loaded, by name.
    missing : dict of str to str
        Why the others did not, by name: an absent peer is named, not hidden.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    keep_freed_memory()
    peers: dict[str, Peer] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            peers[name] = import_module(f"{package}.{name}").Adapter(threads)
        except ImportError as error:
            missing[name] = str(error)
    return peers, missing


def keep_freed_memory() -> None:
    """Have glibc keep what a call frees, at hand for the next call.

    Otherwise it depends on what else lies on the heap whether scratch memory goes back to the
    system after each call and comes anew, page by page: the same gradient took PyTorch 4.8 ms in
    one process and 38 ms in another (Zen 4). This is the better case for all.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        for option, value in _MALLOPT.items():
            mallopt(option, value)


def fastest(*calls: Callable[[], Any]) -> Callable[[], Any]:
    """Choose among a library's several ways to compute the same: each is judged by its best."""
    return min(calls, key=_best_seconds)


def _best_seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    if first > _LONG_SECONDS:
        return first
    best = float("inf")
    end = time.perf_counter() + _TRIAL_SECONDS
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best
