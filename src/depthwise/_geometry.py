"""From arguments to a valid problem: all validation and all padding arithmetic.

Requirements that shaped this file:
- it knows no array library: it sees shapes and arguments, and gives integers;
- everything after it may assume a valid problem whose arithmetic fits in int64;
- a call on a tiny image costs microseconds, so that solved problems are cached.

Called by ``_api``; calls nothing.
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

# Paddings and effective filter sizes beyond this are refused: with it the position of every tap, in
# elements, fits in an int64 for any array that fits in memory.
MAX_EXTENT = 2**31 - 1

Padding = str | tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Geometry:
    """One valid depthwise convolution in integers; sizes in elements.

    Equal problems are mostly the same object (they come from a cache); it hashes by identity.
    """

    batch: int
    in_height: int
    in_width: int
    in_channels: int
    filter_height: int
    filter_width: int
    channel_multiplier: int
    stride_height: int
    stride_width: int
    dilation_height: int
    dilation_width: int
    pad_top: int
    pad_left: int
    out_height: int
    out_width: int
    data_format: Literal["NHWC", "NCHW"]

    @property
    def out_channels(self) -> int:
        """in_channels * channel_multiplier."""
        return self.in_channels * self.channel_multiplier

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the output, ordered by data_format."""
        if self.data_format == "NHWC":
            return (self.batch, self.out_height, self.out_width, self.out_channels)
        return (self.batch, self.out_channels, self.out_height, self.out_width)


def make_geometry(
    input_shape: Sequence[int],
    filter_shape: Sequence[int],
    strides: Any,
    padding: Any,
    data_format: Any = None,
    dilations: Any = None,
) -> Geometry:
    """Validate the arguments of ``depthwise_conv2d`` and compute its sizes.

    Raises TypeError, ValueError or OverflowError with a message that names the argument, what was
    given and what was needed.
    """
    if data_format is None:
        data_format = "NHWC"
    elif not isinstance(data_format, str) or data_format not in ("NHWC", "NCHW"):
        raise ValueError(f'data_format is {data_format!r}; needed None, "NHWC" or "NCHW"')
    if not isinstance(padding, str):
        padding = _explicit_padding(padding)
    return _solve(
        tuple(input_shape),
        tuple(filter_shape),
        _integers(strides, "strides", 4),
        padding,
        data_format,
        (1, 1) if dilations is None else _integers(dilations, "dilations", 2),
    )


def _integers(values: Any, argument: str, count: int) -> tuple[int, ...]:
    """Return a sequence of `count` integers as a tuple of ints; no bools, no floats."""
    if type(values) is tuple or type(values) is list:
        for value in values:
            if type(value) is not int:
                break
        else:
            if len(values) == count:
                return tuple(values)
    needed = f"needed a list, tuple or array of {count} integers"
    items = _items(values, argument, count, needed)
    integers = []
    for item in items:
        # numpy.bool_ is named "bool_" up to NumPy 1 and "bool" from NumPy 2 on.
        if isinstance(item, bool) or type(item).__name__ in ("bool_", "bool"):
            raise TypeError(f"{argument} contains the bool {item!r}; {needed}")
        try:
            integers.append(operator.index(item))
        except TypeError:
            raise TypeError(
                f"{argument} contains {reprlib.repr(item)} of type {type(item).__name__}; {needed}"
            ) from None
    return tuple(integers)


def _items(values: Any, argument: str, count: int, needed: str) -> list[Any]:
    """Return the `count` items of a sequence; no strings, no sets, and no look at longer ones."""
    shown = reprlib.repr(values)
    try:
        if isinstance(values, (str, bytes, dict, set, frozenset)):
            raise TypeError
        length = len(values)
    except (TypeError, OverflowError):
        raise TypeError(f"{argument} is {shown}; {needed}") from None
    if length != count:
        raise ValueError(f"{argument} has {length} entries: {shown}; {needed}")
    try:
        return list(values)
    except TypeError:
        raise TypeError(f"{argument} is {shown}; {needed}") from None


def _explicit_padding(padding: Any) -> tuple[tuple[int, int], ...]:
    needed = 'needed "SAME", "VALID" or four pairs of integers ordered by data_format'
    pairs = _items(padding, "padding", 4, needed)
    low_high = (_integers(pair, f"padding[{i}]", 2) for i, pair in enumerate(pairs))
    return tuple((low, high) for low, high in low_high)


