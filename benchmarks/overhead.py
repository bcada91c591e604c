"""Prints what a call costs when there is next to nothing to compute (4x4 pixels, 8 channels).

python -m benchmarks.overhead
"""

from __future__ import annotations

import sys

from benchmarks.machine import describe, summary
from benchmarks.measure import measure
from benchmarks.peers import OURS, PEERS
from benchmarks.run import start
from benchmarks.shapes import TINY

_SECONDS = 3.0


def main() -> int:
    """Run the benchmark; exit status 1 if depthwise itself failed."""
    failed = False
    with start([OURS, *PEERS], threads=1) as (workers, descriptions):
        present = [descriptions[name] for name in workers]
        versions = {text["label"]: text["version"] for text in present}
        print(summary(describe("benchmarks.overhead", versions, [1])))
        for name, text in descriptions.items():
            if "missing" in text:
                print(f"{name} is not compared: {text['missing']}")
        for case in TINY:
            print(f"{case.name}, microseconds per call: median (quartiles)")
            entries = measure(case, workers, _SECONDS)["peers"]
            for name, entry in entries.items():
                print(f"  {descriptions[name]['label']:<14}{_text(entry)}")
            failed = failed or "error" in entries[OURS]
    return 1 if failed else 0


def _text(entry: dict[str, float]) -> str:
    if "median_us" in entry:
        return f"{entry['median_us']:8.2f} ({entry['q1_us']:.2f} to {entry['q3_us']:.2f})"
    return str(entry.get("error", "unsupported"))


if __name__ == "__main__":
    sys.exit(main())
