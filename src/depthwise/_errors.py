"""What the public functions do alike with `name`: it begins the message of their errors."""

from __future__ import annotations

from typing import Any

# The errors that the public functions document.
DOCUMENTED = (TypeError, ValueError, OverflowError, MemoryError)


def check_name(name: Any) -> None:
    """Raise TypeError for a name that is given, but is no string."""
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r}; needed a string or None")


def begin_with(name: str | None, error: Exception) -> None:
    """Put `name`, if there is one, before the message of an error that is on its way.

    In place: subclasses of the documented errors may not be made from a message alone.
    """
    if name is not None:
        error.args = (f"{name}: {error}",)
