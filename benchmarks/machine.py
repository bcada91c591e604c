"""What a result has to say about itself: where, with what and how it was measured."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Peer
from depthwise import _settings


def describe(module: str, peers: Mapping[str, Peer], threads: int) -> dict[str, Any]:
    """Return the header of a result, ready for JSON; ``module`` is what ``python -m`` ran."""
    config = _settings.config()
    return {
        "cpu": _cpu_model(),
        "usable_cores": _usable_cores(),
        "system": platform.platform(terse=True),
        "isa": config["isa"],
        "compiler": config["compiler"],
        "threads": threads,
        "versions": {
            "Python": platform.python_version(),
            "NumPy": np.__version__,
            **{peer.label: peer.version() for peer in peers.values()},
        },
        "commit": _commit(),
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def summary(header: Mapping[str, Any]) -> str:
    """Return the header as one line for people."""
    versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items())
    threads = f"{header['threads']} thread" + "s" * (header["threads"] > 1)
    return f"{header['cpu']}, {header['isa']}, {threads}; {versions}; commit {header['commit']}"


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
