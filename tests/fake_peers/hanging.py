"""Never comes back on some cases."""

from __future__ import annotations

import time
from typing import Any

from fake_peers import Right


class Adapter(Right):
    """Sleeps on a case with stride 2."""

    label = "Hanging"

    def prepare(self, case: Any, arrays: Any) -> Any:
        if case.stride == 2:
            time.sleep(1000)
        return super().prepare(case, arrays)
