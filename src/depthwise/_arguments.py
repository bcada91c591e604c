"""Sequences of integers as users write them, to tuples of Python integers.

Any sequence of exactly the needed length is taken, of any integers but bools; nothing is rounded.
Their values are judged by ``_geometry``, the only caller.
"""

from __future__ import annotations

import operator
import reprlib
from typing import Any


def integers(values: Any, argument: str, count: int) -> tuple[int, ...]:
    """Return a sequence of `count` integers as a tuple of ints; no bools, no floats."""
    if (type(values) is list or type(values) is tuple) and len(values) == count:
        # Four or two plain integers, as in almost every call; a loop takes 2% of a small one.
        if count == 4:
            a, b, c, d = values
            if type(a) is type(b) is type(c) is type(d) is int:
                return (a, b, c, d)
        elif count == 2 and type(values[0]) is type(values[1]) is int:
            return (values[0], values[1])
    needed = f"needed a list, tuple or array of {count} integers"
    result = []
    for item in _items(values, argument, count, needed):
        # numpy.bool_ is named "bool_" up to NumPy 1 and "bool" from NumPy 2 on.
        if isinstance(item, bool) or type(item).__name__ in ("bool_", "bool"):
            raise TypeError(f"{argument} contains the bool {item!r}; {needed}")
        try:
            result.append(operator.index(item))
        except TypeError:
            raise TypeError(
                f"{argument} contains {reprlib.repr(item)} of type {type(item).__name__}; {needed}"
            ) from None
    return tuple(result)


def explicit_padding(padding: Any) -> tuple[tuple[int, int], ...]:
    """Return four pairs of integers as tuples of ints."""
    needed = 'needed "SAME", "VALID" or four pairs of integers ordered by data_format'
    pairs = _items(padding, "padding", 4, needed)
    low_high = (integers(pair, f"padding[{i}]", 2) for i, pair in enumerate(pairs))
    return tuple((low, high) for low, high in low_high)


def _items(values: Any, argument: str, count: int, needed: str) -> list[Any]:
    """Return the `count` items of a sequence; no strings, no sets, and no look at longer ones."""
    try:
        if isinstance(values, (str, bytes, dict, set, frozenset)):
            raise TypeError
        length = len(values)
    except (TypeError, OverflowError):
        raise TypeError(f"{argument} is {reprlib.repr(values)}; {needed}") from None
    if length != count:
        raise ValueError(f"{argument} has {length} entries: {reprlib.repr(values)}; {needed}")
    try:
        return list(values)
    except TypeError:
        raise TypeError(f"{argument} is {reprlib.repr(values)}; {needed}") from None
