"""Arrays of equal values in every kind of memory.

Each function takes a C-contiguous array and returns one that compares equal to it. What lies around
or between the elements is NaN, so that a value read from there and used does not go unseen, or a
page that may not be read at all.
"""

from __future__ import annotations

import ctypes
import mmap
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from comparator import Array


def contiguous_at(array: Array, offset: int) -> Array:
    """Return a copy at `offset` elements from a 64-byte boundary, NaN before and after it."""
    spare = 64 // array.itemsize
    memory: Any = _poison((array.size + 3 * spare,), array)
    start = (-memory.ctypes.data % 64) // array.itemsize + spare + offset
    return _filled(memory[start : start + array.size].reshape(array.shape), array)


def aligned(array: Array) -> Array:
    """Contiguous, beginning at a multiple of 64 bytes."""
    return contiguous_at(array, 0)


def one_element_off(array: Array) -> Array:
    """Contiguous, beginning one element after a multiple of 64 bytes."""
    return contiguous_at(array, 1)


def after_forbidden_page(array: Array) -> Array:
    """Contiguous and aligned; to read anything before it is a segmentation fault."""
    pages = _pages_between_forbidden_ones(array.nbytes)
    return _filled(pages[: array.nbytes].view(array.dtype).reshape(array.shape), array)


def before_forbidden_page(array: Array) -> Array:
    """Contiguous, aligned to its elements only; to read beyond it is a segmentation fault."""
    pages = _pages_between_forbidden_ones(array.nbytes)
    memory = pages[pages.size - array.nbytes :]
    return _filled(memory.view(array.dtype).reshape(array.shape), array)


def sliced(array: Array) -> Array:
    """Surrounded by other elements along every axis: rows do not follow each other."""
    margins = [(1, 2)] * array.ndim
    larger = _poison(tuple(n + sum(m) for n, m in zip(array.shape, margins, strict=True)), array)
    return _filled(larger[tuple(slice(1, 1 + size) for size in array.shape)], array)


def every_other(array: Array) -> Array:
    """A stride of two elements along the last axis, and of two rows, columns, images."""
    larger = _poison(tuple(2 * size for size in array.shape), array)
    return _filled(larger[tuple(slice(None, None, 2) for _ in array.shape)], array)


def reversed_axes(array: Array) -> Array:
    """Negative strides along every axis."""
    backwards = (slice(None, None, -1),) * array.ndim
    return aligned(np.ascontiguousarray(array[backwards]))[backwards]


def reversed_rows(array: Array) -> Array:
    """A negative stride along the second axis alone, as an image stored bottom up."""
    return aligned(np.ascontiguousarray(array[:, ::-1]))[:, ::-1]


def fortran(array: Array) -> Array:
    return np.asfortranarray(array)


def last_axis_second(array: Array) -> Array:
    """NHWC as a view of NCHW memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -1, 1)), 1, -1)


def second_axis_last(array: Array) -> Array:
    """NCHW as a view of NHWC memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def one_byte_off(array: Array) -> Array:
    """Contiguous, at an address that is no multiple of the element size."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view: Array = memory[1:].view(array.dtype).reshape(array.shape)
    return _filled(view, array)


def record_field(array: Array) -> Array:
    """One field of packed records: neither addresses nor strides are multiples of its size."""
    records = np.full(array.shape, 0xFF, np.uint8).astype([("tag", "u1"), ("value", array.dtype)])
    records["value"] = array
    field: Array = records["value"]
    return field


def read_only(array: Array) -> Array:
    view = array.copy()
    view.flags.writeable = False
    return view


def memory_mapped(array: Array) -> Array:
    """A file on disk, of the subclass `numpy.memmap`."""
    with tempfile.TemporaryFile() as file:
        file.write(array.tobytes() or bytes(array.itemsize))
        file.flush()
        if array.size == 0:
            return array
        return np.memmap(file, array.dtype, "r", shape=array.shape)


def big_endian(array: Array) -> Array:
    """The other byte order; bfloat16 has none and is returned as it is."""
    if array.dtype.kind != "f":
        return array
    return array.astype(array.dtype.newbyteorder(">"))


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    function.__name__: function
    for function in (
        aligned,
        one_element_off,
        after_forbidden_page,
        before_forbidden_page,
        sliced,
        every_other,
        reversed_axes,
        reversed_rows,
        fortran,
        last_axis_second,
        second_axis_last,
        one_byte_off,
        record_field,
        read_only,
        memory_mapped,
        big_endian,
    )
}


def _pages_between_forbidden_ones(byte_count: int) -> Array:
    """Return whole pages that hold `byte_count` bytes; on Windows their neighbours are readable."""
    page_count = max(1, -(-byte_count // mmap.PAGESIZE))
    memory = mmap.mmap(-1, (page_count + 2) * mmap.PAGESIZE)
    first_page = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if hasattr(mmap, "PROT_READ"):
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (0, page_count + 1):
            address = ctypes.c_void_p(first_page + page * mmap.PAGESIZE)
            no_access = 0
            if libc.mprotect(address, ctypes.c_size_t(mmap.PAGESIZE), no_access) != 0:
                raise OSError(ctypes.get_errno(), "mprotect failed")
    return np.frombuffer(memory, np.uint8)[mmap.PAGESIZE : -mmap.PAGESIZE]


def _poison(shape: tuple[int, ...], like: Array) -> Array:
    return np.full(shape, np.nan, like.dtype)


def _filled(view: Array, array: Array) -> Array:
    view[...] = array
    return view