@lru_cache(maxsize=1024)
def _solve(
    input_shape: tuple[int, ...],
    filter_shape: tuple[int, ...],
    strides: tuple[int, ...],
    padding: Padding,
    data_format: Literal["NHWC", "NCHW"],
    dilations: tuple[int, ...],
) -> Geometry:
    """Check the values of arguments whose types are right, and compute the geometry."""
    if len(input_shape) != 4:
        raise ValueError(f"input has rank {len(input_shape)}, shape {input_shape}; needed rank 4")
    if len(filter_shape) != 4:
        raise ValueError(
            f"filter has rank {len(filter_shape)}, shape {filter_shape}; needed rank 4: "
            "[filter_height, filter_width, in_channels, channel_multiplier]"
        )
    if min(filter_shape) < 1:
        raise ValueError(f"filter has shape {filter_shape}; needed all four sizes >= 1")
    if min(strides) < 1:
        raise ValueError(f"strides is {list(strides)}; needed all entries >= 1")
    if min(dilations) < 1:
        raise ValueError(f"dilations is {list(dilations)}; needed both entries >= 1")

    rows, columns, channels = (1, 2, 3) if data_format == "NHWC" else (2, 3, 1)
    if strides[0] != 1 or strides[channels] != 1:
        raise ValueError(
            f"strides is {list(strides)}; needed 1 for batch and channels "
            f'(data_format="{data_format}")'
        )
    if max(dilations) > 1 and max(strides) > 1:
        raise ValueError(
            f"dilations is {list(dilations)} and strides is {list(strides)}; if a dilation is "
            "greater than 1, all strides must be 1"
        )
    filter_height, filter_width, in_channels, channel_multiplier = filter_shape
    if input_shape[channels] != in_channels:
        raise ValueError(
            f"filter has {in_channels} input channels, input has {input_shape[channels]} "
            f'(data_format="{data_format}")'
        )
    row_padding, column_padding = _axis_paddings(padding, data_format, rows, columns, channels)
    height = _solve_axis(
        "height", input_shape[rows], filter_height, strides[rows], dilations[0], row_padding
    )
    width = _solve_axis(
        "width", input_shape[columns], filter_width, strides[columns], dilations[1], column_padding
    )
    return Geometry(
        batch=input_shape[0],
        in_height=input_shape[rows],
        in_width=input_shape[columns],
        in_channels=in_channels,
        filter_height=filter_height,
        filter_width=filter_width,
        channel_multiplier=channel_multiplier,
        stride_height=height.stride,
        stride_width=width.stride,
        dilation_height=height.dilation,
        dilation_width=width.dilation,
        pad_top=height.pad_before,
        pad_left=width.pad_before,
        out_height=height.out_size,
        out_width=width.out_size,
        data_format=data_format,
    )


def _axis_paddings(
    padding: Padding, data_format: str, rows: int, columns: int, channels: int
) -> tuple[str | tuple[int, int], str | tuple[int, int]]:
    """Split `padding` into that of the rows and that of the columns."""
    if isinstance(padding, str):
        if padding in ("SAME", "VALID"):
            return padding, padding
        hint = " in upper case" if padding.upper() in ("SAME", "VALID") else ""
        raise ValueError(
            f'padding is {padding!r}; needed "SAME" or "VALID"{hint}, or four pairs of integers'
        )
    if any(low < 0 or high < 0 for low, high in padding):
        raise ValueError(f"padding is {padding}; needed integers >= 0")
    if padding[0] != (0, 0) or padding[channels] != (0, 0):
        raise ValueError(
            f"padding is {padding}; needed (0, 0) for batch and channels "
            f'(data_format="{data_format}")'
        )
    return padding[rows], padding[columns]


@dataclass(frozen=True)
class _AxisSolution:
    out_size: int
    pad_before: int
    stride: int
    dilation: int


def _solve_axis(
    axis: str,
    in_size: int,
    filter_size: int,
    stride: int,
    dilation: int,
    padding: str | tuple[int, int],
) -> _AxisSolution:
    """Output size and leading padding of one axis, as SPEC gives them for TensorFlow.

    A stride or dilation that has no effect (one output, one tap) is given as 1, so that even
    absurd ones need no arithmetic later.
    """
    effective_size = (filter_size - 1) * dilation + 1
    if padding == "SAME":
        out_size = -(-in_size // stride)
        pad = max((out_size - 1) * stride + effective_size - in_size, 0)
        before, after = pad // 2, pad - pad // 2
    else:
        before, after = (0, 0) if isinstance(padding, str) else padding
        out_size = (in_size + before + after - effective_size) // stride + 1
        if out_size < 0:
            raise ValueError(
                f"filter has effective {axis} {effective_size} (dilation {dilation}), input has "
                f"{axis} {in_size} and padding adds {before + after}: the output {axis} would be "
                "negative"
            )
    if max(effective_size, before, after) > MAX_EXTENT:
        cause = "dilations" if effective_size > MAX_EXTENT else "padding"
        raise OverflowError(
            f"{cause} too large: the {axis} has an effective filter size of {effective_size} and "
            f"padding ({before}, {after}); needed at most {MAX_EXTENT} for each"
        )
    return _AxisSolution(
        out_size=out_size,
        pad_before=before,
        stride=stride if out_size > 1 else 1,
        dilation=dilation if filter_size > 1 else 1,
    )
