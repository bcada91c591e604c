"""Writes the result of `benchmarks.run` into the documentation, so that nobody types a number.

    python -m benchmarks.report results.json

In each document a table goes between the lines ``<!-- benchmark table -->`` and
``<!-- end of benchmark table -->``. The first may choose rows by a regular expression on their
names: ``<!-- benchmark table: NHWC.*3x3 -->``. The plots, ``benchmarks.svg`` of the forward rows
and ``benchmarks_gradients.svg`` of the others, need matplotlib.
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

from benchmarks.cases import FORWARD

# Counted in the summary: by so much that no disturbance explains it.
_FAST = 1.5

_ROOT = Path(__file__).parent.parent
_TABLE = re.compile(
    r"(?P<begin><!-- benchmark table(?:: (?P<rows>.+?))? -->\n)"
    r".*?(?P<end><!-- end of benchmark table -->)",
    re.DOTALL,
)


def main(arguments: list[str] | None = None) -> int:
    """Write tables and plot; see the module's docstring."""
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
        type=Path,
        default=_ROOT / "docs",
        metavar="FOLDER",
        help="where to write the plots, default docs",
    )
    options = parser.parse_args(arguments)
    result = json.loads(options.result.read_text())
    for path in options.documents:
        text, tables = _TABLE.subn(lambda match: _fill(match, result), path.read_text())
        if tables == 0:
            print(f"{path} has no place for a benchmark table", file=sys.stderr)
            return 1
        path.write_text(text)
        print(f"{path}: {tables} table(s)")
    plots = {
        "benchmarks.svg": [row for row in result["rows"] if row["operation"] == FORWARD],
        "benchmarks_gradients.svg": [row for row in result["rows"] if row["operation"] != FORWARD],
    }
    for name, rows in plots.items():
        if rows:
            draw({**result, "rows": rows}, options.plots / name)
            print(options.plots / name)
    return 0


def _fill(match: re.Match[str], result: Mapping[str, Any]) -> str:
    return f"{match['begin']}\n{table(result, match['rows'] or '')}\n\n{match['end']}"


def table(result: Mapping[str, Any], rows: str = "") -> str:
    """Return a Markdown table of the rows whose name matches, with a line on its origin."""
    header, labels = result["header"], result["labels"]
    lines = [
        f"| us per call (half the interquartile range) | floor | {' | '.join(labels.values())} "
        "| times faster than the best | share of the floor | GFLOP/s | GB/s |",
        "|---|" + "--:|" * (len(labels) + 5),
    ]
    shown = [row for row in result["rows"] if re.search(rows, row["name"])]
    lines += [f"| {' | '.join(_cells(row, labels))} |" for row in shown]
    versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items())
    origin = (
        f"{header['cpu']}, {header['isa']}, {header['threads']} thread(s), {header['compiler']}; "
        f"{versions}; commit {header['commit']}, {header['date']}: `{header['command']}`"
    )
    return "\n".join([*lines, "", *_summary(shown), origin])


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


def _summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    text = summarize(rows)
    return [f"These rows: {text}.", ""] if text else []


def _cells(row: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Return the cells of a row; a ratio that loses is bold, what is not known is left empty."""
    cells = [row["name"], f"{row['floor']['us']:.1f}" if "floor" in row else ""]
    for name in labels:
        entry = row["peers"][name]
        if "median_us" in entry:
            spread = (entry["q3_us"] - entry["q1_us"]) / 2
            cells.append(f"{entry['median_us']:.1f} ({spread:.1f})")
        else:
            cells.append("wrong or failed" if "error" in entry else "")
    ratio = row.get("ratio")
    cells.append("" if ratio is None else f"{ratio:.2f}" if ratio >= 1 else f"**{ratio:.2f}**")
    for key, format in (("floor_share", ".0%"), ("gflops", ".1f"), ("gbytes_per_second", ".1f")):
        cells.append(f"{row[key]:{format}}" if key in row else "")
    return cells


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw how many times faster than its best peer each row is."""
    import matplotlib

    matplotlib.use("Agg")
    # Without a salt the identifiers in an SVG differ on every run, and so would every commit.
    matplotlib.rcParams["svg.hashsalt"] = "depthwise"
    import matplotlib.pyplot as plt

    rows = [row for row in result["rows"] if "ratio" in row]
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.22 * len(rows)), layout="constrained")
    positions = range(len(rows))
    axes.barh(positions, [row["ratio"] - 1 for row in rows], left=1, color=_colors(rows))
    for position, row in zip(positions, rows, strict=True):
        text = f" {row['ratio']:.2f} ({result['labels'][row['best_peer']]})"
        axes.text(max(row["ratio"], 1), position, text, va="center", fontsize=7)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(right=3 * max((row["ratio"] for row in rows), default=1))  # Room for the text.
    axes.set_yticks(positions, [row["name"] for row in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    threads = result["header"]["threads"]
    axes.set_xlabel(
        f"times faster than the best peer (named), {result['header']['cpu']}, "
        f"{threads} thread{'s' * (threads > 1)}",
        fontsize=8,
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _colors(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Blue where ours is faster, red where it loses: the losing rows are not to be overlooked."""
    return ["tab:blue" if row["ratio"] >= 1 else "tab:red" for row in rows]


if __name__ == "__main__":
    sys.exit(main())
