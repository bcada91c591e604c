"""The sizes of the kernels' tiles, and those around them."""

from __future__ import annotations

from depthwise import _native


def tile_constants() -> list[dict[str, int]]:
    """Return the tile constants of every instruction set this machine has."""
    before = _native.get_isa()
    constants = []
    for isa in _native.supported_isas():
        _native.set_isa(isa)
        constants.append(_native.tile_constants())
    _native.set_isa(before)
    return constants


def edges(size: int) -> set[int]:
    """Return the sizes around a tile of `size` and around two of them."""
    return {n for n in (size - 1, size, size + 1, 2 * size - 1, 2 * size, 2 * size + 1) if n > 0}
