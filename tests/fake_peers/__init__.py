"""Peers for the tests of the benchmarks' workers: each behaves in a way of its own."""

from __future__ import annotations

from benchmarks.cases import Case
from benchmarks.peers.depthwise import Adapter


class Right(Adapter):
    """Computes what it should; the others differ from it in one point each."""

    label = "Right"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.threads = threads

    def version(self) -> str:
        return f"1.0 with {self.threads}"

    def supports(self, case: Case) -> bool:
        return case.dtype != "float64"
