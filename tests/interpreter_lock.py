"""Whether Python code of other threads runs while a call computes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable


def assert_python_runs_during(call: Callable[[], object]) -> None:
    """Make a call that takes milliseconds; a Python thread has to advance meanwhile."""
    counter = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counter
        while not stop.is_set():
            counter += 1

    thread = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    # With the lock held the thread would still get an interval or two before and after a call.
    sys.setswitchinterval(1e-4)
    thread.start()
    share = 0.0
    try:
        before, start = counter, time.perf_counter()
        time.sleep(0.05)
        rate = (counter - before) / (time.perf_counter() - start)
        # On a busy machine the thread may have no core during some calls.
        for _ in range(20):
            before, start = counter, time.perf_counter()
            call()
            share = max(share, (counter - before) / (time.perf_counter() - start) / rate)
            if share > 0.3:
                break
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert share > 0.3
