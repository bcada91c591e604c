"""One peer in a process of its own, which does what it is told and nothing meanwhile.

`Worker` is the side that tells, used by `benchmarks.measure`; `python -m benchmarks.worker NAME
THREADS` is the side that does. They exchange pickled tuples through the standard streams of the
process: a verb with its arguments, and ``("ok", value)`` or ``("error", text)``. What the peer
prints goes elsewhere, and is read only if the process dies.
"""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from benchmarks.cases import Case
from benchmarks.timing import take_turn

_ROOT = Path(__file__).parent.parent
_START_SECONDS = 120.0
# A first call that takes so long is not repeated to know better.
_LONG_SECONDS = 0.5
_PEERS = "benchmarks.peers"


class WorkerError(Exception):
    """The worker said no, died, or took longer than it was given."""


class Worker:
    """A peer's process, started when it is first needed, and again when it has died.

    Parameters
    ----------
    name : str
        Of the peer's module in ``package``.
    threads : int
        That the peer may use.
    package : str, default "benchmarks.peers"
        Where peers are; tests have their own.
    """

    def __init__(self, name: str, threads: int, package: str = _PEERS) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "benchmarks.worker", name, str(threads), package]
        self._process: subprocess.Popen[bytes] | None = None
        self._printed: IO[bytes] | None = None
        self._resources = ExitStack()
        self._generation = 0

    @property
    def generation(self) -> int:
        """Counts the processes: what one has prepared is lost with it."""
        return self._generation

    def ask(self, seconds: float, verb: str, *arguments: Any) -> Any:
        """Have the worker do something and return what it replies.

        Raises
        ------
        WorkerError
            With the reason. A process that died or was too slow is gone; the next call starts
            another one.
        """
        if self._process is None:
            self._start()
        return self._exchange(seconds, verb, *arguments)

    def forget(self) -> None:
        """Free what has been prepared."""
        if self._process is not None:
            try:
                self._exchange(_START_SECONDS, "forget")
            except WorkerError:
                self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with suppress(OSError):  # What it never read cannot be flushed.
                self._resources.close()

    def _start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), *_python_path()])}
        with ExitStack() as resources:
            self._printed = resources.enter_context(tempfile.TemporaryFile())
            self._process = resources.enter_context(
                subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._printed,
                    env=environment,
                )
            )
            self._resources = resources.pop_all()
        self._generation += 1
        self._exchange(_START_SECONDS, "hello")

    def _exchange(self, seconds: float, *request: Any) -> Any:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            pickle.dump(request, process.stdin)
            process.stdin.flush()
            status, value = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            reason = f"took longer than {seconds:g} s" if late.is_set() else self._cause(process)
            self.close()
            raise WorkerError(reason) from None
        finally:
            timer.cancel()
        if status == "error":
            raise WorkerError(value)
        return value

    def _cause(self, process: subprocess.Popen[bytes]) -> str:
        """Say how the process ended, with the last line that it printed."""
        status = process.wait()
        assert self._printed is not None
        self._printed.seek(0)
        lines = self._printed.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
        return f"its process {how}" + (f": {last[:200]}" if last else "")


def _python_path() -> list[str]:
    return [path for path in [os.environ.get("PYTHONPATH", "")] if path]


class _Peer:
    """What the process does; each method is a verb."""

    def __init__(self, name: str, threads: int, package: str) -> None:
        # Not above: the side that tells needs no peer, and this sets variables of the environment.
        from benchmarks.peers import load

        peers, missing = load([name], threads, package)
        self._missing = missing.get(name)
        self._peer = peers.get(name)
        self._calls: dict[str, Callable[[], Any]] = {}

    def hello(self) -> None:
        """Show that the process has started."""

    def describe(self) -> dict[str, str]:
        """Return the peer's label and version, or why it is missing."""
        if self._peer is None:
            return {"missing": self._missing or "unknown"}
        return {"label": self._peer.label, "version": self._peer.version()}

    def prepare(self, key: str, case: Case, parts: Sequence[Any]) -> float | None:
        """Prepare and check a case; return the seconds of a call, or None if it is unsupported."""
        from benchmarks.check import find_error, make_arrays

        assert self._peer is not None
        if not self._peer.supports(case):
            return None
        arrays = make_arrays(case)
        call = self._peer.prepare(case, arrays)
        # The first call pays for page faults, code generation and thread pools.
        start = time.perf_counter()
        answer = call()
        first = time.perf_counter() - start
        error = find_error(case, parts, self._peer.to_numpy(case, answer))
        if error is not None:
            raise ValueError(error)
        del answer, arrays
        self._calls[key] = call
        return first if first > _LONG_SECONDS else min(first, take_turn(call, 1, warm=False))

    def turn(self, key: str, count: int, warm: bool) -> float:
        """Take a turn of the timing."""
        return take_turn(self._calls[key], count, warm)

    def forget(self) -> None:
        """Free what has been prepared."""
        self._calls.clear()
        gc.collect()


def _limit_memory() -> None:
    """Let an allocation fail that would have the system end some process, and not always this one.

    ONNX Runtime and LiteRT ran a machine of 23 GB out of memory, on an image of 4320x7680x4 with a
    filter of 9x9.
    """
    try:
        import resource
    except ImportError:  # Not on Windows.
        return
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    resource.setrlimit(resource.RLIMIT_AS, (half, half))


def main() -> int:
    """Obey until the other side is gone."""
    name, threads, package = sys.argv[1:]
    _limit_memory()
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What the peer prints must not come between the replies.
    peer = _Peer(name, int(threads), package)
    while True:
        try:
            verb, *arguments = pickle.load(requests)
        except EOFError:
            return 0
        try:
            reply = ("ok", getattr(peer, verb)(*arguments))
        except Exception as exception:  # A peer may fail in any way; the process goes on.
            reply = ("error", f"{type(exception).__name__}: {exception}"[:500])
        pickle.dump(reply, replies)
        replies.flush()


if __name__ == "__main__":
    sys.exit(main())
