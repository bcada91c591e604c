"""From the type of an array to the module that computes with it, importing no framework.

A backend is a module with the functions of the ``Backend`` protocol. To add one, write its file
and name the top-level module of its arrays in ``_BACKENDS``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol, cast

from numpy import ndarray

from . import _numpy
from ._geometry import Geometry

# Top-level module of the array type -> module of this package. NumPy needs no entry.
_BACKENDS: dict[str, str] = {}


class Backend(Protocol):
    """What a backend offers to ``_api``."""

    def as_arrays(self, first: Any, second: Any, arguments: tuple[str, str]) -> tuple[Any, Any]:
        """Return two arguments, of these names, as arrays of the same supported dtype."""

    def depthwise_conv2d(self, input: Any, filter: Any, geometry: Geometry) -> Any:
        """Return the output for two arrays that as_arrays() returned."""

    def backprop_input(self, filter: Any, out_backprop: Any, geometry: Geometry) -> Any:
        """Return the gradient of the input, likewise."""

    def backprop_filter(self, input: Any, out_backprop: Any, geometry: Geometry) -> Any:
        """Return the gradient of the filter, likewise."""


def find_backend(array: Any) -> Backend:
    """Return the backend for the type of `array`; NumPy's says what is wrong with others."""
    if type(array) is ndarray:  # 0.1 us of the 3 that a small call takes
        return _numpy
    module = type(array).__module__.partition(".")[0]
    if module in _BACKENDS:
        return cast(Backend, import_module(_BACKENDS[module], __package__))
    return _numpy
