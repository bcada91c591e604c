"""Takes the interpreter down on some cases."""

from __future__ import annotations

import os
import sys
from typing import Any

from fake_peers import Right


class Adapter(Right):
    """Dies preparing a case with stride 2, and on the third call of one with stride 3."""

    label = "Aborting"

    def prepare(self, case: Any, arrays: Any) -> Any:
        call = super().prepare(case, arrays)
        calls = 0

        def abort() -> Any:
            nonlocal calls
            calls += 1
            if case.stride == 2 or (case.stride == 3 and calls == 3):
                print("the reason why", file=sys.stderr, flush=True)
                os.abort()
            return call()

        return abort
