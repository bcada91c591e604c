"""One problem that is timed: its name, its sizes, and the bytes and multiply-adds that it needs.

Pure arithmetic that imports nothing of the library, so that a mistake in the library's own
geometry shows as a wrong answer instead of moving the goal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TypeVar

FORWARD = "forward"
INPUT_GRADIENT = "input gradient"
FILTER_GRADIENT = "filter gradient"

OPERATIONS = FORWARD, INPUT_GRADIENT, FILTER_GRADIENT

# TensorFlow's name and ours of what computes it.
_FUNCTIONS = {
    FORWARD: "depthwise_conv2d",
    INPUT_GRADIENT: "depthwise_conv2d_backprop_input",
    FILTER_GRADIENT: "depthwise_conv2d_backprop_filter",
}
# The array that is not given but computed.
_ANSWERS = {FORWARD: "out_backprop", INPUT_GRADIENT: "input", FILTER_GRADIENT: "filter"}

_ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}

_Array = TypeVar("_Array")


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis of a case: sizes in elements, padding as SAME or VALID puts it."""

    in_size: int
    filter_size: int
    stride: int
    dilation: int
    padding: str

    @property
    def effective_filter(self) -> int:
        """Input elements that the dilated filter spans."""
        return (self.filter_size - 1) * self.dilation + 1

    @property
    def out_size(self) -> int:
        """Output elements."""
        if self.padding == "SAME":
            return -(-self.in_size // self.stride)
        return (self.in_size - self.effective_filter) // self.stride + 1

    @property
    def pads(self) -> tuple[int, int]:
        """Padding before and after; SAME puts the odd one after."""
        if self.padding == "VALID":
            return 0, 0
        needed = (self.out_size - 1) * self.stride + self.effective_filter - self.in_size
        total = max(needed, 0)
        return total // 2, total - total // 2

    @property
    def valid_taps(self) -> int:
        """Pairs of an output and a filter tap that falls on the input, not on padding."""
        total = 0
        for tap in range(self.filter_size):
            # Output i reads input i * stride + offset.
            offset = tap * self.dilation - self.pads[0]
            first = max(-(offset // self.stride), 0)
            last = min((self.in_size - 1 - offset) // self.stride, self.out_size - 1)
            total += max(last - first + 1, 0)
        return total


@dataclass(frozen=True, slots=True)
class Case:
    """One problem. Sizes in elements; stride and dilation are the same for both axes.

    The sizes are those of the forward function, also where ``operation`` is one of its gradients.
    ``same_filter`` gives all channels the same taps, as one blurs or sharpens a picture: a library
    that can make use of it may.
    """

    batch: int
    in_height: int
    in_width: int
    in_channels: int
    filter_height: int
    filter_width: int
    channel_multiplier: int = 1
    stride: int = 1
    dilation: int = 1
    padding: str = "SAME"
    dtype: str = "float32"
    data_format: str = "NHWC"
    operation: str = FORWARD
    threads: int = 1
    same_filter: bool = False

    @property
    def name(self) -> str:
        """Such as ``NHWC 56x56x144 5x5 stride 2``; unique, since it is made of the sizes."""
        sizes = self.input_shape if self.batch > 1 else self.input_shape[1:]
        words = [
            self.data_format,
            "x".join(map(str, sizes)),
            f"{self.filter_height}x{self.filter_width}",
        ]
        for word in ("stride", "dilation", "channel_multiplier"):
            if getattr(self, word) > 1:
                words.append(f"{word.removeprefix('channel_')} {getattr(self, word)}")
        if self.padding != "SAME":
            words.append(self.padding)
        if self.dtype != "float32":
            words.append(self.dtype)
        if self.operation != FORWARD:
            words.append(self.operation)
        if self.threads > 1:
            words.append(f"{self.threads} threads")
        return " ".join(words)

    @property
    def neighbours(self) -> dict[str, Case]:
        """Cases of nearly the same size, which have to be as close to their floors."""
        found = {"one channel more": replace(self, in_channels=self.in_channels + 1)}
        narrower = replace(self, in_width=self.in_width - 1)
        if narrower.in_width > 0 and narrower.width.out_size > 0:
            found["one column less"] = narrower
        return found

    @property
    def height(self) -> Axis:
        """The vertical axis."""
        return Axis(self.in_height, self.filter_height, self.stride, self.dilation, self.padding)

    @property
    def width(self) -> Axis:
        """The horizontal axis."""
        return Axis(self.in_width, self.filter_width, self.stride, self.dilation, self.padding)

    def ordered(self, batch: int, height: int, width: int, channels: int) -> tuple[int, ...]:
        """Order four sizes as ``data_format`` says."""
        if self.data_format == "NCHW":
            return batch, channels, height, width
        return batch, height, width, channels

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input array."""
        return self.ordered(self.batch, self.in_height, self.in_width, self.in_channels)

    @property
    def filter_shape(self) -> tuple[int, ...]:
        """Shape of the filter array, the same in both layouts."""
        return self.filter_height, self.filter_width, self.in_channels, self.channel_multiplier

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the forward function's output, and so of its gradient ``out_backprop``."""
        out_channels = self.in_channels * self.channel_multiplier
        return self.ordered(self.batch, self.height.out_size, self.width.out_size, out_channels)

    @property
    def strides(self) -> list[int]:
        """The ``strides`` argument."""
        return list(self.ordered(1, self.stride, self.stride, 1))

    @property
    def dilations(self) -> list[int]:
        """The ``dilations`` argument."""
        return [self.dilation, self.dilation]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by the names of TensorFlow's arguments; ``out_backprop`` is the output's."""
        return {
            "input": self.input_shape,
            "filter": self.filter_shape,
            "out_backprop": self.output_shape,
        }

    @property
    def answer(self) -> str:
        """The one of ``shapes`` that is computed from the other two."""
        return _ANSWERS[self.operation]

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """Shape of the answer."""
        return self.shapes[self.answer]

    @property
    def function(self) -> str:
        """Name of the function that computes the case, in TensorFlow's ``tf.nn`` and ours."""
        return _FUNCTIONS[self.operation]

    def arguments(self, arrays: Mapping[str, _Array]) -> list[_Array | tuple[int, ...]]:
        """Return the arguments ahead of ``strides``: arrays, and the sizes of a gradient."""
        names = ["input", "filter"] if self.operation == FORWARD else list(self.shapes)
        return [arrays.get(name, self.shapes[name]) for name in names]

    @property
    def read_bytes(self) -> int:
        """Bytes of the images that must be read; the filter is small and stays in the cache."""
        return sum(
            _ITEM_BYTES[self.dtype] * prod(self.shapes[name])
            for name in ("input", "out_backprop")
            if name != self.answer
        )

    @property
    def written_bytes(self) -> int:
        """Bytes of the image that is written: none by the filter's gradient."""
        if self.answer == "filter":
            return 0
        return _ITEM_BYTES[self.dtype] * prod(self.answer_shape)

    @property
    def moved_bytes(self) -> int:
        """The least that must pass through memory: what is read and what is written."""
        return self.read_bytes + self.written_bytes

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds that count: taps on padding contribute nothing, so they are left out."""
        out_channels = self.in_channels * self.channel_multiplier
        return self.batch * out_channels * self.height.valid_taps * self.width.valid_taps

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiply and an add each."""
        return 2 * self.multiply_adds
