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
    entries = measure(TINY, peers, _SECONDS)["peers"]
    print(f"{TINY.name}, microseconds per call: median (quartiles)")
    for name, entry in entries.items():
        time = entry.get("error")
        if time is None:
            time = f"{entry['median_us']:8.2f} ({entry['q1_us']:.2f} to {entry['q3_us']:.2f})"
        print(f"  {peers[name].label:<12}{time}")
    for name, reason in missing.items():
        print(f"  {name} is not compared: {reason}")
    return 1 if "error" in entries[OURS] else 0


if __name__ == "__main__":
    sys.exit(main())
