"""The number of threads and the instruction set, as functions and the environment set them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import depthwise
from depthwise import _native
from subprocesses import output_of, run_script


def test_set_and_get(restored_threads: None) -> None:
    numbers: list[Any] = [1, 2, 3, np.int64(4), np.uint8(5), 64]
    for number in numbers:
        depthwise.set_num_threads(number)
        assert depthwise.get_num_threads() == number
        assert type(depthwise.get_num_threads()) is int


@pytest.mark.parametrize(
    ("value", "exception"),
    [
        *[(value, TypeError) for value in (None, 1.0, 2.5, "2", [1], True, np.True_, np.ones(2))],
        *[(value, ValueError) for value in (0, -1, 2**20, 2**31, 2**63, 2**70, -(2**63))],
    ],
    ids=str,
)
def test_set_rejects(value: Any, exception: type[Exception], restored_threads: None) -> None:
    before = depthwise.get_num_threads()
    with pytest.raises(exception, match=r"\bn\b"):
        depthwise.set_num_threads(value)
    assert depthwise.get_num_threads() == before


COUNT = "import depthwise; print(depthwise.get_num_threads())"


@pytest.mark.parametrize(
    ("environment", "want"),
    [
        ({"DEPTHWISE_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"DEPTHWISE_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"OMP_NUM_THREADS": "3,2,1"}, 3),
        ({"DEPTHWISE_NUM_THREADS": "1"}, 1),
    ],
    ids=str,
)
def test_environment(environment: dict[str, str], want: int) -> None:
    assert int(output_of(COUNT, environment=environment)) == want


@pytest.mark.parametrize("value", ["0", "-1", "two", "2.5", "99999999999999999999", "3x", " "])
def test_invalid_environment_counts_as_unset(value: str) -> None:
    """OMP_NUM_THREADS is set for others too, so that an odd value of it is no reason to fail."""
    default = output_of(COUNT)
    for name in ("DEPTHWISE_NUM_THREADS", "OMP_NUM_THREADS"):
        assert output_of(COUNT, environment={name: value}) == default
    both = {"DEPTHWISE_NUM_THREADS": value, "OMP_NUM_THREADS": "3"}
    assert int(output_of(COUNT, environment=both)) == 3


def test_empty_environment_counts_as_unset() -> None:
    empty = {"DEPTHWISE_NUM_THREADS": "", "OMP_NUM_THREADS": "", "DEPTHWISE_ISA": ""}
    assert output_of(COUNT, environment=empty) == output_of(COUNT)


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no affinity to honour"
)
def test_affinity() -> None:
    """The default is the number of cores that the process may run on."""
    cores = sorted(os.sched_getaffinity(0))
    pin = f"import os; os.sched_setaffinity(0, [{cores[0]}])\n"
    assert int(output_of(pin + COUNT)) == 1
    assert 1 <= int(output_of(COUNT)) <= len(cores)


@pytest.mark.parametrize("isa", _native.supported_isas())
def test_forced_instruction_set(isa: str) -> None:
    printed = output_of(
        "from depthwise import _native; print(_native.get_isa())",
        environment={"DEPTHWISE_ISA": isa},
    )
    assert printed.strip() == isa


def test_best_instruction_set_is_the_default() -> None:
    printed = output_of("from depthwise import _native; print(_native.get_isa())")
    assert printed.strip() == _native.supported_isas()[0]


def test_unknown_instruction_set() -> None:
    done = run_script("import depthwise", environment={"DEPTHWISE_ISA": "pentium"})
    assert done.returncode != 0
    assert "DEPTHWISE_ISA" in done.stderr
    assert "pentium" in done.stderr
    assert _native.supported_isas()[0] in done.stderr
    before = _native.get_isa()
    with pytest.raises(ValueError, match="pentium"):
        _native.set_isa("pentium")
    assert _native.get_isa() == before


def test_large_filters_are_transformed_by_default() -> None:
    ask = "from depthwise import _native; print(_native.get_large_filter())"
    for environment, want in (({}, "transform"), ({"DEPTHWISE_LARGE_FILTER": "direct"}, "direct")):
        assert output_of(ask, environment=environment).strip() == want


def test_unknown_way_to_compute_large_filters() -> None:
    done = run_script("import depthwise", environment={"DEPTHWISE_LARGE_FILTER": "fft"})
    assert done.returncode != 0
    assert "DEPTHWISE_LARGE_FILTER" in done.stderr
    assert "fft" in done.stderr
    assert "direct" in done.stderr
    with pytest.raises(ValueError, match="fft"):
        _native.set_large_filter("fft")
    assert _native.get_large_filter() == "transform"
