"""Wrong values for each argument of `depthwise_conv2d`, and the exception each must raise."""

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


# Argument, value, exception. The other arguments are valid: an input of shape (2, 5, 6, 3) and a
# filter of shape (3, 3, 3, 2), both float32, strides of 1.
WRONG: list[tuple[str, Any, type[Exception] | tuple[type[Exception], ...]]] = [
    # Not arrays, or not of numbers.
    *[
        (argument, value, TypeError)
        for argument in ("input", "filter")
        for value in (
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
    ],
    # Ranks.
    *[
        (argument, np.ones((3,) * rank, np.float32), ValueError)
        for argument in ("input", "filter")
        for rank in (0, 1, 2, 3, 5, 6)
    ],
    *[(argument, [], ValueError) for argument in ("input", "filter")],
    *[(argument, [1.0, 2.0], ValueError) for argument in ("input", "filter")],
    *[(argument, ragged(), (TypeError, ValueError)) for argument in ("input", "filter")],
    # Shapes and dtypes that do not go together.
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
    # Strides: four integers of at least 1, the outer ones 1.
    *[
        ("strides", value, TypeError)
        for value in (
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
    ],
    *[
        ("strides", value, (TypeError, ValueError))
        for value in (np.array(1), np.ones((4, 1), int), np.ones((2, 2), int), {1, 2, 3, 4})
    ],
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
