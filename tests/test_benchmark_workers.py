"""The benchmarks' processes: whatever a peer does, its row says so and the run goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import run
from benchmarks.cases import Case
from benchmarks.measure import measure
from benchmarks.peers import OURS
from benchmarks.worker import Worker, WorkerError

CASE = Case(1, 12, 13, 5, 3, 3)
SECONDS = 0.02
LIMIT = 20.0


@pytest.fixture(autouse=True)
def _findable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def ours() -> Iterator[Worker]:
    with closing(Worker(OURS, 1)) as worker:
        yield worker


def fake(name: str) -> Worker:
    return Worker(name, 1, "fake_peers")


def test_a_row_has_all_that_tables_and_plots_need(ours: Worker) -> None:
    with closing(fake("right")) as right:
        assert right.ask(LIMIT, "describe") == {"label": "Right", "version": "1.0 with 1"}
        row = measure(CASE, {OURS: ours, "right": right}, SECONDS, LIMIT, neighbours=True)
    assert json.loads(json.dumps(row)) == row
    assert row["name"] == CASE.name
    assert row["flops"] == CASE.flops
    medians = {name: entry["median_us"] for name, entry in row["peers"].items()}
    assert row["best_peer"] == "right"
    assert row["ratio"] == medians["right"] / medians[OURS]
    assert row["floor_share"] == row["floor"]["us"] / medians[OURS]
    assert row["gflops"] == CASE.flops / medians[OURS] / 1e3
    neighbours = row["neighbours"]
    assert {entry["name"] for entry in neighbours.values()} == {
        case.name for case in CASE.neighbours.values()
    }
    for entry in neighbours.values():
        assert entry["floor_share"] == entry["floor_us"] / entry["median_us"]


def test_with_two_threads_a_row_has_no_floor() -> None:
    with closing(Worker("right", 2, "fake_peers")) as right:
        assert right.ask(LIMIT, "describe")["version"] == "1.0 with 2"
        row = measure(replace(CASE, threads=2), {OURS: right}, SECONDS, LIMIT)
    assert "median_us" in row["peers"][OURS]
    assert "floor" not in row
    assert "floor_share" not in row


def test_a_wrong_answer_is_not_timed(ours: Worker) -> None:
    with closing(fake("wrong")) as wrong:
        row = measure(CASE, {OURS: ours, "wrong": wrong}, SECONDS, LIMIT)
    assert "instead of" in row["peers"]["wrong"]["error"]
    assert "median_us" in row["peers"][OURS]
    assert "ratio" not in row


def test_what_a_peer_cannot_is_unsupported() -> None:
    with closing(fake("right")) as right:
        row = measure(replace(CASE, dtype="float64"), {OURS: right}, SECONDS, LIMIT)
    assert row["peers"] == {OURS: {"unsupported": True}}


@pytest.mark.parametrize(
    "stride", [pytest.param(2, id="preparing"), pytest.param(3, id="being timed")]
)
def test_a_peer_that_takes_the_interpreter_down_loses_its_row_only(
    stride: int, ours: Worker
) -> None:
    with closing(fake("aborting")) as peer:
        workers = {OURS: ours, "aborting": peer}
        lost = measure(replace(CASE, stride=stride), workers, SECONDS, LIMIT)
        error = lost["peers"]["aborting"]["error"]
        assert "signal 6" in error
        assert "the reason why" in error
        assert "median_us" in lost["peers"][OURS]
        again = measure(CASE, workers, SECONDS, LIMIT)
        assert "median_us" in again["peers"]["aborting"]
        assert peer.generation == 2


def test_a_peer_that_never_comes_back_loses_its_row_only(ours: Worker) -> None:
    with closing(fake("hanging")) as peer:
        peer.ask(LIMIT, "describe")  # Else the limit would be for its start, too.
        workers = {OURS: ours, "hanging": peer}
        ours.ask(LIMIT, "describe")
        lost = measure(replace(CASE, stride=2), workers, SECONDS, limit=1.0)
        assert lost["peers"]["hanging"] == {"error": "took longer than 1 s"}
        assert "median_us" in lost["peers"][OURS]
        again = measure(CASE, workers, SECONDS, LIMIT)
        assert "median_us" in again["peers"]["hanging"]


def test_a_worker_that_is_closed_starts_again() -> None:
    with closing(fake("right")) as right:
        with pytest.raises(WorkerError, match="KeyError"):
            right.ask(LIMIT, "turn", "what was not prepared", 1, False)
        right.close()
        right.close()
        assert right.ask(LIMIT, "describe")["label"] == "Right"
        assert right.generation == 2


def test_a_run_writes_its_rows_and_names_who_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new folder" / "result.json"
    name = "NHWC 7x7x1024 3x3"
    arguments = ["--rows", f"^{name}$", "--peers", "nobody", "--seconds", str(SECONDS)]
    assert run.main([*arguments, "--json", str(path)]) == 0
    printed = capsys.readouterr()
    assert f"[1/1, 0.0 min] {name}" in printed.err
    assert "nobody is not compared" in printed.out
    result: dict[str, Any] = json.loads(path.read_text())
    assert "nobody" in result["missing"]
    assert set(result["labels"]) == {OURS}
    (row,) = result["rows"]
    assert (row["name"], row["family"], row["selected"]) == (name, "MobileNet V1", True)
    assert row["isa"] == result["header"]["isa"]
    assert result["header"]["threads"] == [1]


def test_a_run_without_rows_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--rows", "no such row"]) == 1
    assert "no row matches" in capsys.readouterr().err
