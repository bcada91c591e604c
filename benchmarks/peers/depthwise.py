"""Ours: the public functions on NumPy arrays, as a user calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from numpy.typing import NDArray

import depthwise
from benchmarks.cases import Case


class Adapter:
    """See `benchmarks.peers.Peer`."""

    label = "depthwise"

    def __init__(self, threads: int) -> None:
        depthwise.set_num_threads(threads)

    def version(self) -> str:
        return depthwise.__version__

    def supports(self, case: Case) -> bool:
        return True

    def prepare(self, case: Case, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], NDArray[Any]]:
        return partial(
            getattr(depthwise, case.function),
            *case.arguments(arrays),
            case.strides,
            case.padding,
            case.data_format,
            case.dilations,
        )

    def to_numpy(self, case: Case, answer: NDArray[Any]) -> NDArray[Any]:
        return answer
