"""The references against their formulas written as plain loops over an image padded by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from cases import Case
from comparator import Array, assert_same_bits
from depthwise._reference import (
    depthwise_conv2d_backprop_filter_reference,
    depthwise_conv2d_backprop_input_reference,
    depthwise_conv2d_reference,
)
from operations import EVERY_OPERATION, Operation

Pads = tuple[tuple[int, int], tuple[int, int]]


def loops(
    input: Array, filter: Array, out_backprop: Array, strides: Any, pads: Pads, dilations: Any
) -> dict[str, Array]:
    """Evaluate the three NHWC formulas product by product in Python numbers.

    The results are keyed by the array whose shape they have.
    """
    padded = np.pad(input, ((0, 0), *pads, (0, 0)))
    output, padded_backprop = np.zeros(out_backprop.shape), np.zeros(padded.shape)
    filter_backprop = np.zeros(filter.shape)
    batch, out_height, out_width, _ = out_backprop.shape
    for b, i, j, di, dj, k, q in itertools.product(
        *map(range, (batch, out_height, out_width, *filter.shape))
    ):
        e = k * filter.shape[3] + q
        pixel = (b, strides[0] * i + dilations[0] * di, strides[1] * j + dilations[1] * dj, k)
        output[b, i, j, e] += float(filter[di, dj, k, q]) * float(padded[pixel])
        padded_backprop[pixel] += float(filter[di, dj, k, q]) * float(out_backprop[b, i, j, e])
        filter_backprop[di, dj, k, q] += float(padded[pixel]) * float(out_backprop[b, i, j, e])
    (top, _), (left, _) = pads
    in_rows, in_columns = slice(top, top + input.shape[1]), slice(left, left + input.shape[2])
    return {
        "out_backprop": output,
        "input": padded_backprop[:, in_rows, in_columns].copy(),
        "filter": filter_backprop,
    }


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize(
    ("size", "filter_size", "strides", "padding", "dilations", "pads"),
    [
        ((5, 6), (3, 3), (1, 1), "SAME", None, ((1, 1), (1, 1))),
        ((5, 6), (3, 3), (2, 2), "SAME", None, ((1, 1), (0, 1))),
        ((5, 6), (2, 4), (1, 1), "SAME", None, ((0, 1), (1, 2))),
        ((5, 6), (1, 1), (3, 4), "SAME", None, ((0, 0), (0, 0))),
        ((5, 6), (3, 2), (2, 3), "VALID", None, ((0, 0), (0, 0))),
        ((5, 6), (3, 3), (1, 1), "SAME", (2, 3), ((2, 2), (3, 3))),
        ((5, 6), (2, 3), (1, 1), "VALID", (4, 1), ((0, 0), (0, 0))),
        ((5, 6), (3, 3), (2, 1), ((4, 0), (0, 5)), None, ((4, 0), (0, 5))),
        ((2, 1), (7, 9), (1, 1), "SAME", None, ((3, 3), (4, 4))),
        ((0, 1), (3, 3), (1, 1), "SAME", None, None),
        ((4, 4), (6, 4), (2, 1), "VALID", None, None),
    ],
)
@EVERY_OPERATION
def test_matches_plain_loops(
    operation: Operation,
    size: tuple[int, int],
    filter_size: tuple[int, int],
    strides: tuple[int, int],
    padding: Any,
    dilations: tuple[int, int] | None,
    pads: Pads | None,
    data_format: str,
) -> None:
    case = Case(size, filter_size, 3, 2, strides, padding, dilations or (1, 1), batch=2)
    random = np.random.default_rng(0)
    arrays = {
        name: random.integers(-8, 9, shape).astype(np.float32)
        for name, shape in case.shapes.items()
    }
    if pads is None:
        want = np.zeros(case.shapes[operation.result])
    else:
        want = loops(**arrays, strides=strides, pads=pads, dilations=case.dilations)[
            operation.result
        ]
    want = operation.result_in(want, data_format)
    first, second = (arrays[name] for name in operation.operands)
    operands = operation.to_format((first, second), data_format)
    arguments = operation.arguments(case, operands, data_format)
    assert_same_bits(operation.reference(**arguments), want)

    magnitude = operation.reference(**arguments, absolute=True)
    of_absolute = operation.arguments(case, (abs(operands[0]), abs(operands[1])), data_format)
    assert_same_bits(magnitude, operation.reference(**of_absolute))
    assert (magnitude >= np.abs(want)).all()


def test_padding_contributes_nothing_even_to_an_infinite_tap() -> None:
    filter = np.array([np.inf, 1.0, np.nan]).reshape(1, 3, 1, 1)
    got = depthwise_conv2d_reference(np.ones((1, 1, 2, 1)), filter, (1, 1, 1, 1), "SAME")
    np.testing.assert_array_equal(got.ravel(), [np.nan, np.inf])
    got = depthwise_conv2d_reference(np.ones((1, 1, 1, 1)), filter, (1, 1, 1, 1), "SAME")
    np.testing.assert_array_equal(got.ravel(), [1.0])

    ones = np.ones((1, 1, 1, 1))
    of_input = depthwise_conv2d_backprop_input_reference(
        (1, 1, 1, 1), filter, ones, (1, 1, 1, 1), "SAME"
    )
    np.testing.assert_array_equal(of_input.ravel(), [1.0])
    of_filter = depthwise_conv2d_backprop_filter_reference(
        ones, (1, 3, 1, 1), ones * np.inf, (1, 1, 1, 1), "SAME"
    )
    np.testing.assert_array_equal(of_filter.ravel(), [0.0, np.inf, 0.0])


def test_nothing_given_means_nhwc_without_dilation() -> None:
    random = np.random.default_rng(1)
    input, filter = random.standard_normal((2, 5, 6, 3)), random.standard_normal((3, 2, 3, 2))
    arguments = (input, filter, (1, 1, 1, 1), "SAME")
    want = depthwise_conv2d_reference(*arguments, "NHWC", (1, 1))
    assert_same_bits(depthwise_conv2d_reference(*arguments), want)


def test_negative_size_is_an_error() -> None:
    with pytest.raises(ValueError):
        depthwise_conv2d_reference(
            np.ones((1, 1, 4, 1)), np.ones((3, 1, 1, 1)), (1, 1, 1, 1), "VALID"
        )
