"""Times every case on every peer, interleaved in one process, and prints a table.

    python -m benchmarks.run --rows "NHWC.*3x3" --seconds 1 --json results.json

A peer's answer is checked before it is timed, and a wrong one is reported in place of a time.
Exit status 1 if depthwise itself failed or if no row matches.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, summary
from benchmarks.measure import measure
from benchmarks.peers import OURS, PEERS, Peer, load
from benchmarks.report import summarize
from benchmarks.shapes import CASES, NAME_WIDTH, OPERATIONS


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    options = _parse(arguments)
    cases = [case for case in CASES if re.search(options.rows, case.name)]
    if not cases:
        print(f"no row matches {options.rows!r}", file=sys.stderr)
        return 1
    peers, missing = load([OURS, *options.peers], options.threads)
    header = describe("benchmarks.run", peers, options.threads)
    labels = {name: peer.label for name, peer in peers.items()}
    result: dict[str, Any] = {"header": header, "labels": labels, "missing": missing, "rows": []}
    print(summary(header))
    for name, reason in missing.items():
        print(f"{name} is not compared: {reason}")
    print(_heading(peers))
    for number, case in enumerate(cases, 1):
        print(f"[{number}/{len(cases)}] {case.name}", file=sys.stderr, flush=True)
        row = measure(case, peers, options.seconds, options.threads)
        result["rows"].append(row)
        print(_line(row), flush=True)
        if options.json:  # After every row, so that an interrupted run keeps what it has.
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    for operation in OPERATIONS:
        rows = [row for row in result["rows"] if row["operation"] == operation]
        if text := summarize(rows):
            print(f"{operation}: {text}")
    failed = any("error" in row["peers"][OURS] for row in result["rows"])
    return 1 if failed else 0


def _heading(peers: Mapping[str, Peer]) -> str:
    times = "".join(f"{peer.label:>22}" for peer in peers.values())
    return (
        f"{'us per call: median ±half IQR':<{NAME_WIDTH}}{'floor':>9}{times}"
        f"{'ratio':>8}{'of floor':>10}{'GFLOP/s':>9}{'GB/s':>7}"
    )


def _line(row: Mapping[str, Any]) -> str:
    """Format a row, errors below it; what is not known is a dash."""
    entries = row["peers"]
    line = (
        f"{row['name']:<{NAME_WIDTH}}{_number(row.get('floor', {}).get('us')):>9}"
        f"{''.join(f'{_cell(entry):>22}' for entry in entries.values())}"
        f"{_number(row.get('ratio'), '.2f'):>8}{_number(row.get('floor_share'), '.0%'):>10}"
        f"{_number(row.get('gflops')):>9}{_number(row.get('gbytes_per_second')):>7}"
    )
    errors = [f"  {name}: {entry['error']}" for name, entry in entries.items() if "error" in entry]
    return "\n".join([line, *errors])


def _number(value: float | None, format: str = ".1f") -> str:
    return "-" if value is None else f"{value:{format}}"


def _cell(entry: Mapping[str, Any]) -> str:
    if "unsupported" in entry:
        return "unsupported"
    if "error" in entry:
        return "failed"
    return f"{entry['median_us']:.1f} ±{(entry['q3_us'] - entry['q1_us']) / 2:.1f}"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", default="", metavar="REGEX", help="rows whose name matches")
    parser.add_argument(
        "--peers",
        type=lambda names: [name for name in names.split(",") if name],
        default=list(PEERS),
        metavar="NAMES",
        help=f"comma-separated, default {','.join(PEERS)}",
    )
    parser.add_argument("--threads", type=int, default=1, help="for every peer, default 1")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="for a row, all peers together, default 2"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write the results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
