"""Problems of NHWC images whose pixels are special: long, taken for far, or unaligned."""

from __future__ import annotations

from collections.abc import Iterator

from cases import Case


def colliding_cases() -> Iterator[Case]:
    """Yield pixels of a power of two, which meet in few sets of a cache."""
    yield Case((5, 9), (3, 3), 1024)
    yield Case((6, 16), (3, 3), 512, strides=(2, 2))
    yield Case((5, 15), (2, 3), 1024, padding="VALID", strides=(2, 2), batch=2)
    yield Case((4, 30), (2, 3), 512, dilations=(1, 4))


def single_pixel_cases() -> Iterator[Case]:
    """Yield windows that do not overlap, over pixels long enough to be computed one by one."""
    for filter_size, strides in (
        ((3, 3), (3, 3)),
        ((3, 3), (4, 3)),
        ((4, 5), (4, 6)),
        ((9, 1), (10, 2)),
    ):
        yield Case((11, 13), filter_size, 130, strides=strides)
        yield Case((10, 17), filter_size, 192, strides=strides, padding="VALID", batch=2)
        yield Case((9, 10), filter_size, 128, strides=strides, padding=((7, 0), (2, 9)))


def pixel_block_cases() -> Iterator[Case]:
    """Yield 3x3 over pixels long enough for blocks of them where data are taken for far."""
    for width in (3, 4, 5, 8, 9):
        yield Case((6, width), (3, 3), 70)
        yield Case((7, width), (3, 3), 64, padding=((2, 0), (0, 3)), batch=2)
        yield Case((9, width), (3, 3), 80, strides=(2, 2))
        yield Case((8, width), (3, 3), 97, strides=(2, 2), padding=((0, 3), (2, 1)))
        yield Case((7, width), (3, 3), 65, dilations=(1, 2))
        yield Case((9, width), (3, 3), 64, dilations=(2, 3), padding=((4, 1), (3, 2)))


def pixel_end_cases() -> Iterator[Case]:
    """Yield pixels whose ends are one vector where they begin within a line of the cache."""
    for height, width in ((2, 7), (9, 16), (17, 15), (5, 30)):
        yield Case((height, width), (3, 3), 64, batch=2)
        yield Case((height, width), (3, 3), 96, strides=(2, 2))
        yield Case((height, width), (5, 5), 96)
        yield Case((height, width), (4, 6), 112, padding=((3, 0), (1, 7)))
    for filter_size in ((7, 7), (9, 1), (1, 7), (11, 9)):
        yield Case((12, 17), filter_size, 128)
        yield Case((12, 17), filter_size, 96, strides=(2, 3), padding="VALID")
    yield Case((13, 22), (5, 5), 96, strides=(3, 3))
    yield Case((13, 22), (3, 3), 96, dilations=(3, 1))
    # Few vectors at a time for all rows of a batch, and, on one thread, for each pair of rows.
    yield Case((14, 14), (5, 5), 192, batch=9)
    yield Case((52, 51), (7, 7), 112)
    yield Case((9, 12), (5, 5), 96, strides=(2, 1))
