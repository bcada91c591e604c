"""Against TensorFlow itself, on drawn problems of the kind that it computes correctly.

That is: NHWC (its CPU kernels know NCHW in two dtypes alone), equal strides, no dilation with a
stride, output not empty. Values are small integers such that every sum is exact in every dtype, so
that the two must agree to the last bit. These tests run only if asked for, and then fail without
TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from cases import Case, random_data
from comparator import BFLOAT16, DTYPES, Array, assert_same_bits
from depthwise import depthwise_conv2d
from depthwise._reference import depthwise_conv2d_magnitude

pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("default")]

COUNT = 400


@pytest.fixture(scope="module")
def tensorflow() -> Any:
    """Import TensorFlow; not being able to is a failure."""
    return importlib.import_module("tensorflow")


def run_tensorflow(tensorflow: Any, case: Case, input: Array, filter: Array) -> Array:
    """Return TensorFlow's result; a sum of -0 becomes the +0 of ours."""
    arguments = case.arguments("NHWC")
    if not isinstance(arguments["padding"], str):
        arguments["padding"] = [list(pair) for pair in arguments["padding"]]
    arguments["strides"] = list(arguments["strides"])
    arguments["dilations"] = list(arguments["dilations"])
    result = tensorflow.nn.depthwise_conv2d(
        tensorflow.constant(input), tensorflow.constant(filter), **arguments
    )
    got = result.numpy()
    without_minus_zero: Array = got + got.dtype.type(0)
    return without_minus_zero


def draw_case(seed: int) -> Case:
    """Draw a problem that TensorFlow accepts and computes."""
    random = np.random.default_rng(seed)

    def one_of(*choices: Any) -> Any:
        return choices[random.integers(len(choices))]

    while True:
        dilated = random.random() < 0.3
        stride = 1 if dilated else one_of(1, 1, 2, 2, 3, 4)
        pads = [int(pad) for pad in random.integers(0, 4, 4)]
        case = Case(
            size=(int(random.integers(1, 24)), int(random.integers(1, 24))),
            filter_size=(int(random.integers(1, 8)), int(random.integers(1, 8))),
            channels=int(one_of(random.integers(1, 9), random.integers(1, 40))),
            multiplier=one_of(1, 1, 1, 2, 3, 8),
            strides=(stride, stride),
            padding=one_of("SAME", "VALID", ((pads[0], pads[1]), (pads[2], pads[3]))),
            dilations=(one_of(1, 2, 3), one_of(1, 2, 4)) if dilated else (1, 1),
            batch=one_of(1, 1, 2, 3),
        )
        if min(case.output_size) > 0:
            return case


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(COUNT))
def test_same_bits_on_integers(seed: int, dtype: np.dtype[Any], tensorflow: Any) -> None:
    case = draw_case(seed)
    random = case.random()
    # Sums of at most 49 products of size 4 stay below 2**8, the last integer that is exact in
    # bfloat16 together with all below it.
    input = random.integers(-2, 3, case.input_shape).astype(dtype)
    filter = random.integers(-2, 3, case.filter_shape).astype(dtype)
    got = depthwise_conv2d(input, filter, **case.arguments("NHWC"))
    assert_same_bits(got, run_tensorflow(tensorflow, case, input, filter), str(case))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(COUNT, COUNT + 100))
def test_close_on_random_values(seed: int, dtype: np.dtype[Any], tensorflow: Any) -> None:
    """Both are within an error bound; TensorFlow's may accumulate in the type of the arrays."""
    case = draw_case(seed)
    input, filter = random_data(case, dtype)
    arguments = case.arguments("NHWC")
    got = depthwise_conv2d(input, filter, **arguments)
    theirs = run_tensorflow(tensorflow, case, input, filter)
    assert theirs.shape == got.shape
    assert theirs.dtype == got.dtype
    # ml_dtypes types have no numpy.finfo.
    eps = 2.0**-7 if dtype == BFLOAT16 else float(np.finfo(dtype).eps)
    taps = case.filter_size[0] * case.filter_size[1]
    bound = (2 * taps + 4) * eps * depthwise_conv2d_magnitude(input, filter, **arguments)
    difference = np.abs(got.astype(np.float64) - theirs.astype(np.float64))
    assert (difference <= bound).all(), str(case)


@pytest.mark.parametrize(
    ("padding", "want"),
    [
        ("VALID", [[[[10, 14], [14, 20]], [[18, 26], [22, 32]]]]),
        (
            ((1, 0), (1, 0)),
            [
                [
                    [[0, 0], [3, 4], [6, 8]],
                    [[0, 0], [10, 14], [14, 20]],
                    [[0, 0], [18, 26], [22, 32]],
                ]
            ],
        ),
    ],
    ids=["VALID", "explicit"],
)
def test_tensorflow_agrees_with_its_documentation(padding: Any, want: Any, tensorflow: Any) -> None:
    """The examples that are ours too, so that this file is known to call it rightly."""
    case = Case((3, 2), (2, 1), 1, 2, padding=padding)
    input = np.array([[1, 2], [3, 4], [5, 6]], np.float32).reshape(case.input_shape)
    filter = np.array([[1, 2], [3, 4]], np.float32).reshape(case.filter_shape)
    assert_same_bits(run_tensorflow(tensorflow, case, input, filter), np.array(want, np.float32))
