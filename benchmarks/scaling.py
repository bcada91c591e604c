"""Prints how much faster depthwise is with more threads than with one.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --rows gradient --over 0

Rows over 100 us should gain, shorter ones must not lose: ``--over 0`` shows those too. Both thread
counts take turns in one process. Exit status 1 if no row matches.
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial
from statistics import geometric_mean

import depthwise
from benchmarks.check import make_arrays
from benchmarks.machine import describe, summary
from benchmarks.peers import OURS, load
from benchmarks.shapes import CASES, NAME_WIDTH
from benchmarks.timing import interleave


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    options = _parse(arguments)
    one_thread = [case for case in CASES if case.threads == 1]
    cases = [case for case in one_thread if re.search(options.rows, case.name)]
    if not cases:
        print(f"no row matches {options.rows!r}", file=sys.stderr)
        return 1
    peers, _ = load([OURS], options.threads)
    print(summary(describe("benchmarks.scaling", {}, [1, options.threads])))
    print(
        f"{'us per call, median':<{NAME_WIDTH}}{'1 thread':>12}"
        f"{f'{options.threads} threads':>12}  speedup"
    )
    before = {
        "one": partial(depthwise.set_num_threads, 1),
        "more": partial(depthwise.set_num_threads, options.threads),
    }
    speedups: list[float] = []
    for case in cases:
        print(case.name, file=sys.stderr, flush=True)
        call = peers[OURS].prepare(case, make_arrays(case))
        # A trial of five rounds tells the rows that are too short to be split.
        if interleave({"one": call}, 0.0, before)["one"].median_us < options.over:
            continue
        timings = interleave({"one": call, "more": call}, options.seconds, before)
        one, more = timings["one"].median_us, timings["more"].median_us
        speedups.append(one / more)
        print(f"{case.name:<{NAME_WIDTH}}{one:>12.1f}{more:>12.1f}{one / more:>9.2f}", flush=True)
    if speedups:
        print(
            f"{len(speedups)} rows: {min(speedups):.2f} times in the least, "
            f"{geometric_mean(speedups):.2f} in the geometric mean"
        )
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", default="", metavar="REGEX", help="rows whose name matches")
    parser.add_argument("--threads", type=int, default=2, help="compared with one, default 2")
    parser.add_argument(
        "--over",
        type=float,
        default=100.0,
        metavar="US",
        help="least time with one thread, default 100",
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="for a row, default 1")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
