"""One problem for a test to solve.

A `Case` is written in NHWC terms and can be asked for either layout. `families.py` lists the cases,
`operations.py` makes the data for them.
"""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from comparator import Array
from depthwise import _native

Pair = tuple[int, int]

# These agree with each other bit for bit; without fused multiply-add the rounding differs.
FMA_ISAS = [isa for isa in _native.supported_isas() if isa != "x86-64-v2"]


@dataclass(frozen=True)
class Case:
    """One problem; `size`, `filter_size`, `strides` and `dilations` are height and width."""

    size: Pair
    filter_size: Pair = (3, 3)
    channels: int = 3
    multiplier: int = 1
    strides: Pair = (1, 1)
    padding: str | tuple[Pair, Pair] = "SAME"
    dilations: Pair = (1, 1)
    batch: int = 1

    def __str__(self) -> str:
        parts = [
            f"{self.batch}x{self.size[0]}x{self.size[1]}x{self.channels}",
            f"f{self.filter_size[0]}x{self.filter_size[1]}",
        ]
        if self.multiplier != 1:
            parts.append(f"m{self.multiplier}")
        if self.strides != (1, 1):
            parts.append(f"s{self.strides[0]}x{self.strides[1]}")
        if self.dilations != (1, 1):
            parts.append(f"d{self.dilations[0]}x{self.dilations[1]}")
        if isinstance(self.padding, str):
            parts.append(self.padding)
        else:
            parts.append("p" + "x".join(str(pad) for pair in self.padding for pad in pair))
        return "-".join(parts)

    def arguments(self, data_format: str) -> dict[str, Any]:
        """Return strides, padding, data_format and dilations as the public function takes them."""
        padding: Any = self.padding
        if data_format == "NHWC":
            strides = (1, *self.strides, 1)
            if not isinstance(padding, str):
                padding = ((0, 0), *padding, (0, 0))
        else:
            strides = (1, 1, *self.strides)
            if not isinstance(padding, str):
                padding = ((0, 0), (0, 0), *padding)
        return {
            "strides": strides,
            "padding": padding,
            "data_format": data_format,
            "dilations": self.dilations,
        }

    def random(self) -> np.random.Generator:
        """Return a generator seeded by the case itself."""
        return np.random.default_rng(zlib.crc32(str(self).encode()))

    def repeated(self, count: int) -> Case:
        """Return the same problem for that many times as many images."""
        return dataclasses.replace(self, batch=count * self.batch)

    @property
    def output_size(self) -> Pair:
        """Height and width of the output; a negative one is refused by the operator."""
        height, width = (
            -(-self.size[axis] // self.strides[axis])
            if self.padding == "SAME"
            else self._output_size_without_same(axis)
            for axis in (0, 1)
        )
        return height, width

    def _output_size_without_same(self, axis: int) -> int:
        pads = (0, 0) if isinstance(self.padding, str) else self.padding[axis]
        reach = (self.filter_size[axis] - 1) * self.dilations[axis]
        return (self.size[axis] + sum(pads) - reach - 1) // self.strides[axis] + 1

    @property
    def shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """The shapes of all arrays of the problem by their names, NHWC."""
        return {
            "input": (self.batch, *self.size, self.channels),
            "filter": (*self.filter_size, self.channels, self.multiplier),
            "out_backprop": (self.batch, *self.output_size, self.channels * self.multiplier),
        }


def to_format(nhwc: Array, data_format: str) -> Array:
    """Return a C-contiguous array in `data_format`."""
    return nhwc if data_format == "NHWC" else np.ascontiguousarray(np.moveaxis(nhwc, 3, 1))
