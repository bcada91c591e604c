"""The arithmetic of one axis, height or width: output size and padding, in integers of any size.

Called by ``_geometry``; calls nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

# Paddings and effective filter sizes beyond this are refused: with it the position of every tap, in
# elements, fits in an int64 for any array that fits in memory.
MAX_EXTENT = 2**31 - 1


@dataclass(frozen=True)
class AxisSolution:
    """Sizes and steps of one axis, in elements."""

    out_size: int
    pad_before: int
    stride: int
    dilation: int


def solve_axis(
    axis: str,
    in_size: int,
    filter_size: int,
    stride: int,
    dilation: int,
    padding: str | tuple[int, int],
    input_argument: str,
    filter_argument: str,
) -> AxisSolution:
    """Output size and leading padding of one axis, as TensorFlow defines them.

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
                f"{filter_argument} has effective {axis} {effective_size} (dilation {dilation}), "
                f"{input_argument} has {axis} {in_size} and padding adds {before + after}: the "
                f"output {axis} would be negative"
            )
    if max(effective_size, before, after) > MAX_EXTENT:
        cause = "padding"
        if effective_size > MAX_EXTENT:
            cause = f"dilations or {filter_argument}"
        raise OverflowError(
            f"{cause} too large: the {axis} has an effective filter size of {effective_size} and "
            f"padding ({before}, {after}); needed at most {MAX_EXTENT} for each"
        )
    return AxisSolution(
        out_size=out_size,
        pad_before=before,
        stride=stride if out_size > 1 else 1,
        dilation=dilation if filter_size > 1 else 1,
    )
