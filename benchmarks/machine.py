"""What a result has to say about itself: where, with what and how it was measured."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import depthwise
from depthwise import _settings


def describe(module: str, versions: Mapping[str, str], threads: Sequence[int]) -> dict[str, Any]:
    """Return the header of a result, ready for JSON.

    ``module`` is what ``python -m`` ran, ``versions`` those of the libraries that took part.
    """
    config = _settings.config()
    return {
        "cpu": _cpu_model(),
        "usable_cores": _usable_cores(),
        "system": platform.platform(terse=True),
        "isa": config["isa"],
        "compiler": config["compiler"],
        "threads": list(threads),
        "versions": {
            "Python": platform.python_version(),
            "NumPy": np.__version__,
            "depthwise": depthwise.__version__,
            **versions,
        },
        "commit": _commit(),
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def summary(header: Mapping[str, Any]) -> str:
    """Return the header as one line for people."""
    versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items())
    return (
        f"{header['cpu']}, {header['isa']}, {thread_words(header)}; {versions}; "
        f"commit {header['commit']}"
    )


def thread_words(header: Mapping[str, Any]) -> str:
    """Say with how many threads a result was measured, such as "1 and 2 threads"."""
    counts = header["threads"]
    return " and ".join(map(str, counts)) + (" thread" if counts == [1] else " threads")


def _cpu_model() -> str:
    """Name the processor; family and model tell apart what a hypervisor gives one name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    if "model name" not in fields:
        return platform.machine()
    family, model = fields.get("cpu family"), fields.get("model")
    return f"{fields['model name']} (family {family}, model {model})"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _commit() -> str:
    """Short hash of the commit, marked if the working tree differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()
