"""Scripts in a fresh interpreter, for what only shows there: imports, the environment, fork."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def run_script(
    script: str, *, environment: dict[str, str] | None = None, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run Python source and return what became of it.

    The variables that this library reads are removed from the environment first.
    """
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DEPTHWISE_") and name != "OMP_NUM_THREADS"
    }
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**variables, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def output_of(script: str, **options: object) -> str:
    """Run Python source that must succeed and return what it printed."""
    done = run_script(script, **options)  # type: ignore[arg-type]
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
