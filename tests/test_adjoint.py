"""What makes the gradients gradients: adjointness, differences of a loss, the chain rule.

No test here needs a reference. On integers, whose sums are exact, both sides are equal bit for bit.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cases import Case
from comparator import Array, assert_same_bits
from families import degenerate_cases, dilation_cases, drawn_cases, multiplier_cases, stride_cases
from operations import BACKPROP_FILTER, BACKPROP_INPUT, FORWARD, GRADIENTS, OPERATIONS, Operation

CASES = [
    *drawn_cases(),
    *degenerate_cases(),
    *list(stride_cases())[::4],
    *list(dilation_cases())[::4],
    *list(multiplier_cases())[::4],
]
FORMATS = pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])


def integers(case: Case, largest: int = 8) -> dict[str, Array]:
    """Return the three arrays of a problem as float32, NHWC."""
    random = case.random()
    return {
        name: random.integers(-largest, largest + 1, shape).astype(np.float32)
        for name, shape in case.shapes.items()
    }


def results(case: Case, arrays: dict[str, Array], data_format: str = "NHWC") -> dict[str, Array]:
    """Return the three results, keyed by the array whose shape they have."""
    return {
        operation.result: operation(
            case,
            operation.to_format(
                (arrays[operation.operands[0]], arrays[operation.operands[1]]), data_format
            ),
            data_format,
        )
        for operation in OPERATIONS
    }


def inner(first: Array, second: Array) -> float:
    return float((first.astype(np.float64) * second.astype(np.float64)).sum())


@FORMATS
@pytest.mark.parametrize("case", dict.fromkeys(CASES), ids=str)
def test_adjointness(case: Case, data_format: str, isa: str) -> None:
    """<conv(x, f), y> = <x, backprop_input(f, y)> = <f, backprop_filter(x, y)>."""
    arrays = integers(case)
    got = results(case, arrays, data_format)
    products = [
        inner(operation.result_in(arrays[operation.result], data_format), got[operation.result])
        for operation in OPERATIONS
    ]
    assert products[0] == products[1] == products[2]


DIFFERENTIATED = [
    Case((7, 8), (3, 3), 4, 2, batch=2),
    Case((9, 8), (3, 4), 3, strides=(2, 3)),
    Case((9, 8), (3, 2), 17, strides=(1, 2), padding="VALID"),
    Case((9, 10), (3, 3), 16, dilations=(2, 3)),
    Case((5, 6), (4, 3), 2, 3, strides=(2, 2), padding=((5, 1), (0, 7))),
]


@FORMATS
@pytest.mark.parametrize("gradient", GRADIENTS, ids=str)
@pytest.mark.parametrize("case", DIFFERENTIATED, ids=str)
def test_central_differences(case: Case, gradient: Operation, data_format: str, isa: str) -> None:
    """The slope of a loss that is not linear, in float64, with the chain rule in between."""
    random = case.random()
    arrays = {name: random.standard_normal(case.shapes[name]) for name in ("input", "filter")}

    def output() -> Array:
        operands = FORWARD.to_format((arrays["input"], arrays["filter"]), data_format)
        return FORWARD(case, operands, data_format)

    slope_of_loss = np.cos(output())  # of sum(sin(output))
    operands = [
        slope_of_loss
        if name == "out_backprop"
        else gradient.to_format((arrays[name],) * 2, data_format)[gradient.operands.index(name)]
        for name in gradient.operands
    ]
    got = gradient(case, (operands[0], operands[1]), data_format)
    array, step = arrays[gradient.result], 1e-5
    for _ in range(20):
        place = tuple(int(random.integers(size)) for size in array.shape)
        value, losses = array[place], []
        for moved in (value + step, value - step):
            array[place] = moved
            losses.append(np.sin(output()).sum())
        array[place] = value
        marker = np.zeros_like(array)
        marker[place] = 1
        slope = got[gradient.result_in(marker, data_format) == 1].item()
        assert slope == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("case", DIFFERENTIATED, ids=str)
def test_linear_in_out_backprop(case: Case, isa: str) -> None:
    arrays = integers(case)
    other = np.roll(arrays["out_backprop"], 1, axis=2)
    mixed = 3 * arrays["out_backprop"] - 2 * other
    first, second, both = (
        results(case, {**arrays, "out_backprop": out_backprop})
        for out_backprop in (arrays["out_backprop"], other, mixed)
    )
    for name in ("input", "filter"):
        assert_same_bits(both[name], 3 * first[name] - 2 * second[name])


@pytest.mark.parametrize("case", DIFFERENTIATED, ids=str)
def test_filter_gradients_of_a_batch_add_up(case: Case, isa: str) -> None:
    case = dataclasses.replace(case, batch=5)
    arrays = integers(case)
    one = dataclasses.replace(case, batch=1)
    parts = [
        BACKPROP_FILTER(
            one, (arrays["input"][b : b + 1], arrays["out_backprop"][b : b + 1]), "NHWC"
        )
        for b in range(case.batch)
    ]
    whole = BACKPROP_FILTER(case, (arrays["input"], arrays["out_backprop"]), "NHWC")
    assert_same_bits(whole, np.sum(parts, axis=0))


def test_one_output_paints_the_filter(isa: str) -> None:
    """The gradient of a single output is the filter, laid where its window lies."""
    case = Case((9, 10), (3, 4), 17, strides=(2, 3), padding="VALID")
    filter = integers(case)["filter"]
    out_backprop = np.zeros(case.shapes["out_backprop"], np.float32)
    out_backprop[0, 1, 2] = 1
    want = np.zeros(case.shapes["input"], np.float32)
    want[0, 2:5, 6:10] = filter[:, :, :, 0]
    assert_same_bits(BACKPROP_INPUT(case, (filter, out_backprop), "NHWC"), want)


@pytest.mark.parametrize("channels", [1, 3, 16, 17])
def test_zero_between_strides_longer_than_the_filter(channels: int, isa: str) -> None:
    """Pixels that no window covers; the result is memory that held other values."""
    case = Case((40, 44), (2, 3), channels, 2, strides=(5, 7), padding="VALID", batch=3)
    arrays = integers(case)
    got = BACKPROP_INPUT(case, (arrays["filter"], arrays["out_backprop"]), "NHWC")
    covered = np.zeros(case.size, bool)
    for i, j in np.ndindex(*case.output_size):
        covered[5 * i : 5 * i + 2, 7 * j : 7 * j + 3] = True
    assert not got[:, ~covered].any()
    assert got[:, covered].any()


def test_with_a_stride_of_one_it_is_a_convolution_with_the_mirrored_filter(isa: str) -> None:
    case = Case((9, 10), (3, 4), 17, padding=((1, 0), (2, 1)))
    arrays = integers(case)
    got = BACKPROP_INPUT(case, (arrays["filter"], arrays["out_backprop"]), "NHWC")
    height, width = case.output_size
    mirrored = dataclasses.replace(case, size=(height, width), padding=((1, 2), (1, 2)))
    want = FORWARD(mirrored, (arrays["out_backprop"], arrays["filter"][::-1, ::-1]), "NHWC")
    assert_same_bits(got, want)
