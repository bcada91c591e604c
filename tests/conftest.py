"""Fixtures: instruction sets, thread counts and time limits; Hypothesis with its seed printed."""

from __future__ import annotations

import faulthandler
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import hypothesis
import pytest

import depthwise
from depthwise import _native

SEED = int(os.environ.get("DEPTHWISE_TEST_SEED", random.randrange(2**32)))

# For TensorFlow, whichever test imports it first: with AMX oneDNN returns memory that it never wrote
# for bfloat16 with a stride and a channel multiplier (60 of 60 drawn 1x23x6x26 with 2x4 filters).
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")

hypothesis.settings.register_profile("depthwise", print_blob=True, deadline=None)
hypothesis.settings.load_profile("depthwise")


def pytest_report_header() -> str:
    isas = ", ".join(_native.supported_isas())
    return f"instruction sets: {isas}; to repeat the drawn tests: DEPTHWISE_TEST_SEED={SEED}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that need TensorFlow, unless they are asked for.

    They are asked for by `-m tensorflow` or by DEPTHWISE_TEST_TENSORFLOW=1, and then fail if it
    cannot be imported.
    """
    if os.environ.get("DEPTHWISE_TEST_TENSORFLOW") == "1" or "tensorflow" in config.option.markexpr:
        return
    left_out = [item for item in items if "tensorflow" in item.keywords]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if "tensorflow" not in item.keywords]


@pytest.fixture(params=_native.supported_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once on each instruction set of this machine."""
    before = _native.get_isa()
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(before)


@pytest.fixture
def restored_isa() -> Iterator[None]:
    """Let the test choose instruction sets itself; restore the one in use afterwards."""
    before = _native.get_isa()
    yield
    _native.set_isa(before)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """Let the test set the number of threads; restore it afterwards."""
    before = depthwise.get_num_threads()
    yield
    depthwise.set_num_threads(before)


TimeLimit = Callable[[float], AbstractContextManager[None]]


@pytest.fixture
def time_limit() -> TimeLimit:
    """Return a context manager that fails a block which takes longer than the given seconds.

    Native code that never returns cannot be interrupted from Python; after a minute the process
    ends, with the line it was at.
    """

    @contextmanager
    def limited(seconds: float) -> Iterator[None]:
        faulthandler.dump_traceback_later(60, exit=True)
        start = time.perf_counter()
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
        elapsed = time.perf_counter() - start
        assert elapsed < seconds, f"took {elapsed:.1f} s, allowed are {seconds} s"

    return limited
