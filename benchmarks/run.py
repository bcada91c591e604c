"""Times cases on every peer, each in a process of its own, in turns, and prints a table.

    python -m benchmarks.run                          the selection, in minutes
    python -m benchmarks.run --all                    every row of benchmarks/shapes.py
    python -m benchmarks.run --rows "NHWC.*3x3" --neighbours --json results.json

A peer's answer is checked before it is timed, and a wrong one is reported in place of a time.
Exit status 1 if depthwise itself failed or if no row matches.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.cases import OPERATIONS, Case
from benchmarks.machine import describe, summary
from benchmarks.measure import measure
from benchmarks.peers import OURS, PEERS
from benchmarks.report import summarize
from benchmarks.shapes import CASES, FAMILY_OF, NAME_WIDTH, SELECTION
from benchmarks.worker import Worker, WorkerError

_DESCRIBE_SECONDS = 120.0


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    options = _parse(arguments)
    cases = _choose(options)
    if not cases:
        print(f"no row matches {options.rows!r}", file=sys.stderr)
        return 1
    result: dict[str, Any] = {"rows": []}
    started = time.monotonic()
    # Peers take their number of threads when they start.
    for threads, group in groupby(cases, key=lambda case: case.threads):
        with start([OURS, *options.peers], threads) as (workers, descriptions):
            if not result["rows"]:
                _open(result, descriptions, sorted({case.threads for case in cases}))
            for case in group:
                _progress(case, len(result["rows"]) + 1, len(cases), started)
                row = measure(case, workers, options.seconds, options.limit, options.neighbours)
                one_thread = replace(case, threads=1)
                row["family"] = FAMILY_OF.get(case) or FAMILY_OF.get(one_thread, "Other")
                row["selected"] = case in SELECTION
                row["isa"] = result["header"]["isa"]
                result["rows"].append(row)
                print(_lines(row, result["labels"]), flush=True)
                if options.json:  # After every row: an interrupted run keeps what it has.
                    options.json.parent.mkdir(parents=True, exist_ok=True)
                    options.json.write_text(json.dumps(result, indent=1) + "\n")
    for operation in OPERATIONS:
        rows = [row for row in result["rows"] if row["operation"] == operation]
        if text := summarize(rows):
            print(f"{operation}: {text}")
    failed = any("error" in row["peers"][OURS] for row in result["rows"])
    return 1 if failed else 0


@contextmanager
def start(
    names: Sequence[str], threads: int
) -> Iterator[tuple[dict[str, Worker], dict[str, dict[str, str]]]]:
    """Start a worker for each peer; give those that have one, and what each said of itself."""
    workers: dict[str, Worker] = {}
    descriptions: dict[str, dict[str, str]] = {}
    try:
        for name in names:
            worker = Worker(name, threads)
            try:
                descriptions[name] = worker.ask(_DESCRIBE_SECONDS, "describe")
            except WorkerError as error:
                descriptions[name] = {"missing": str(error)}
            if "missing" in descriptions[name]:
                worker.close()
            else:
                workers[name] = worker
        yield workers, descriptions
    finally:
        for worker in workers.values():
            worker.close()


def _choose(options: argparse.Namespace) -> list[Case]:
    """Return the cases to run, ordered by their threads; a name chooses among all of them."""
    cases = CASES if options.all or options.rows else SELECTION
    if options.threads:
        cases = tuple({replace(case, threads=options.threads): None for case in cases})
    chosen = [case for case in cases if re.search(options.rows, case.name)]
    return sorted(chosen, key=lambda case: case.threads)


def _open(
    result: dict[str, Any], descriptions: Mapping[str, Mapping[str, str]], threads: Sequence[int]
) -> None:
    """Begin a result with its header, and print it."""
    present = {name: text for name, text in descriptions.items() if "missing" not in text}
    versions = {text["label"]: text["version"] for text in present.values()}
    result["header"] = describe("benchmarks.run", versions, threads)
    result["labels"] = {name: text["label"] for name, text in present.items()}
    result["missing"] = {
        name: text["missing"] for name, text in descriptions.items() if "missing" in text
    }
    print(summary(result["header"]))
    for name, reason in result["missing"].items():
        print(f"{name} is not compared: {reason}")
    print(
        f"{'us per call: median ±half IQR':<{NAME_WIDTH}}{'floor':>9}{'depthwise':>18}"
        f"{'best peer':>34}{'ratio':>7}{'of floor':>10}{'GFLOP/s':>9}{'GB/s':>7}"
    )


def _progress(case: Case, number: int, count: int, started: float) -> None:
    minutes = (time.monotonic() - started) / 60
    print(f"[{number}/{count}, {minutes:.1f} min] {case.name}", file=sys.stderr, flush=True)


def _lines(row: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Format a row, below it the peers, errors and neighbours; what is not known is a dash."""
    entries = row["peers"]
    best = row.get("best_peer")
    lines = [
        f"{row['name']:<{NAME_WIDTH}}{_number(row.get('floor', {}).get('us')):>9}"
        f"{_cell(entries[OURS]):>18}"
        f"{f'{labels[best]} {_cell(entries[best])}' if best else '-':>34}"
        f"{_number(row.get('ratio'), '.2f'):>7}{_number(row.get('floor_share'), '.0%'):>10}"
        f"{_number(row.get('gflops')):>9}{_number(row.get('gbytes_per_second')):>7}"
    ]
    others = [f"{labels[name]} {_cell(entries[name])}" for name in entries if name != OURS]
    if others:
        lines.append(f"    {', '.join(others)}")
    for label, entry in row.get("neighbours", {}).items():
        share = _number(entry.get("floor_share"), ".0%")
        floor = _number(entry.get("floor_us"))
        name = f"    {label}: {entry['name']}"
        lines.append(f"{name:<{NAME_WIDTH}}{floor:>9}{_cell(entry):>18}{share:>51}")
    everything = {**entries, **row.get("neighbours", {})}
    lines += [
        f"    {labels.get(name, name)}: {entry['error']}"
        for name, entry in everything.items()
        if "error" in entry
    ]
    return "\n".join(lines)


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
    parser.add_argument("--all", action="store_true", help="every row, not just the selection")
    parser.add_argument(
        "--rows", default="", metavar="REGEX", help="those of all rows whose name matches"
    )
    parser.add_argument(
        "--peers",
        type=lambda names: [name for name in names.split(",") if name],
        default=list(PEERS),
        metavar="NAMES",
        help=f"comma-separated, default {','.join(PEERS)}",
    )
    parser.add_argument(
        "--threads", type=int, help="for every peer and row, default what the row says"
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="for a row, all peers together, default 2"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="in which a peer has to be ready with a row's first answer, default 30",
    )
    parser.add_argument(
        "--neighbours",
        action="store_true",
        help="time ours with one channel more and one column less, too",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write the results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
