"""Computes wrong answers."""

from __future__ import annotations

from typing import Any

from fake_peers import Right


class Adapter(Right):
    """Flips one element's sign, or makes it 1."""

    label = "Wrong"

    def to_numpy(self, case: Any, answer: Any) -> Any:
        answer = answer.copy()
        answer[(0,) * answer.ndim] = -answer[(0,) * answer.ndim] or 1
        return answer
