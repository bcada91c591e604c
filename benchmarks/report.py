"""Writes the result of `benchmarks.run` into the documentation, so that nobody types a number.

    python -m benchmarks.report build/benchmarks.json

In each document a table goes between the lines ``<!-- benchmark table -->`` and
``<!-- end of benchmark table -->``. The first may choose rows by a regular expression on their
names, ``<!-- benchmark table: NHWC.*3x3 -->``, and one of two short forms:
``<!-- benchmark table, brief: NHWC -->`` has the selection of `benchmarks/shapes.py` and the best
peer alone, ``<!-- benchmark table, losing -->`` the rows where a peer is faster. The pictures of
`benchmarks/plots.py` go beside docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks.machine import thread_words
from benchmarks.peers import OURS

# Counted in the summary: by so much that no disturbance explains it.
_FAST = 1.5

_ROOT = Path(__file__).parent.parent
_TABLE = re.compile(
    r"(?P<begin><!-- benchmark table(?:, (?P<form>brief|losing))?(?:: (?P<rows>.+?))? -->\n)"
    r".*?(?P<end><!-- end of benchmark table -->)",
    re.DOTALL,
)


def main(arguments: list[str] | None = None) -> int:
    """Write tables and plots; see the module's docstring."""
    options = _parse(arguments)
    result = json.loads(options.result.read_text())
    for path in options.documents:
        text, tables = _TABLE.subn(lambda match: _fill(match, result), path.read_text())
        if tables == 0:
            print(f"{path} has no place for a benchmark table", file=sys.stderr)
            return 1
        path.write_text(text)
        print(f"{path}: {tables} table(s)")
    if options.plots:
        from benchmarks.plots import draw_all  # Only this needs matplotlib.

        for path in draw_all(result, options.plots):
            print(path)
    return 0


def table(result: Mapping[str, Any], rows: str = "", form: str | None = None) -> str:
    """Return a Markdown table of the rows whose name matches, with a line on its origin."""
    shown = [row for row in result["rows"] if re.search(rows, row["name"])]
    if form == "brief":
        shown = [row for row in shown if row["selected"]]
    elif form == "losing":
        shown = [row for row in shown if row.get("ratio", 1) < 1]
    origin = _origin(result)
    if not shown:
        nothing = "No row is slower than a peer." if form == "losing" else "No such row was timed."
        return f"{nothing}\n\n{origin}"
    columns = [_columns(row, result["labels"], form) for row in shown]
    titles = list({title: None for column in columns for title in column})
    lines = [f"| {' | '.join(titles)} |", "|---|" + "--:|" * (len(titles) - 1)]
    lines += [f"| {' | '.join(column.get(title, '') for title in titles)} |" for column in columns]
    summary = [] if form == "losing" else _summary(shown)
    return "\n".join([*lines, "", *summary, origin])


def summarize(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say how the rows that have a ratio compare with the best peer; empty without such rows."""
    ratios = {row["name"]: row["ratio"] for row in rows if "ratio" in row}
    if not ratios:
        return ""
    fast = sum(ratio >= _FAST for ratio in ratios.values())
    slowest = min(ratios, key=lambda name: ratios[name])
    return (
        f"{geometric_mean(ratios.values()):.2f} times faster than the best peer in the geometric "
        f"mean, at least {_FAST} times in {fast} of {len(ratios)}, {ratios[slowest]:.2f} times in "
        f"the slowest ({slowest})"
    )


def _fill(match: re.Match[str], result: Mapping[str, Any]) -> str:
    written = table(result, match["rows"] or "", match["form"])
    return f"{match['begin']}\n{written}\n\n{match['end']}"


def _origin(result: Mapping[str, Any]) -> str:
    """Say where, with what and how the result was measured, and who is missing."""
    header = result["header"]
    versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items())
    missing = ", ".join(result["missing"])
    return (
        f"{header['cpu']}, {header['isa']}, {thread_words(header)}, {header['compiler']}; "
        f"{versions}{f'; not installed: {missing}' if missing else ''}; commit "
        f"{header['commit']}, {header['date']}: `{header['command']}`"
    )


def _summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    text = summarize(rows)
    return [f"These rows: {text}.", ""] if text else []


def _columns(row: Mapping[str, Any], labels: Mapping[str, str], form: str | None) -> dict[str, str]:
    """Return a row's cells by their column's title; what is not known is left empty.

    A ratio that loses is bold.
    """
    entries = row["peers"]
    cells = {"us per call (half the interquartile range)": row["name"]}
    cells["floor"] = f"{row['floor']['us']:.1f}" if "floor" in row else ""
    if form is None:
        cells |= {labels[name]: _time(entries[name]) for name in labels}
    else:
        cells[labels[OURS]] = _time(entries[OURS])
        best = row.get("best_peer")
        cells["best peer"] = f"{_time(entries[best])} {labels[best]}" if best else ""
    ratio = row.get("ratio")
    ratio_cell = "" if ratio is None else f"{ratio:.2f}"
    cells["times faster than the best"] = f"**{ratio_cell}**" if ratio and ratio < 1 else ratio_cell
    cells["share of the floor"] = _number(row.get("floor_share"), ".0%")
    if row.get("neighbours") and form is None:
        shares = [entry.get("floor_share") for entry in row["neighbours"].values()]
        cells["the neighbours'"] = ", ".join(_number(share, ".0%") for share in shares)
    cells["GFLOP/s"] = _number(row.get("gflops"), ".1f")
    cells["GB/s"] = _number(row.get("gbytes_per_second"), ".1f")
    return cells


def _number(value: float | None, format: str) -> str:
    return "" if value is None else f"{value:{format}}"


def _time(entry: Mapping[str, Any]) -> str:
    if "median_us" in entry:
        return f"{entry['median_us']:.1f} ({(entry['q3_us'] - entry['q1_us']) / 2:.1f})"
    return "wrong or failed" if "error" in entry else ""


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("result", type=Path, help="what benchmarks.run --json wrote")
    parser.add_argument(
        "--documents",
        type=Path,
        nargs="*",
        default=[_ROOT / "README.md", _ROOT / "docs" / "benchmarks.md"],
        help="default README.md and docs/benchmarks.md",
    )
    parser.add_argument(
        "--plots",
        type=lambda path: Path(path) if path else None,
        default=_ROOT / "docs",
        metavar="FOLDER",
        help="where to write the plots, default docs; none if empty",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
