"""The benchmarks' arithmetic, their table of rows, their check of answers, and their turns."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

import depthwise
from benchmarks.cases import FILTER_GRADIENT, INPUT_GRADIENT, OPERATIONS, Axis, Case
from benchmarks.check import find_error, make_arrays, right_parts
from benchmarks.shapes import CASES, FAMILIES, FAMILY_OF, SELECTION
from benchmarks.timing import interleave, take_turns

# The table of the design, and what issues ask for, by the names that the tables show.
WANTED = """
    NHWC 112x112x32 3x3
    NHWC 112x112x64 3x3 stride 2
    NHWC 56x56x128 3x3
    NHWC 14x14x512 3x3
    NHWC 7x7x1024 3x3
    NHWC 32x112x112x32 3x3
    NHWC 28x28x240 5x5
    NHWC 56x56x144 5x5 stride 2
    NHWC 56x56x96 7x7
    NHWC 28x28x192 7x7
    NHWC 14x14x384 7x7
    NHWC 7x7x768 7x7
    NHWC 56x56x128 31x31
    NHWC 28x28x256 29x29
    NHWC 14x14x512 27x27
    NHWC 7x7x1024 13x13
    NHWC 2160x3840x3 3x3
    NHWC 2160x3840x3 11x11
    NHWC 1080x1920x1 3x3
    NHWC 4320x7680x3 3x3
    NHWC 1080x1920x3 21x21
    NCHW 32x112x112 3x3
    NCHW 512x14x14 3x3
    NCHW 1024x7x7 3x3
    NHWC 56x56x64 3x3 multiplier 2
    NHWC 112x112x3 3x3 multiplier 8
    NHWC 65x65x256 3x3 dilation 2
    NHWC 33x33x256 3x3 dilation 4
    NHWC 33x33x256 3x3 dilation 12
    NHWC 8x56x56x128 3x3 float16
    NHWC 8x56x56x128 3x3 bfloat16
    NHWC 8x56x56x128 3x3 float64
    NHWC 8x28x28x192 7x7 filter gradient
    NHWC 8x56x56x128 3x3 filter gradient
    NHWC 8x56x56x128 3x3 input gradient
    NHWC 8x56x56x128 3x3 2 threads
