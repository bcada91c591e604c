"""Fixtures: instruction sets, thread counts, time limits, JAX; Hypothesis with its seed printed."""

from __future__ import annotations

import faulthandler
import importlib
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import depthwise
from depthwise import _native

FRAMEWORKS = ("jax", "tensorflow", "torch")

SEED = int(os.environ.get("DEPTHWISE_TEST_SEED", random.randrange(2**32)))

# For TensorFlow, whichever test imports it first: with AMX oneDNN returns memory that it never
# wrote for bfloat16 with a stride and a channel multiplier (60 of 60 drawn 1x23x6x26 with 2x4
# filters).
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")

hypothesis.settings.register_profile("depthwise", print_blob=True, deadline=None)
hypothesis.settings.load_profile("depthwise")


def pytest_report_header() -> str:
    isas = ", ".join(_native.supported_isas())
    return f"instruction sets: {isas}; to repeat the drawn tests: DEPTHWISE_TEST_SEED={SEED}"


def _is_asked_for(framework: str, config: pytest.Config) -> bool:
    """Whether `-m FRAMEWORK` or DEPTHWISE_TEST_FRAMEWORK=1 asks for the tests of a framework."""
    variable = f"DEPTHWISE_TEST_{framework.upper()}"
    return os.environ.get(variable) == "1" or framework in config.option.markexpr


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files of frameworks that are not asked for.

    They are named and marked after the framework, and import it: if it is asked for and cannot be
    imported, that is a failure.
    """
    for framework in FRAMEWORKS:
        if collection_path.name.startswith(f"test_{framework}"):
            return None if _is_asked_for(framework, config) else True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out single tests that need a framework, in the same way."""
    unasked = [name for name in FRAMEWORKS if not _is_asked_for(name, config)]
    left_out = [item for item in items if any(map(item.get_closest_marker, unasked))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not any(map(item.get_closest_marker, unasked))]


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
def direct_sums() -> Iterator[None]:
    """Sum large filters tap by tap, for tests that compare bits with sums of integers."""
    before = _native.get_large_filter()
    _native.set_large_filter("direct")
    yield
    _native.set_large_filter(before)


@pytest.fixture
def assume_bytes() -> Iterator[Callable[[float], None]]:
    """Return a function that makes small problems be computed like ones of so many bytes."""
    yield _native.set_assumed_bytes
    _native.set_assumed_bytes(0)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """Let the test set the number of threads; restore it afterwards."""
    before = depthwise.get_num_threads()
    yield
    depthwise.set_num_threads(before)


@pytest.fixture
def jax() -> Any:
    """Import JAX; not being able to is a failure."""
    return importlib.import_module("jax")


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
