"""The problems that the tests solve, by what is special about them.

Sizes around the edges of the kernels' tiles come from the tile constants of every instruction set
of the machine, not from this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cases import Case
from pixel_families import colliding_cases, pixel_block_cases, single_pixel_cases
from plane_families import (
    plane_gradient_cases,
    small_filter_cases,
    tall_walk_cases,
    walk_cases,
)
from thin_families import row_tile_cases, thin_cases
from tile_sizes import edges, tile_constants

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)
CHANNELS = (1, 2, 3, 4, 5, 8, 15, 16, 17, 24, 31, 32, 33, 37)
FILTERS = (
    [(size, size) for size in range(1, 8)]
    + [(1, 2), (1, 3), (1, 5), (1, 7), (1, 11), (2, 1), (3, 1), (5, 1), (7, 1), (11, 1)]
    + [(2, 3), (3, 2), (4, 2), (3, 4), (5, 3), (3, 5), (6, 5), (5, 6), (7, 3), (3, 7)]
    + [(8, 8), (9, 9), (11, 11)]
)


def channel_cases() -> Iterator[Case]:
    lanes = {n for constants in tile_constants() for n in edges(constants["lanes"])}
    for channels in sorted(lanes | set(CHANNELS)):
        yield Case((5, 9), (3, 3), channels)
        yield Case((6, 7), (5, 5), channels, padding="VALID", batch=2)
        yield Case((7, 9), (3, 3), channels, strides=(2, 2))


def image_size_cases() -> Iterator[Case]:
    constants = tile_constants()
    widths = sorted({n for c in constants for n in edges(c["tile_columns"])} | set(PRIMES))
    heights = sorted({n for c in constants for n in edges(c["tile_rows"])} | set(PRIMES[:5]))
    # NCHW and few channels put columns in the lanes.
    lanes = sorted({n for c in constants for n in edges(c["lanes"])})
    for width in widths:
        yield Case((4, width), channels=17)
        yield Case((3, width), (5, 5), channels=16, strides=(2, 2))
    for width in sorted({*lanes, *widths}):
        yield Case((3, width), channels=2)
        yield Case((5, width), channels=1, padding="VALID")
        yield Case((4, width), (3, 3), channels=2, strides=(2, 2))
    # Several tiles of rows, of which each ends with a narrow one.
    for width in lanes:
        yield Case((17, width), channels=3)
    for height in heights:
        yield Case((height, 8), channels=16)
        yield Case((height, 5), (5, 5), channels=18)
        yield Case((height, 6), channels=3, strides=(2, 1))


def filter_cases() -> Iterator[Case]:
    for filter_size in FILTERS:
        yield Case((9, 12), filter_size, channels=17)
        yield Case((12, 13), filter_size, channels=3, padding="VALID", batch=2)
        yield Case((8, 11), filter_size, channels=16, strides=(2, 2))
        yield Case((2, 3), filter_size, channels=5)
    yield Case((7, 9), (31, 31), channels=18)
    yield Case((4, 5), (31, 31), channels=2, multiplier=2)
    yield Case((33, 32), (31, 31), channels=2, padding="VALID")
    yield Case((13, 14), (13, 15), channels=16)
    yield Case((16, 15), (15, 17), channels=3, strides=(2, 2))
    # Input gradients of phases that no tap meets, and of taps reversed along one axis alone.
    yield Case((7, 9), (1, 1), channels=16, strides=(2, 2), padding=((1, 0), (1, 0)))
    yield Case((6, 9), (3, 1), channels=16, strides=(1, 2))


def multiplier_cases() -> Iterator[Case]:
    for multiplier in (2, 3, 8):
        for channels in (1, 2, 3, 4, 5, 8, 15, 16, 17, 33):
            yield Case((5, 8), (3, 3), channels, multiplier)
        for filter_size in ((1, 1), (2, 2), (5, 5), (7, 7), (1, 9)):
            yield Case((8, 9), filter_size, 3, multiplier, padding="VALID")
            yield Case((8, 9), filter_size, 16, multiplier, strides=(2, 2))
            yield Case((8, 9), filter_size, 6, multiplier, dilations=(2, 2))
    for multiplier in (4, 5, 16, 17, 40):
        yield Case((4, 6), (3, 3), 1, multiplier)
        yield Case((4, 6), (3, 3), 3, multiplier, padding="VALID")


def stride_cases() -> Iterator[Case]:
    for strides in ((1, 2), (2, 1), (2, 2), (3, 3), (2, 3), (3, 1), (1, 4), (5, 5), (9, 2)):
        for filter_size in ((1, 1), (2, 2), (3, 3), (5, 5), (7, 7)):
            for channels in (3, 16):
                yield Case((11, 13), filter_size, channels, strides=strides)
        yield Case((11, 13), (3, 3), 17, strides=strides, padding="VALID", batch=2)
        yield Case((10, 9), (3, 4), 2, 2, strides=strides, padding=((1, 0), (2, 3)))
    for filter_size in ((3, 3), (5, 5), (7, 7)):
        yield Case((7, 25), filter_size, 17, strides=(2, 2))
        yield Case((10, 25), filter_size, 17, strides=(3, 3))


def dilation_cases() -> Iterator[Case]:
    for dilations in ((2, 2), (1, 2), (2, 1), (3, 1), (3, 2), (4, 4), (7, 12), (20, 20)):
        for filter_size in ((1, 1), (2, 2), (3, 3), (5, 5), (1, 3), (4, 3)):
            for channels in (3, 16):
                yield Case((11, 13), filter_size, channels, dilations=dilations)
        yield Case((9, 27), (2, 3), 17, dilations=dilations, padding="SAME", batch=2)
        yield Case((10, 9), (3, 3), 2, dilations=dilations, padding=((40, 1), (2, 43)))
    yield Case((11, 13), (3, 3), 16, padding="VALID", dilations=(2, 3))
    yield Case((11, 13), (3, 3), 3, padding="VALID", dilations=(5, 6))


def padding_cases() -> Iterator[Case]:
    for padding in (
        ((0, 0), (0, 0)),
        ((1, 0), (0, 0)),
        ((0, 1), (0, 0)),
        ((0, 0), (1, 0)),
        ((0, 0), (0, 1)),
        ((2, 2), (2, 2)),
        ((3, 1), (0, 4)),
        ((7, 0), (0, 9)),
        ((0, 8), (19, 1)),
        ((30, 30), (30, 30)),
    ):
        yield Case((5, 7), (3, 3), 17, padding=padding)
        yield Case((5, 7), (3, 3), 3, padding=padding, strides=(2, 2))
        yield Case((5, 7), (5, 4), 16, padding=padding, batch=2)
        yield Case((5, 7), (5, 4), 3, padding=padding)
        yield Case((6, 7), (2, 7), 2, 3, padding=padding, strides=(3, 2))
        yield Case((5, 7), (1, 1), 16, padding=padding)


def row_cases() -> Iterator[Case]:
    """Rows that are read in place: of one strip and of several, with more rows than a tile."""
    for width in (9, 16, 17, 33, 65):
        yield Case((16, width), (3, 3), channels=17)
        yield Case((9, width), (3, 3), channels=3)
        yield Case((6, width), (4, 6), channels=3, padding="VALID")
        yield Case((5, width), (3, 3), channels=5, multiplier=2, dilations=(1, 2))
    for channels in (2, 4, 6, 7, 12):
        yield Case((8, 70), (3, 3), channels)
        yield Case((6, 70), (5, 5), channels, dilations=(2, 3))
        yield Case((5, 30), (3, 3), channels, padding=((2, 0), (40, 1)))
    # One column, computed as one row.
    yield Case((40, 1), (5, 1), channels=16)
    yield Case((40, 1), (5, 1), channels=3, multiplier=2, strides=(2, 1))
    yield Case((40, 1), (9, 1), channels=17, dilations=(3, 1), batch=2)
    # With a stride of 2 along the width, of one strip and of several.
    for width in (15, 18, 33, 34, 63, 130):
        yield Case((19, width), (3, 3), channels=17, strides=(2, 2))
        yield Case((9, width), (3, 3), channels=3, strides=(2, 2), padding=((0, 3), (2, 5)))
        yield Case((7, width), (5, 4), channels=5, strides=(1, 2), padding="VALID")
        yield Case((8, width), (2, 7), channels=2, multiplier=3, strides=(3, 2), batch=2)
    yield Case((9, 70), (3, 3), channels=20, strides=(2, 2), padding=((9, 0), (75, 40)))
    yield Case((9, 70), (1, 1), channels=3, strides=(2, 2), padding=((0, 2), (1, 9)))
    yield Case((6, 200), (1, 60), channels=2, strides=(1, 2))
    # Large pixels, whose first channels are computed apart where they are unaligned.
    yield Case((5, 8), (3, 3), channels=208)
    yield Case((6, 15), (3, 3), channels=400, strides=(2, 2))


def permuted_cases() -> Iterator[Case]:
    """Yield few channels that strides or multipliers take from two vectors (native/permuted.h)."""
    for channels in (2, 3, 4, 5, 7, 9, 14):
        yield Case((11, 75), (3, 3), channels, strides=(2, 2), batch=2)
        yield Case((7, 41), (4, 6), channels, strides=(3, 3), padding=((2, 1), (0, 7)))
        yield Case((6, 33), (2, 3), channels, strides=(1, 4), padding="VALID")
    for channels, multiplier in ((1, 2), (1, 8), (1, 13), (2, 3), (3, 2), (3, 5), (5, 3)):
        yield Case((7, 60), (3, 3), channels, multiplier)
        yield Case((6, 47), (5, 7), channels, multiplier, strides=(2, 2), padding="VALID")
        yield Case((5, 40), (2, 11), channels, multiplier, dilations=(1, 3))
    # Single planes.
    for stride in (2, 3, 5):
        yield Case((13, 140), (7, 7), 5, strides=(stride, stride))
        yield Case((8, 23), (4, 4), 2, 3, strides=(2, stride), padding=((1, 0), (3, 2)))
    # Rows that begin with more tiles in the padding than have their masks kept, and long taps.
    yield Case((5, 30), (3, 3), 3, strides=(2, 2), padding=((0, 2), (160, 90)))
    yield Case((4, 300), (2, 130), 3, strides=(2, 2))
    yield Case((3, 9), (2, 40), 2, 2, padding=((0, 1), (20, 19)))


def degenerate_cases() -> Iterator[Case]:
    yield Case((1, 1), (1, 1), 1)
    yield Case((1, 1), (3, 3), 1, 8)
    yield Case((1, 40), (1, 1), 16, 2)
    yield Case((40, 1), (3, 1), 16, padding="VALID")
    yield Case((5, 6), batch=0)
    yield Case((0, 6))
    yield Case((5, 0))
    yield Case((0, 0), batch=0, strides=(2, 3))
    yield Case((0, 5), padding=((1, 2), (0, 0)))
    yield Case((0, 0), padding=((2, 2), (2, 2)), channels=16)
    yield Case((2, 5), padding="VALID")
    yield Case((5, 2), padding="VALID", channels=16)
    yield Case((2, 2), padding="VALID", batch=3)
    yield Case((1, 5), padding="VALID", strides=(2, 2))
    yield Case((4, 5), padding="VALID", strides=(1, 1), dilations=(2, 2))
    yield Case((0, 1), (1, 1), padding="VALID")


def large_cases() -> Iterator[Case]:
    """Problems of many tiles and row blocks, which are shared among threads."""
    yield Case((56, 57), (3, 3), 64)
    yield Case((29, 28), (5, 5), 144)
    yield Case((57, 31), (7, 7), 37)
    yield Case((14, 14), (7, 7), 200, batch=2)
    yield Case((14, 14), (3, 3), 300, strides=(2, 2), batch=3)
    yield Case((7, 7), (3, 3), 520, batch=2)
    yield Case((130, 141), (3, 3), 3)
    yield Case((95, 101), (11, 11), 3)
    yield Case((120, 131), (5, 5), 1, strides=(2, 2))
    yield Case((99, 64), (3, 3), 7, 8, padding="VALID")
    yield Case((40, 41), (4, 3), 48, 2, padding=((3, 1), (0, 2)))
    yield Case((65, 60), (3, 3), 33, dilations=(6, 2))
    yield Case((300, 9), (5, 5), 20, padding="VALID")
    yield Case((9, 700), (5, 5), 18)
    yield Case((3, 3000), (5, 5), 3)
    yield Case((33, 34), (31, 31), 20)
    yield Case((9, 140), (31, 31), 17)
    # Phases of input gradients of 4, 3 and 6 taps, in whole tiles.
    yield Case((9, 30), (7, 7), 17, strides=(2, 2))
    yield Case((6, 29), (5, 12), 18, strides=(2, 2))


def larger_than_cache_cases() -> Iterator[Case]:
    """Images that a test repeats until they exceed every cache; one for each kind of kernel."""
    yield Case((56, 56), (3, 3), 64)
    yield Case((28, 32), (5, 5), 48)
    yield Case((30, 31), (4, 4), 33, padding="VALID")
    yield Case((32, 48), (3, 3), 16, 2, strides=(2, 2))
    yield Case((14, 15), (3, 3), 272, strides=(2, 2))
    yield Case((13, 20), (3, 3), 256, dilations=(2, 2))
    # Blocks of pixels (native/pixel_rows.h), of pixels that fill lines and that do not.
    yield Case((12, 13), (3, 3), 80, strides=(2, 2))
    yield Case((11, 9), (3, 3), 64, strides=(2, 2), padding=((3, 0), (0, 4)))
    yield Case((15, 23), (3, 3), 70, dilations=(1, 3), padding="VALID")
    yield Case((64, 64), (5, 5), 4)
    yield Case((39, 42), (7, 7), 3)
    # Few channels with a stride, of which vectors are full, and not.
    yield Case((40, 64), (3, 3), 4, strides=(2, 2))
    yield Case((41, 50), (3, 3), 3, strides=(2, 2))
    # Planes, and rows of few channels, whose rows end within cache lines: with all rows in a tile,
    # and with some.
    yield Case((13, 15), (3, 3), 21)
    yield Case((37, 41), (3, 3), 3)
    # Small filters of planes whose rows fill lines, and do not.
    yield Case((20, 64), (2, 2), 32)
    yield Case((21, 60), (4, 4), 20)
    # Filters of one column, of planes whose rows fill lines only together, and of one row.
    yield Case((28, 28), (5, 1), 48)
    yield Case((1, 320), (1, 9), 48)
    yield Case((12, 60), (1, 5), 33)
    # A few vectors of channels at a time, while the next image is fetched; and pairs of them.
    yield Case((7, 8), (7, 7), 272)
    yield Case((7, 8), (5, 3), 512, padding="VALID")


def tall_tile_cases() -> Iterator[Case]:
    """Yield 3x3 in tiles of many rows: all counts of rows and columns that are left, edges."""
    constants = tile_constants()
    for height in sorted({n for c in constants for n in edges(c["tall_rows"])} | {3, 4, 5}):
        yield Case((height, 8), channels=16)
        yield Case((height, 9), channels=16, multiplier=2, padding="VALID")
    for width in sorted({n for c in constants for n in edges(c["tile_columns"])} | {9, 10, 11, 12}):
        yield Case((9, width), channels=18, batch=2)
        yield Case((10, width), channels=17, multiplier=3)
    for padding in (((9, 0), (0, 9)), ((2, 8), (19, 1)), ((0, 20), (1, 0))):
        yield Case((9, 10), channels=20, padding=padding)
        yield Case((9, 10), channels=8, multiplier=2, padding=padding)
    for dilations in ((2, 1), (1, 2), (3, 2)):
        yield Case((26, 19), channels=16, dilations=dilations)


def interleaved_column_cases() -> Iterator[Case]:
    """Yield dilated columns of which the first have one tile more than the rest, and very many."""
    for columns in sorted({constants["tile_columns"] for constants in tile_constants()}):
        for dilation in (2, 5):
            yield Case((3, dilation * columns + 1), channels=16, dilations=(1, dilation))
            yield Case((3, 2 * dilation * columns + 1), (3, 2), 17, dilations=(2, dilation))
        yield Case((3, 18 * (columns + 1) + 3), channels=16, dilations=(1, 18))


def huge_filter_cases() -> Iterator[Case]:
    """Filters of which no kernel could keep a padded copy in its cache."""
    yield Case((5, 6), (200, 190), 16)
    yield Case((6, 5), (190, 200), 3)
    yield Case((300, 4), (299, 3), 2, padding="VALID")
    yield Case((2, 3000), (2, 2999), 1, 2, padding="VALID")


def drawn_cases(count: int = 150) -> Iterator[Case]:
    """Draw problems with a fixed seed, to meet combinations that nobody thought of."""
    random = np.random.default_rng(20)

    def pick(choices: Any) -> Any:
        return choices[random.integers(len(choices))]

    small = (1, 1, 1, 2, 2, 3)
    for _ in range(count):
        dilations = (pick(small), pick(small)) if random.random() < 0.3 else (1, 1)
        strides = (pick(small), pick(small)) if dilations == (1, 1) else (1, 1)
        pads = [int(n) for n in random.integers(0, 6, 4)]
        case = Case(
            size=(int(random.integers(1, 20)), int(random.integers(1, 40))),
            filter_size=(int(random.integers(1, 8)), int(random.integers(1, 8))),
            channels=int(random.integers(1, 40)),
            multiplier=pick((1, 1, 1, 2, 3, 4, 7)),
            strides=strides,
            padding=pick(("SAME", "VALID", ((pads[0], pads[1]), (pads[2], pads[3])))),
            dilations=dilations,
            batch=pick((1, 1, 2, 3)),
        )
        if min(case.output_size) >= 0:
            yield case


def all_cases() -> list[Case]:
    """Return every case once, in a fixed order."""
    families = (
        channel_cases,
        colliding_cases,
        single_pixel_cases,
        pixel_block_cases,
        image_size_cases,
        filter_cases,
        multiplier_cases,
        stride_cases,
        dilation_cases,
        padding_cases,
        row_cases,
        walk_cases,
        tall_walk_cases,
        small_filter_cases,
        plane_gradient_cases,
        thin_cases,
        row_tile_cases,
        permuted_cases,
        degenerate_cases,
        large_cases,
        tall_tile_cases,
        interleaved_column_cases,
        huge_filter_cases,
        drawn_cases,
    )
    return list(dict.fromkeys(case for family in families for case in family()))
