"""How many threads the kernels use, and what this build and machine offer."""

from __future__ import annotations

import operator
from typing import Any

from . import _native

# The same as kMaxThreads in native/parallel.h.
MAX_THREADS = 1024


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, the calling one included.

    Parameters
    ----------
    n : int
        From 1 to 1024. The default is the environment variable DEPTHWISE_NUM_THREADS, else
        OMP_NUM_THREADS, else the number of cores that the process may use; a variable that does
        not hold such a number counts as unset.

    Raises
    ------
    TypeError
        `n` is not an integer.
    ValueError
        `n` is out of range.
    """
    if type(n).__name__ in ("bool", "bool_"):
        raise TypeError(f"n is the bool {n}; needed an integer")
    try:
        count = operator.index(n)
    except TypeError:
        raise TypeError(f"n is {n!r} of type {type(n).__name__}; needed an integer") from None
    if not 1 <= count <= MAX_THREADS:
        raise ValueError(f"n is {count}; needed an integer from 1 to {MAX_THREADS}")
    _native.set_num_threads(count)


def get_num_threads() -> int:
    """Return how many threads a call may use, the calling one included."""
    return _native.get_num_threads()


def config() -> dict[str, Any]:
    """Return what ``show_config`` prints."""
    from . import __version__

    return {
        "version": __version__,
        "isa": _native.get_isa(),
        "supported_isas": _native.supported_isas(),
        "large_filter": _native.get_large_filter(),
        "num_threads": _native.get_num_threads(),
        "compiler": _native.compiler,
    }


def show_config() -> None:
    """Print the version, the instruction sets, the number of threads and the compiler.

    ``large_filter`` is ``transform``, or ``direct`` if the environment variable
    DEPTHWISE_LARGE_FILTER asked that filters of all sizes be summed tap by tap.
    """
    for key, value in config().items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{key}: {text}")
