"""Arrays of any other library that exchanges memory by DLPack, on the CPU and without a copy.

They are seen as NumPy's, and the results come back as arrays of the library that the arguments
are of: by the `from_dlpack` of its array API namespace or, if it has none, of its top-level
module. ``_backends`` sees to it that both arguments have one type.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


# There is no trace that all libraries have.
trace_scope = _numpy.trace_scope


def depthwise_conv2d(input: Any, filter: Any, *options: Any) -> Any:
    """Return the output."""
    arrays = _import(input, "input"), _import(filter, "filter")
    take_back = _find_importer(input)
    return take_back(_numpy.depthwise_conv2d(*arrays, *options))


def depthwise_conv2d_backprop_input(
    input_sizes: Any, filter: Any, out_backprop: Any, *options: Any
) -> Any:
    """Return the gradient with respect to the input."""
    arrays = _import(filter, "filter"), _import(out_backprop, "out_backprop")
    take_back = _find_importer(filter)
    return take_back(_numpy.depthwise_conv2d_backprop_input(input_sizes, *arrays, *options))


def depthwise_conv2d_backprop_filter(
    input: Any, filter_sizes: Any, out_backprop: Any, *options: Any
) -> Any:
    """Return the gradient with respect to the filter."""
    image, gradient = _import(input, "input"), _import(out_backprop, "out_backprop")
    take_back = _find_importer(input)
    return take_back(
        _numpy.depthwise_conv2d_backprop_filter(image, filter_sizes, gradient, *options)
    )


# The types of devices whose memory the CPU reads, by their numbers in dlpack.h: the CPU's own, what
# CUDA and ROCm have pinned for it, and what CUDA moves on demand.
_CPU_DEVICES = (1, 3, 11, 13)


def _import(array: Any, argument: str) -> Array:
    """Return a view of an array; TypeError if it has none that NumPy can read."""
    try:
        device, _ = array.__dlpack_device__()
        if device not in _CPU_DEVICES:
            raise TypeError(f"it is on a device of type {int(device)}")
        return np.from_dlpack(array)
    except (AttributeError, TypeError, RuntimeError, BufferError, ValueError) as error:
        raise TypeError(
            f"{argument} is a {type(array).__module__}.{type(array).__qualname__} that cannot be "
            f"read by DLPack: {error}; needed float16, float32 or float64 in the memory of the CPU"
        ) from None


def _find_importer(like: Any) -> Callable[[Array], Any]:
    """Return what makes results arrays of the library that `like` is of."""
    if hasattr(like, "__array_namespace__"):
        library = like.__array_namespace__()
    else:
        library = sys.modules[type(like).__module__.partition(".")[0]]
    importer: Callable[[Array], Any] | None = getattr(library, "from_dlpack", None)
    if importer is None:
        raise TypeError(
            f"the arguments are {type(like).__module__}.{type(like).__qualname__}, and "
            f"{library.__name__} has no from_dlpack; needed an array library that takes results "
            "back"
        )
    return importer
