"""The three functions under test, called alike, with data and expectations for a `Case`.

Each takes two of the arrays `input`, `filter` and `out_backprop`, here called its operands. Data
and expectations are made in NHWC and then asked for in either format.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import depthwise
from cases import Case, to_format
from comparator import Array, Expected
from depthwise import _native, _numpy, _reference
from depthwise._geometry import make_geometry

Operands = tuple[Array, Array]

# Below this all integers are exact in float32.
EXACT = 2**24


@dataclass(frozen=True)
class Operation:
    """One of the three functions."""

    name: str
    function: Callable[..., Array]
    reference: Callable[..., Array]
    native: Callable[..., None]
    operands: tuple[str, str]
    # The array that the result has the shape of.
    result: str

    def __str__(self) -> str:
        return self.name

    def arguments(self, case: Case, operands: Operands, data_format: str) -> dict[str, Any]:
        """Return what function and reference take; the operands are in `data_format`."""
        arguments = {
            **dict(zip(self.operands, operands, strict=True)),
            **case.arguments(data_format),
        }
        if self.result != "out_backprop":
            arguments[f"{self.result}_sizes"] = self.shape(self.result, case, data_format)
        return arguments

    def __call__(self, case: Case, operands: Operands, data_format: str) -> Array:
        """Call the public function; the operands are in `data_format`."""
        return self.function(**self.arguments(case, operands, data_format))

    def write_into(self, result: Array, case: Case, operands: Operands, data_format: str) -> None:
        """Call the native function as `_kernels` does, with a result of the caller's own."""
        input_shape = self.shape("input", case, data_format)
        geometry = make_geometry(input_shape, case.shapes["filter"], **case.arguments(data_format))
        dtype, code = _numpy._dtype_and_code(result.dtype)
        assert all(array.dtype == dtype for array in operands)
        as_buffers = [
            array.view(np.uint16) if dtype.itemsize == 2 else array for array in (*operands, result)
        ]
        self.native(geometry.native, code, *as_buffers)

    def shape(self, array: str, case: Case, data_format: str) -> tuple[int, ...]:
        """Return the shape of one of the three arrays."""
        shape = case.shapes[array]
        if array == "filter" or data_format == "NHWC":
            return shape
        return (shape[0], shape[3], *shape[1:3])

    def to_format(self, operands: Operands, data_format: str) -> Operands:
        """Return NHWC operands in `data_format`, C-contiguous."""
        first, second = (
            array if name == "filter" else to_format(array, data_format)
            for name, array in zip(self.operands, operands, strict=True)
        )
        return first, second

    def expected_in(self, expected: Expected, data_format: str) -> Expected:
        """Return the expectation of a result in `data_format`."""
        if self.result == "filter" or data_format == "NHWC":
            return expected
        return expected.to_nchw()

    def result_in(self, result: Array, data_format: str) -> Array:
        """Return an NHWC result in `data_format`."""
        return result if self.result == "filter" else to_format(result, data_format)

    def expect(self, case: Case, operands: Operands, data_format: str = "NHWC") -> Expected:
        """Evaluate the reference in a type wider than the one that the result accumulates in."""
        accumulator = np.longdouble if operands[0].dtype == np.float64 else np.float64
        arguments = self.arguments(case, operands, data_format)
        return Expected(
            self.reference(**arguments, accumulator=accumulator),
            self.reference(**arguments, accumulator=accumulator, absolute=True),
            self.allowed(case),
        )

    def sum_length(self, case: Case) -> int:
        """Return how many products at most make one element of the result."""
        taps = math.prod(case.filter_size)
        return {
            "out_backprop": taps,
            "input": taps * case.multiplier,
            "filter": case.batch * math.prod(case.output_size),
        }[self.result]

    def allowed(self, case: Case) -> float:
        """Return the error bound in units of eps times magnitude.

        The long sums of the filter gradient are made in blocks, hence the square root.
        """
        length = self.sum_length(case)
        if self.result == "filter":
            length = min(length, 2 * math.isqrt(length) + 32)
        return length + 2

    def random_data(self, case: Case, dtype: np.dtype[Any]) -> Operands:
        """Return operands of random values of both signs, NHWC."""
        random = case.random()
        first, second = (
            random.standard_normal(case.shapes[name]).astype(dtype) for name in self.operands
        )
        return first, second


FORWARD = Operation(
    "forward",
    depthwise.depthwise_conv2d,
    _reference.depthwise_conv2d_reference,
    _native.forward,
    ("input", "filter"),
    "out_backprop",
)
BACKPROP_INPUT = Operation(
    "backprop_input",
    depthwise.depthwise_conv2d_backprop_input,
    _reference.depthwise_conv2d_backprop_input_reference,
    _native.backprop_input,
    ("filter", "out_backprop"),
    "input",
)
BACKPROP_FILTER = Operation(
    "backprop_filter",
    depthwise.depthwise_conv2d_backprop_filter,
    _reference.depthwise_conv2d_backprop_filter_reference,
    _native.backprop_filter,
    ("input", "out_backprop"),
    "filter",
)
OPERATIONS = (FORWARD, BACKPROP_INPUT, BACKPROP_FILTER)
GRADIENTS = (BACKPROP_INPUT, BACKPROP_FILTER)

EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
BOTH_GRADIENTS = pytest.mark.parametrize("operation", GRADIENTS, ids=str)


def exact_data(operation: Operation, case: Case, largest: int = 8) -> tuple[Operands, Expected]:
    """Return operands (integers up to `largest`, of both signs, as int8) and the expectation, NHWC.

    All sums are integers below 2**24, hence exact in float32 in whatever order they are made. The
    reference is evaluated once, whatever the number of dtypes, formats and instruction sets it then
    judges; of large problems only the last ones are kept.
    """
    large = sum(math.prod(shape) for shape in case.shapes.values()) > 2**18
    return (_few_exact_data if large else _all_exact_data)(operation, case, largest)


def new_exact_data(operation: Operation, case: Case, largest: int = 8) -> tuple[Operands, Expected]:
    """Return the same without keeping it."""
    random = case.random()
    limit = min(largest, math.isqrt((EXACT - 1) // max(1, operation.sum_length(case))))
    first, second = (
        random.integers(-limit, limit + 1, case.shapes[name], np.int8)
        for name in operation.operands
    )
    expected = operation.expect(case, (first, second))
    assert expected.magnitude.max(initial=0) < EXACT
    return (first, second), expected


_few_exact_data = functools.lru_cache(maxsize=6)(new_exact_data)
_all_exact_data = functools.cache(new_exact_data)
