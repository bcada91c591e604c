"""Tables and pictures from a result: nothing that loses, fails or is missing is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.cases import Case
from benchmarks.shapes import CASES, FAMILY_OF, SELECTION


def timing(median_us: float) -> dict[str, float]:
    return {"median_us": median_us, "q1_us": median_us - 2, "q3_us": median_us + 4}


def row(case: Case, ours: float, best: float) -> dict[str, Any]:
    """A row as `benchmarks.run` writes it, with one peer that is compared and one that failed."""
    entries = {"depthwise": timing(ours), "fast": timing(best), "broken": {"error": "no idea"}}
    found: dict[str, Any] = {
        "name": case.name,
        "dtype": case.dtype,
        "data_format": case.data_format,
        "operation": case.operation,
        "threads": case.threads,
        "family": FAMILY_OF[case],
        "selected": case in SELECTION,
        "flops": case.flops,
        "moved_bytes": case.moved_bytes,
        "peers": entries,
        "gflops": case.flops / ours / 1e3,
        "gbytes_per_second": case.moved_bytes / ours / 1e3,
        "best_peer": "fast",
        "ratio": best / ours,
    }
    if case.threads == 1:
        memory_us, arithmetic_us = case.moved_bytes / 3e4, case.flops / 2e5
        floor = max(memory_us, arithmetic_us)
        found["floor"] = {"memory_us": memory_us, "arithmetic_us": arithmetic_us, "us": floor}
        found["floor_share"] = floor / ours
    return found


@pytest.fixture
def result() -> dict[str, Any]:
    """Return a result of every row, of which the first loses."""
    rows = [row(case, 100, 50 if case is CASES[0] else 250) for case in CASES]
    return {
        "header": {
            "cpu": "Some CPU",
            "isa": "x86-64-v4",
            "compiler": "gcc",
            "threads": [1, 2],
            "versions": {"Fast": "1.0"},
            "commit": "abc",
            "date": "2026-01-01",
            "command": "python -m benchmarks.run",
        },
        "labels": {"depthwise": "depthwise", "fast": "Fast", "broken": "Broken"},
        "missing": {"absent": "No module named 'absent'"},
        "rows": rows,
    }


def test_a_table_shows_who_wins_loses_fails_and_is_missing(result: dict[str, Any]) -> None:
    text = report.table(result, f"^({CASES[0].name}|{CASES[1].name})$")
    losing, winning = (line for line in text.splitlines() if line.startswith("| NHWC"))
    assert f"| {CASES[0].name} |" in losing
    assert "| 100.0 (3.0) | 50.0 (3.0) | wrong or failed | **0.50** |" in losing
    assert "| 250.0 (3.0) | wrong or failed | 2.50 |" in winning
    assert "not installed: absent" in text
    assert "Some CPU, x86-64-v4, 1 and 2 threads" in text
    assert f"at least 1.5 times in 1 of 2, 0.50 times in the slowest ({CASES[0].name})" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_the_shares_of_neighbours_have_a_column(result: dict[str, Any]) -> None:
    result["rows"][1]["neighbours"] = {
        "one channel more": {"floor_share": 0.5},
        "one column less": {"error": "no idea"},
    }
    text = report.table(result, "^NHWC 112x112x(32 3x3|64 3x3 stride 2)$")
    assert "the neighbours'" in text
    assert "| 50%,  |" in text
    assert "the neighbours'" not in report.table(result, f"^{CASES[0].name}$")


def test_a_brief_table_has_the_selection_and_the_best_peer(result: dict[str, Any]) -> None:
    text = report.table(result, "", "brief")
    lines = [line for line in text.splitlines() if line.startswith(("| NHWC", "| NCHW"))]
    assert len(lines) == len(SELECTION)
    assert "50.0 (3.0) Fast" in lines[0]
    assert "Broken" not in text


def test_the_rows_that_lose(result: dict[str, Any]) -> None:
    text = report.table(result, "", "losing")
    lines = [line for line in text.splitlines() if line.startswith("| N")]
    assert len(lines) == 1
    assert CASES[0].name in lines[0]
    del result["rows"][0]
    assert "No row is slower than a peer." in report.table(result, "", "losing")


def test_documents_are_filled_and_keep_the_rest(tmp_path: Path, result: dict[str, Any]) -> None:
    path, document = tmp_path / "result.json", tmp_path / "page.md"
    path.write_text(json.dumps(result))
    place = "<!-- benchmark table{} -->\nold\n<!-- end of benchmark table -->\n"
    forms = ["", ": NCHW", ", brief: NHWC", ", losing"]
    document.write_text("before\n" + "between\n".join(map(place.format, forms)) + "after\n")
    arguments = [str(path), "--plots", "", "--documents", str(document)]
    assert report.main(arguments) == 0
    once = document.read_text()
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert "old" not in once
    assert once.count("<!-- end") == once.count("Some CPU") == len(forms)
    assert report.main(arguments) == 0
    assert document.read_text() == once
    document.write_text("no place")
    assert report.main(arguments) == 1


def test_pictures(tmp_path: Path, result: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib")  # Not among the extras of the tests.
    from benchmarks.plots import draw_all

    drawn = draw_all(result, tmp_path)
    assert len(drawn) == len(set(drawn)) == 4
    before = [path.read_bytes() for path in drawn]
    assert [path.read_bytes() for path in draw_all(result, tmp_path)] == before
    families = (tmp_path / "benchmarks_families.svg").read_text()
    assert "<svg" in families
    # Without a ratio, or rows, there is nothing to draw.
    assert draw_all({**result, "rows": []}, tmp_path) == []