"""


@pytest.mark.parametrize("name", [line.strip() for line in WANTED.strip().splitlines()])
def test_the_table_has(name: str) -> None:
    assert name in {case.name for case in CASES}


def test_names_are_unique_and_rows_have_twins() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    for case in CASES:
        assert replace(case, data_format="NCHW") in FAMILY_OF
        assert replace(case, data_format="NHWC") in FAMILY_OF
    assert set(SELECTION) <= set(CASES)
    assert len(set(SELECTION)) == len(SELECTION)
    assert sum(map(len, FAMILIES.values())) == len(CASES)


AXES = [
    Axis(*sizes)
    for sizes in product((1, 2, 7, 12), (1, 2, 3, 4, 9), (1, 2, 3), (1, 2), ("SAME", "VALID"))
]


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_axis_by_counting(axis: Axis) -> None:
    if axis.padding == "VALID" and axis.effective_filter > axis.in_size:
        return
    reads = [
        i * axis.stride - axis.pads[0] + tap * axis.dilation
        for i in range(axis.out_size)
        for tap in range(axis.filter_size)
    ]
    assert sum(0 <= place < axis.in_size for place in reads) == axis.valid_taps
    shape = (1, 1, axis.in_size, 1)
    if axis.stride == 1 or axis.dilation == 1:
        output = depthwise.depthwise_conv2d(
            np.ones(shape, np.float32),
            np.ones((1, axis.filter_size, 1, 1), np.float32),
            [1, axis.stride, axis.stride, 1],
            axis.padding,
            dilations=[1, axis.dilation],
        )
        assert output.shape[2] == axis.out_size
        assert output.sum() == axis.valid_taps


def test_bytes_and_operations() -> None:
    case = Case(2, 4, 5, 3, 3, 3, channel_multiplier=2, dtype="float16")
    assert case.read_bytes == 2 * 2 * 4 * 5 * 3
    assert case.written_bytes == 2 * case.read_bytes
    # Of the three taps one falls outside at each end: 3 * 4 - 2 and 3 * 5 - 2.
    assert case.flops == 2 * 2 * 6 * 10 * 13
    gradient = replace(case, operation=FILTER_GRADIENT)
    assert (gradient.read_bytes, gradient.written_bytes) == (case.moved_bytes, 0)
    assert replace(case, operation=INPUT_GRADIENT).moved_bytes == case.moved_bytes


def test_neighbours() -> None:
    case = Case(1, 8, 9, 3, 3, 3)
    assert [neighbour.name for neighbour in case.neighbours.values()] == [
        "NHWC 8x9x4 3x3",
        "NHWC 8x8x3 3x3",
    ]
    assert list(Case(1, 8, 1, 3, 3, 1).neighbours) == ["one channel more"]
    assert list(Case(1, 8, 3, 3, 3, 3, padding="VALID").neighbours) == ["one channel more"]
    for row in CASES:
        assert row.neighbours


CHECKED = [
    replace(case, operation=operation, data_format=data_format)
    for operation in OPERATIONS
    for data_format in ("NHWC", "NCHW")
    for case in (
        Case(3, 40, 37, 3, 5, 2, stride=2),
        Case(1, 20, 23, 3, 3, 3, channel_multiplier=2, dilation=3),
        Case(1, 33, 9, 3, 3, 3, padding="VALID", dtype="bfloat16"),
        Case(1, 12, 12, 3, 3, 3, same_filter=True),
    )
]


@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case.name)
def test_the_check_passes_a_right_answer_and_no_other(case: Case) -> None:
    arrays = make_arrays(case)
    if case.same_filter and case.operation != FILTER_GRADIENT:
        assert (arrays["filter"] == arrays["filter"][:, :, :1]).all()
    parts = right_parts(case, arrays)
    answer = getattr(depthwise, case.function)(
        *case.arguments(arrays), case.strides, case.padding, case.data_format, case.dilations
    )
    assert find_error(case, parts, answer) is None
    assert find_error(case, parts, answer[..., :-1]) is not None
    for place in ((0,) * 4, (-1,) * 4):
        wrong = answer.copy()
        wrong[place] += 1
        assert find_error(case, parts, wrong) is not None
        wrong[place] = np.nan
        assert find_error(case, parts, wrong) is not None
    assert find_error(case, parts, -answer) is not None


def test_all_take_turns_and_long_calls_have_few() -> None:
    turns: list[str] = []

    def turn(label: str, count: int, warm: bool) -> float:
        turns.append(label)
        assert warm == (label != "long")
        assert count == (1 if label == "long" else 20)
        return {"short": 1e-4, "other": 2e-4, "long": 1.0}[label]

    labels: dict[str, float] = {"short": 1e-4, "other": 1e-4, "long": 1.0}
    timings = take_turns(
        {label: (lambda count, warm, label=label: turn(label, count, warm)) for label in labels},
        labels,
        seconds=0.0,
    )
    assert timings["short"].rounds == timings["other"].rounds == 3
    assert timings["long"].rounds == 3
    assert timings["other"].median_us == pytest.approx(200)
    assert sorted(turns[:3]) == sorted(turns[3:6]) == sorted(labels)
    assert turns[:3] != turns[3:6]  # The order rotates.


def test_interleaved_calls_of_one_process() -> None:
    before: list[str] = []
    calls: dict[str, Any] = {"one": lambda: None, "two": lambda: None}
    timings = interleave(calls, 0.01, {"two": lambda: before.append("two")})
    assert set(timings) == {"one", "two"}
    assert all(timing.rounds >= 5 for timing in timings.values())
    assert len(before) == timings["two"].rounds + 2
