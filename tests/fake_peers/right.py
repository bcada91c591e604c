"""Right, and talkative."""

from __future__ import annotations

import os
from typing import Any

from fake_peers import Right

print("imported")


class Adapter(Right):
    """Prints where the replies go, from Python and from below it."""

    def prepare(self, *arguments: Any) -> Any:
        print("preparing", flush=True)
        os.write(1, b"from below\n")
        return super().prepare(*arguments)
