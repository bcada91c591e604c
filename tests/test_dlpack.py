"""Arrays of libraries that have no front end of their own, exchanged by DLPack."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import array_api_strict
import numpy as np
import pytest

import depthwise
from cases import Case
from comparator import Array, assert_same_bits
from operations import EVERY_OPERATION, FORWARD, Operation

CASE = Case((6, 9), channels=17, multiplier=2, strides=(2, 1), batch=2)


class Foreign:
    """An array of a library with no array API namespace; what it is given is shared."""

    def __init__(self, array: Array, device: tuple[int, int] | None = None) -> None:
        self.array = array
        self.device = device or array.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


def as_numpy(array: Any) -> Array:
    """Return what is behind an array of one of the libraries.

    By DLPack NumPy gave read-only arrays up to 2.0, and would take none.
    """
    behind: Array = array.array if isinstance(array, Foreign) else array._array
    return behind


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> type[Foreign]:
    """Make a library of that class."""
    library = ModuleType("foreign")
    library.from_dlpack = lambda array: Foreign(np.from_dlpack(array))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "foreign", library)
    monkeypatch.setattr(Foreign, "__module__", "foreign.arrays")
    return Foreign


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@EVERY_OPERATION
def test_own_type_comes_back(
    operation: Operation, data_format: str, dtype: type, foreign: type[Foreign]
) -> None:
    operands = operation.to_format(operation.random_data(CASE, np.dtype(dtype)), data_format)
    want = operation(CASE, operands, data_format)
    # The array API standard has no float16.
    libraries = (foreign,) if dtype is np.float16 else (foreign, array_api_strict.asarray)
    for library in libraries:
        first, second = map(library, operands)
        got: Any = operation(CASE, (first, second), data_format)
        assert type(got) is type(first)
        assert_same_bits(as_numpy(got).copy(), want)


def test_nothing_is_copied(monkeypatch: pytest.MonkeyPatch, foreign: type[Foreign]) -> None:
    """The kernels see the memory of the arguments, and the result is theirs."""
    seen: list[Array] = []
    compute = depthwise._kernels.forward

    def forward(geometry: Any, dtype: Any, code: int, *arrays: Array) -> Array:
        seen.extend(arrays)
        seen.append(compute(geometry, dtype, code, *arrays))
        return seen[-1]

    monkeypatch.setattr(depthwise._kernels, "forward", forward)
    operands = FORWARD.random_data(CASE, np.dtype(np.float32))
    got: Any = FORWARD(CASE, (foreign(operands[0]), foreign(operands[1])), "NHWC")
    for mine, theirs in zip((*operands, as_numpy(got)), seen, strict=True):
        assert mine.ctypes.data == theirs.ctypes.data


def test_strided_views(foreign: type[Foreign]) -> None:
    input, filter = FORWARD.random_data(CASE, np.dtype(np.float32))
    want = FORWARD(CASE, (input, filter), "NHWC")
    larger = np.full([2 * n for n in input.shape], np.nan, np.float32)
    larger[::2, ::2, ::2, ::2] = input
    got: Any = FORWARD(CASE, (foreign(larger[::2, ::2, ::2, ::2]), foreign(filter)), "NHWC")
    assert_same_bits(got.array.copy(), want)


def test_mixed_types_are_refused(foreign: type[Foreign]) -> None:
    input, filter = FORWARD.random_data(CASE, np.dtype(np.float32))
    strict = array_api_strict.asarray
    pairs = [
        (strict(input), filter, "filter is a numpy.ndarray, input is a array_api_strict"),
        (input, strict(filter), "filter is a array_api_strict.*, input is a numpy.ndarray"),
        (foreign(input), strict(filter), "filter is a array_api_strict.*, input is a foreign"),
        (foreign(input), filter.tolist(), "filter is a list, input is a foreign"),
    ]
    for first, second, words in pairs:
        with pytest.raises(TypeError, match=words):
            depthwise.depthwise_conv2d(first, second, [1] * 4, "SAME")


def test_other_dtypes_devices_and_libraries(
    foreign: type[Foreign], monkeypatch: pytest.MonkeyPatch
) -> None:
    ones = np.ones((3, 3, 1, 1), np.float32)
    image = np.ones((1, 3, 3, 1), np.float32)
    cuda = foreign(image, device=(2, 0))
    with pytest.raises(TypeError, match=r"input is a foreign.*cannot be read by DLPack.*the CPU"):
        depthwise.depthwise_conv2d(cuda, foreign(ones), [1] * 4, "SAME")
    with pytest.raises(TypeError, match="int64; needed float16"):
        depthwise.depthwise_conv2d(
            array_api_strict.asarray(image.astype(int)),
            array_api_strict.asarray(ones.astype(int)),
            [1] * 4,
            "SAME",
        )
    half_a_protocol = type("Half", (), {"__dlpack__": None})()
    with pytest.raises(TypeError, match=r"input is a .*Half that cannot be read by DLPack"):
        depthwise.depthwise_conv2d(half_a_protocol, half_a_protocol, [1] * 4, "SAME")
    monkeypatch.setitem(sys.modules, "foreign", ModuleType("foreign"))
    with pytest.raises(TypeError, match="foreign has no from_dlpack"):
        depthwise.depthwise_conv2d(foreign(image), foreign(ones), [1] * 4, "SAME")
