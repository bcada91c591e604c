"""Peers for the tests of the benchmarks' workers: each behaves in a way of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from numpy.typing import NDArray

import depthwise
from benchmarks.cases import Case


class Right:
    """Computes what it should; the others differ from it in one point each."""

    label = "Right"

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def version(self) -> str:
        return f"1.0 with {self.threads}"

    def supports(self, case: Case) -> bool:
        return case.dtype != "float64"

    def prepare(self, case: Case, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], NDArray[Any]]:
        arguments = case.arguments(arrays)
        return partial(
            getattr(depthwise, case.function),
            *arguments,
            case.strides,
            case.padding,
            case.data_format,
            case.dilations,
        )

    def to_numpy(self, case: Case, answer: NDArray[Any]) -> NDArray[Any]:
        return answer
