"""Wrong values for each argument of the three functions, and the exception each must raise.

The other arguments are valid: an input of shape (2, 5, 6, 3), a filter of shape (3, 3, 3, 2) and an
out_backprop of shape (2, 5, 6, 6), all float32, strides of 1.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np


def ragged() -> list[Any]:
    nested: list[Any] = np.ones((1, 3, 3, 1)).tolist()
    nested[0][1].append([1.0])
    return nested


class Unindexable:
    """A sequence only by its length."""

    def __len__(self) -> int:
        return 4


# Argument, value, exception.
Wrong = tuple[str, Any, type[Exception] | tuple[type[Exception], ...]]

# Instead of an array: not arrays, or not of numbers.
NOT_ARRAYS = (
    None,
    "array",
    b"array",
    3,
    2.5,
    object(),
    {},
    {1, 2},
    range(4),
    np.float32(1),
    np.full((3, 3, 3, 2), None),
    np.full((3, 3, 3, 2), 1.0).astype(object),
    np.full((3, 3, 3, 2), "1"),
    np.ones((3, 3, 3, 2), bool),
    np.ones((3, 3, 3, 2), np.int32),
    np.ones((3, 3, 3, 2), np.uint8),
    np.ones((3, 3, 3, 2), np.int64),
    np.ones((3, 3, 3, 2), np.complex64),
    np.ones((3, 3, 3, 2), np.longdouble),
    np.zeros((3, 3, 3, 2), "M8[s]"),
    np.ones((3, 3, 3, 2), [("float32", np.float32)]),
    np.ones((3, 3, 3, 2), ml_dtypes.float8_e4m3fn),
    np.ma.ones((3, 3, 3, 2), np.float32),
    np.ma.masked_array(np.ones((3, 3, 3, 2), np.float32), mask=True),
    np.ones((3, 3, 3, 2), bool).tolist(),
    np.full((3, 3, 3, 2), "1").tolist(),
    np.full((3, 3, 3, 2), None).tolist(),
    np.ones((3, 3, 3, 2), complex).tolist(),
)

# Instead of four integers: no sequences, or not of integers.
NOT_INTEGERS = (
    None,
    1,
    2.5,
    "1111",
    b"1111",
    "SAME",
    {1: 1},
    object(),
    Unindexable(),
    [1, 1.0, 1, 1],
    [1, 1, True, 1],
    [1, "1", 1, 1],
    [1, None, 1, 1],
    [1, [1], 1, 1],
    [1, Decimal(1), 1, 1],
    [1, Fraction(1), 1, 1],
    [1, np.float64(1), 1, 1],
    [1, np.True_, 1, 1],
    np.ones(4),
    np.ones(4, bool),
    np.ones(4, object) * 1.5,
    np.full(4, "1"),
)
NOT_FOUR = (np.array(1), np.ones((4, 1), int), np.ones((2, 2), int), {1, 2, 3, 4})


def wrong_array(argument: str) -> list[Wrong]:
    """Return what is wrong for each of the arrays, in type, dtype or rank."""
    return [
        *[(argument, value, TypeError) for value in NOT_ARRAYS],
        *[(argument, np.ones((3,) * n, np.float32), ValueError) for n in (0, 1, 2, 3, 5, 6)],
        (argument, [], ValueError),
        (argument, [1.0, 2.0], ValueError),
        (argument, ragged(), (TypeError, ValueError)),
    ]


def wrong_sizes(argument: str, values: list[Any]) -> list[Wrong]:
    """Return what is wrong for `input_sizes` and `filter_sizes`, and these values."""
    return [
        *[(argument, value, TypeError) for value in NOT_INTEGERS],
        *[(argument, value, (TypeError, ValueError)) for value in NOT_FOUR],
        *[
            (argument, value, ValueError)
            for value in ([], [1], [1, 1, 1], [1] * 5, (1,) * 100, range(2**40), *values)
        ],
    ]


# What all three functions take, beside their arrays and sizes.
WRONG_OPTIONS: list[Wrong] = [
    # Strides: four integers of at least 1, the outer ones 1.
    *[("strides", value, TypeError) for value in NOT_INTEGERS],
    *[("strides", value, (TypeError, ValueError)) for value in NOT_FOUR],
    *[
        ("strides", value, ValueError)
        for value in (
            [],
            [1],
            [1, 1],
            [1, 1, 1],
            [1, 1, 1, 1, 1],
            (1,) * 100,
            range(2**40),
            [1, 0, 1, 1],
            [1, 1, 0, 1],
            [1, -1, 1, 1],
            [1, 1, -(2**63), 1],
            [1, 1, -(2**70), 1],
            [0, 1, 1, 1],
            [2, 1, 1, 1],
            [1, 1, 1, 2],
            [-1, 1, 1, 1],
            [1, 2, 2, 2**62],
            np.zeros(4, int),
        )
    ],
    # Padding: a word, or four pairs of integers of at least 0, the outer ones zero.
    *[
        ("padding", value, TypeError)
        for value in (
            None,
            1,
            1.5,
            True,
            b"SAME",
            object(),
            {"SAME": 1},
            [0, 0, 0, 0],
            [[0, 0], [1.0, 0], [0, 0], [0, 0]],
            [[0, 0], [True, 0], [0, 0], [0, 0]],
            [[0, 0], [np.True_, 0], [0, 0], [0, 0]],
            [[0, 0], [None, 0], [0, 0], [0, 0]],
            [[0, 0], ["1", 0], [0, 0], [0, 0]],
            [[0, 0], "11", [0, 0], [0, 0]],
            [[0, 0], None, [0, 0], [0, 0]],
            np.zeros((4, 2)),
            np.zeros((4, 2), bool),
        )
    ],
    *[
        ("padding", value, (TypeError, ValueError))
        for value in (np.zeros(4, int), np.zeros((4, 2, 1), int), np.array(0), ["SAME"] * 4)
    ],
    *[
        ("padding", value, ValueError)
        for value in (
            "",
            "same",
            "valid",
            "Same",
            "FULL",
            "EXPLICIT",
            "SAME ",
            "SAME\0",
            [],
            [[0, 0]],
            [[0, 0], [0, 0]],
            [[0, 0]] * 3,
            [[0, 0]] * 5,
            [[0, 0], [0], [0, 0], [0, 0]],
            [[0, 0], [], [0, 0], [0, 0]],
            [[0, 0], [0, 0, 0], [0, 0], [0, 0]],
            [[0, 0], [-1, 0], [0, 0], [0, 0]],
            [[0, 0], [0, 0], [0, -1], [0, 0]],
            [[0, 0], [0, -(2**70)], [0, 0], [0, 0]],
            [[1, 0], [0, 0], [0, 0], [0, 0]],
            [[0, 0], [0, 0], [0, 0], [0, 1]],
            np.zeros((2, 4), int),
            range(2**40),
        )
    ],
    # Data format.
    *[
        ("data_format", value, ValueError)
        for value in ("", "nhwc", "NCWH", "HWC", "NHWC ", "NCHW\0", "SAME")
    ],
    *[
        ("data_format", value, (TypeError, ValueError))
        for value in (0, True, 1.5, b"NHWC", ["NHWC"], object(), np.ones(3))
    ],
    # Dilations: two integers of at least 1, of which neither goes with a stride.
    *[
        ("dilations", value, TypeError)
        for value in (
            1,
            2.0,
            "11",
            object(),
            [1.0, 1],
            [1, True],
            [np.False_, 1],
            [None, 1],
            ["1", 1],
            np.ones(2),
            np.ones(2, bool),
        )
    ],
    *[
        ("dilations", value, ValueError)
        for value in (
            [],
            [1],
            [1, 1, 1],
            [1, 1, 1, 1],
            [0, 1],
            [1, 0],
            [-1, 1],
            [1, -(2**70)],
            range(2**40),
        )
    ],
    *[("name", value, TypeError) for value in (1, True, b"blur", ["blur"], object())],
]


WRONG_FORWARD: list[Wrong] = [
    *wrong_array("input"),
    *wrong_array("filter"),
    ("filter", np.ones((3, 3, 4, 2), np.float32), ValueError),
    ("filter", np.ones((3, 3, 1, 2), np.float32), ValueError),
    ("filter", np.ones((0, 3, 3, 2), np.float32), ValueError),
    ("filter", np.ones((3, 0, 3, 2), np.float32), ValueError),
    ("filter", np.ones((3, 3, 0, 2), np.float32), ValueError),
    ("filter", np.ones((3, 3, 3, 0), np.float32), ValueError),
    ("filter", np.ones((3, 3, 3, 2), np.float64), TypeError),
    ("filter", np.ones((3, 3, 3, 2), np.float16), TypeError),
    ("filter", np.ones((3, 3, 3, 2), ml_dtypes.bfloat16), TypeError),
    ("input", np.ones((2, 5, 6, 0), np.float32), ValueError),
    ("input", np.ones((2, 5, 6, 3), np.float64), TypeError),
    *WRONG_OPTIONS,
]

WRONG_OUT_BACKPROP: list[Wrong] = [
    *wrong_array("out_backprop"),
    *[
        ("out_backprop", np.ones(shape, np.float32), ValueError)
        for shape in (
            (2, 5, 6, 3),
            (2, 6, 5, 6),
            (1, 5, 6, 6),
            (0, 5, 6, 6),
            (2, 5, 7, 6),
            (2, 3, 6, 6),
            (2, 0, 0, 0),
            (1, 1, 1, 1),
        )
    ],
    ("out_backprop", np.ones((2, 5, 6, 6), np.float64), TypeError),
    ("out_backprop", np.ones((2, 5, 6, 6), np.float16), TypeError),
    ("out_backprop", np.ones((2, 5, 6, 6), ml_dtypes.bfloat16), TypeError),
]

WRONG_BACKPROP_INPUT: list[Wrong] = [
    *wrong_sizes(
        "input_sizes",
        [[2, 5, 6, 0], [2, 5, 6, 4], [2, 5, 6, 2**70], [-1, 5, 6, 3], [2, -(2**70), 6, 3]],
    ),
    *wrong_array("filter"),
    ("filter", np.ones((3, 3, 4, 2), np.float32), ValueError),
    ("filter", np.ones((3, 3, 3, 0), np.float32), ValueError),
    ("filter", np.ones((3, 3, 3, 2), np.float64), TypeError),
    *WRONG_OUT_BACKPROP,
    *WRONG_OPTIONS,
]

WRONG_BACKPROP_FILTER: list[Wrong] = [
    *wrong_array("input"),
    ("input", np.ones((2, 5, 6, 0), np.float32), ValueError),
    ("input", np.ones((2, 5, 6, 3), np.float64), TypeError),
    *wrong_sizes(
        "filter_sizes",
        [
            [3, 3, 4, 2],
            [3, 3, 2**70, 2],
            [0, 3, 3, 2],
            [3, 0, 3, 2],
            [3, 3, 0, 2],
            [3, 3, 3, 0],
            [3, -1, 3, 2],
            [3, 3, 3, -(2**70)],
        ],
    ),
    *WRONG_OUT_BACKPROP,
    *WRONG_OPTIONS,
]
