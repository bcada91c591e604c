"""From the types of the arrays to the module that computes with them, importing no framework.

A backend is a module with the functions of the ``Backend`` protocol. To add one, write its file
and name the top-level modules of its array types in ``_BACKENDS``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from numpy import ndarray

from . import _numpy

# Top-level module of an array type -> module of this package. NumPy needs no entry.
_BACKENDS = {"torch": "torch", "jax": "jax", "jaxlib": "jax"}

# Types that were seen before: a look at their bases and an import would take a microsecond.
_known: dict[type, ModuleType] = {ndarray: _numpy, list: _numpy, tuple: _numpy}


class Backend(Protocol):
    """What a backend offers to ``_api`` and ``_gradients``: their functions, without `name`.

    Each checks its arrays, makes the geometry, and computes.
    """

    def trace_scope(self, name: str) -> AbstractContextManager[Any]:
        """Return a scope that shows `name` in the traces and profiles of the array library."""

    def depthwise_conv2d(
        self, input: Any, filter: Any, strides: Any, padding: Any, data_format: Any, dilations: Any
    ) -> Any:
        """Return the output."""

    def depthwise_conv2d_backprop_input(
        self,
        input_sizes: Any,
        filter: Any,
        out_backprop: Any,
        strides: Any,
        padding: Any,
        data_format: Any,
        dilations: Any,
    ) -> Any:
        """Return the gradient of the input."""

    def depthwise_conv2d_backprop_filter(
        self,
        input: Any,
        filter_sizes: Any,
        out_backprop: Any,
        strides: Any,
        padding: Any,
        data_format: Any,
        dilations: Any,
    ) -> Any:
        """Return the gradient of the filter."""


def find_backend(first: Any, second: Any, arguments: tuple[str, str]) -> Backend:
    """Return the backend for two arguments of these names, whose types have to agree."""
    first_type, second_type = type(first), type(second)
    backend: Any = _known.get(first_type) or _find(first_type)
    if first_type is not second_type:
        other = _known.get(second_type) or _find(second_type)
        # Any library may stand behind _dlpack.
        if backend is not other or backend.__name__ == f"{__package__}._dlpack":
            raise TypeError(
                f"{arguments[1]} is a {_name_of(second_type)}, {arguments[0]} is a "
                f"{_name_of(first_type)}; needed the same array type"
            )
    found: Backend = backend
    return found


def _find(array_type: type) -> ModuleType:
    """Return the backend of a type that was not seen before; NumPy's says what is wrong with it."""
    name = "_numpy"
    for base in array_type.__mro__:
        framework = base.__module__.partition(".")[0]
        if base is ndarray or framework in _BACKENDS:
            name = _BACKENDS.get(framework, "_numpy")
            break
    else:
        if hasattr(array_type, "__dlpack__"):
            name = "_dlpack"
    backend = import_module(f".{name}", __package__)
    _known[array_type] = backend
    return backend


def _name_of(array_type: type) -> str:
    return f"{array_type.__module__}.{array_type.__qualname__}".removeprefix("builtins.")
