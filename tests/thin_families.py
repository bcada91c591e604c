"""Problems of filters of one row or one column, such as those of 1-D signals."""

from __future__ import annotations

from collections.abc import Iterator

from cases import Case
from tile_sizes import edges, tile_constants


def thin_cases() -> Iterator[Case]:
    """Yield what native/row.h takes, all widths around its strips, and what it leaves."""
    lanes = {constants["lanes"] for constants in tile_constants()}
    # Strips of eight vectors, of four for two rows, and those of float64, with half as many lanes.
    for width in sorted({n for count in lanes for step in (2, 4, 8) for n in edges(step * count)}):
        yield Case((1, width), (1, 4), 3, padding=((0, 0), (3, 0)))
        yield Case((5, width), (1, 3), 17)
    # Rows whose taps are all inside the image, and in the gradient: three, of which tiles have two.
    for width in sorted({step * count for count in lanes for step in (2, 4)}):
        yield Case((3, width + 2), (1, 3), 1, padding="VALID")
        yield Case((3, width), (1, 3), 1, padding=((0, 0), (2, 2)))
    for taps in (1, 2, 3, 8, 11, 12, 31):
        yield Case((1, 300), (1, taps), 5, batch=2)
        yield Case((2, 128), (1, taps), 18, padding="VALID")
        yield Case((7, 60), (1, taps), 3)
    # Two strips that overlap by so much that the last one begins in the padding, too.
    for strip in sorted({step * count for count in lanes for step in (4, 8)}):
        width = strip - strip // 4
        yield Case((1, width), (1, 4), 2, padding=((0, 0), (width, 0)))
    # Planes that are one row, and such as fill few of its vectors.
    for size in ((20, 14), (9, 56), (130, 3), (3, 130), (7, 7)):
        for taps in (1, 2, 3, 8):
            yield Case(size, (taps, 1), 17)
    yield Case((40, 30), (5, 1), 4, batch=2, padding="VALID")
    # Ends that are wider than a strip, all of it, and on padding alone.
    for before, after in ((0, 0), (300, 2), (2, 300), (140, 140), (31, 31)):
        yield Case((1, 260), (1, 4), 3, padding=((0, 0), (before, after)))
        yield Case((4, 50), (1, 5), 3, padding=((0, 0), (before, after)))
        yield Case((30, 9), (4, 1), 3, padding=((before, after), (0, 0)))
    for dilation in (2, 5, 40, 200):
        yield Case((1, 270), (1, 3), 16, dilations=(1, dilation))
        yield Case((60, 9), (3, 1), 16, dilations=(dilation, 1))
        yield Case((3, 64), (1, 3), 2, 2, dilations=(dilation, dilation))
    yield Case((1, 20000), (1, 2), 2, dilations=(1, 15000))
    # Rows in the padding above and below, and columns beside the image.
    yield Case((6, 128), (1, 3), 3, padding=((2, 1), (1, 1)))
    yield Case((6, 128), (3, 1), 3, padding=((1, 1), (1, 2)))
    for multiplier in (2, 3):
        yield Case((1, 150), (1, 5), 17, multiplier)
        yield Case((30, 20), (5, 1), 3, multiplier)
    # Of more rows than are copied together, and of several items.
    yield Case((200, 60), (1, 5), 2)
    yield Case((150, 40), (7, 1), 2)


def row_tile_cases() -> Iterator[Case]:
    """Yield single rows of many channels under wide filters: tiles of one row, and their ends."""
    columns = sorted({constants["tile_columns"] for constants in tile_constants()})
    for taps in (7, 8, 15, 18, 31):
        for width in sorted({n + taps for count in columns for n in edges(2 * count)}):
            yield Case((1, width), (1, taps), 18)
    for padding in ("VALID", ((0, 0), (30, 0)), ((0, 0), (0, 45)), ((0, 0), (5, 6))):
        yield Case((1, 75), (1, 12), 33, padding=padding, batch=2)
    yield Case((1, 200), (1, 9), 16, dilations=(1, 3))
    yield Case((1, 100), (1, 17), 16, strides=(1, 2))
    yield Case((1, 80), (1, 9), 16, 2)
    # Pixels of whole vectors, which an array 16 bytes after a line has ends of.
    yield Case((1, 120), (1, 9), 64)
    yield Case((1, 120), (1, 31), 96)
    yield Case((2, 90), (2, 10), 16, padding=((0, 0), (4, 5)))
