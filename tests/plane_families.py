"""Problems of planes (NCHW) and of few channels that kernels walk down, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator

from cases import Case
from tile_sizes import edges, tile_constants


def walk_cases() -> Iterator[Case]:
    """Yield planes of 3x3 and 5x5 that strips walk down (native/plane_walk.h), with all edges."""
    lanes = max(constants["lanes"] for constants in tile_constants())
    for vectors in (1, 2, 3, 4):
        for width in (vectors * lanes - 1, vectors * lanes, vectors * lanes + 1):
            yield Case((7, width), (3, 3), 5, padding=((1, 2), (2, 0)))
            yield Case((8, width), (5, 5), 17)
            yield Case((9, 2 * width), (3, 3), 3, strides=(2, 2))
            yield Case((8, 2 * width - 1), (5, 5), 2, 2, strides=(2, 2), padding=((0, 3), (2, 5)))
    # Of float64, which has half as many lanes.
    for width in (lanes // 2, lanes // 2 + 1, lanes * 3 // 2 - 1, lanes * 3 // 2):
        yield Case((7, width), (3, 3), 5, padding=((1, 2), (2, 0)))
        yield Case((8, width), (5, 5), 17)
    # Two planes at a time, of an odd number, and two that share their input.
    yield Case((9, lanes + 2), (5, 5), 17, strides=(2, 2))
    yield Case((10, lanes - 3), (3, 3), 3, 3)
    # Several strips of a row without a stride, as 16-bit types have them.
    for width in (4 * lanes + 1, 5 * lanes, 5 * lanes + 1, 8 * lanes, 8 * lanes + 1):
        yield Case((9, width), (3, 3), 17, padding=((2, 0), (0, 2)))
    # Strips in the padding, and rows of several: of more output rows than a strip.
    yield Case((6, 11), (5, 5), 16, padding=((3, 0), (20, 29)))
    yield Case((5, 9), (3, 3), 3, padding=((0, 4), (40, 3)))
    yield Case((9, 70), (5, 5), 20, strides=(2, 2), padding=((9, 0), (75, 40)))
    yield Case((41, 140), (5, 5), 3, strides=(2, 2))
    yield Case((41, 101), (3, 3), 2, strides=(2, 2))
    # Strips that lie in the padding above.
    yield Case((5, 40), (3, 3), 3, strides=(2, 2), padding=((50, 0), (1, 1)))


def tall_walk_cases() -> Iterator[Case]:
    """Yield planes and few channels below filters of 5 to 11 rows (native/tall_walk_tile.h)."""
    lanes = max(constants["lanes"] for constants in tile_constants())
    for height in (5, 7, 9, 11):
        # Rows that a tile takes, that a walk begins and ends within, and those of several walks.
        for rows in sorted({4, 5, height, 2 * height}):
            yield Case((rows, 2 * lanes + 3), (height, 3), 3)
        yield Case((65, 20), (height, 4), 3, padding=((0, 2), (1, 5)))
        yield Case((130 + height, 9), (height, 3), 2, padding="VALID")
        # Strips inside the image, partial ones, and such as overlap the one before.
        for width in (5, 4 * lanes, 4 * lanes + 1, 7 * lanes - 1):
            yield Case((12, width), (height, height), 1, 2)
            yield Case((10, width), (height, 3), 5, batch=2)
        yield Case((13, 50), (height, 5), 3, padding=((30, 0), (0, 60)))
        yield Case((13, 50), (height, 5), 4, padding=((0, 30), (60, 3)))
        yield Case((12, 40), (height, 3), 6, dilations=(1, 3))
        yield Case((35, 33), (height, 3), 3, dilations=(2, 2), padding=((3, 0), (1, 4)))
    for channels in (2, 7, 12, 15):
        yield Case((20, 33), (7, 7), channels)
    # More rows than the image has, and without an image.
    yield Case((2, 40), (9, 3), 3, padding=((12, 12), (1, 1)))
    yield Case((0, 20), (5, 3), 3, padding=((4, 6), (1, 1)))
    # So long rows that walks have the fewest (`MostWalkedRows`), which fill lines and do not.
    yield Case((37, 4200), (5, 3), 1)
    yield Case((37, 4208), (5, 3), 1)
    # As many planes as fill a vector, if they are wide, or fill strips and are high.
    yield Case((11, 7 * lanes), (7, 7), lanes + 1)
    yield Case((8, 12 * lanes), (5, 5), lanes)
    for constants in tile_constants():
        strip = 2 * constants["lanes"]
        yield Case((20, strip), (7, 7), strip + 3, batch=2)
        yield Case((31, 2 * strip - 2), (9, 3), strip)
        yield Case((24, strip - 1), (5, 9), strip, padding=((9, 0), (0, 7)))
        yield Case((40, strip), (11, 5), strip // 2, 2)


def small_filter_cases() -> Iterator[Case]:
    """Yield as many planes as fill a vector under filters of few columns (`SuitsFewColumns`)."""
    lanes = {constants["lanes"] for constants in tile_constants()}
    channels = max(lanes) + 1
    filters = ((2, 2), (2, 3), (3, 2), (2, 4), (4, 4), (8, 2), (5, 3), (7, 4), (9, 3), (6, 3))
    # Strips of two and four vectors, of float64 half as wide, and of rows that fill most of them.
    for strip in sorted({step * count for count in lanes for step in (2, 4)}):
        for filter_size in filters:
            yield Case((7, strip - strip // 5), filter_size, channels)
    for filter_size in filters:
        yield Case((11, 127), filter_size, channels, batch=2, padding="VALID")
        yield Case((6, 64), filter_size, channels, padding=((3, 0), (0, 2)))
        yield Case((9, 60), filter_size, 9, 2, dilations=(2, 3))


def plane_gradient_cases() -> Iterator[Case]:
    """Yield what the filter gradient walks (native/plane_filter_gradient.h), and around that."""
    lanes = {constants["lanes"] for constants in tile_constants()}
    # Taps that walks are made for along the height, and such as are split into several, under all
    # numbers of taps of a row that are split differently.
    heights, widths = (2, 3, 5, 6, 7, 8, 9, 12), (2, 3, 4, 5, 7)
    for place, height in enumerate(heights):
        for width in (widths[place % 5], widths[(place + 2) % 5]):
            yield Case((2 * height + 3, 31), (height, width), 2, batch=2)
            yield Case((3 * height + 2, 48), (height, width), 1, padding="VALID")
    # Rows that fill their last vector enough for some filters, and not for others.
    for width in sorted({n for count in lanes for step in (1, 2) for n in edges(step * count)}):
        yield Case((16, width), (3, 3), 3)
        yield Case((17, width), (7, 7), 2, padding=((6, 0), (0, 6)))
    # Rows that a walk leaves out, and so few that it has fewer taps; padding wider than a walk.
    for height in (6, 7, 8, 11, 13):
        yield Case((height, 30), (3, 3), 2, padding=((2, 2), (1, 1)))
        yield Case((height, 30), (5, 3), 2, padding=((9, 9), (20, 1)))
        yield Case((height, 30), (7, 2), 2, padding=((0, 14), (0, 1)))
    # Strides of rows, with walks for each residue of the taps; dilations, of either axis.
    for stride in (2, 3, 5):
        yield Case((19 * stride, 32), (3, 3), 2, strides=(stride, 1))
        yield Case((20 * stride, 29), (7, 5), 2, 2, strides=(stride, 1), padding="VALID")
    yield Case((40, 32), (5, 5), 3, dilations=(3, 1))
    yield Case((30, 47), (3, 3), 3, dilations=(2, 7), batch=2)
    yield Case((45, 30), (5, 3), 2, strides=(2, 1), padding=((3, 4), (2, 2)))
    # Multipliers; chunks of several blocks, of several images, and of parts of one; several tiles.
    yield Case((20, 30), (3, 3), 3, 3, batch=3)
    yield Case((14, 14), (3, 3), 40, batch=5)
    yield Case((120, 230), (3, 2), 2, batch=2)
    yield Case((300, 500), (5, 5), 1)
    yield Case((30, 2100), (3, 3), 1)
