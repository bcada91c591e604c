"""Prints what a call costs when there is next to nothing to compute (4x4 pixels, 8 channels).

python -m benchmarks.overhead
"""

from __future__ import annotations

import sys

from benchmarks.machine import describe, summary
from benchmarks.measure import measure
from benchmarks.peers import OURS, PEERS, load
from benchmarks.shapes import TINY

_SECONDS = 3.0


def main() -> int:
    """Run the benchmark; exit status 1 if depthwise itself failed."""
    peers, missing = load([OURS, *PEERS], threads=1)
    print(summary(describe("benchmarks.overhead", peers, threads=1)))
    for name, reason in missing.items():
        print(f"{name} is not compared: {reason}")
    failed = False
    for case in TINY:
        print(f"{case.name}, microseconds per call: median (quartiles)")
        entries = measure(case, peers, _SECONDS)["peers"]
        for name, entry in entries.items():
            time = entry.get("error")
            if time is None:
                time = f"{entry['median_us']:8.2f} ({entry['q1_us']:.2f} to {entry['q3_us']:.2f})"
            print(f"  {peers[name].label:<12}{time}")
        failed = failed or "error" in entries[OURS]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
