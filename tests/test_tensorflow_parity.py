"""Against TensorFlow itself, on drawn problems of the kind that it computes correctly.

That is: NHWC (its CPU kernels know NCHW in two dtypes alone), equal strides, no dilation with a
stride, output not empty. Its gradient functions ignore dilations, so that with a dilation its own
differentiation of the forward function stands in for them. Values are small integers such that
every sum is exact in every dtype, so that the two must agree to the last bit. These tests run only
if asked for, and then fail without TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from cases import Case
from comparator import BFLOAT16, DTYPES, Array, assert_same_bits
from operations import (
    BACKPROP_FILTER,
    BACKPROP_INPUT,
    EVERY_OPERATION,
    FORWARD,
    Operands,
    Operation,
)

pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("default")]

COUNT = 400


@pytest.fixture(scope="module")
def tensorflow() -> Any:
    """Import TensorFlow; not being able to is a failure."""
    return importlib.import_module("tensorflow")


def run_tensorflow(tensorflow: Any, operation: Operation, case: Case, operands: Operands) -> Array:
    """Return TensorFlow's result; a sum of -0 becomes the +0 of ours."""
    arguments = case.arguments("NHWC")
    if not isinstance(arguments["padding"], str):
        arguments["padding"] = [list(pair) for pair in arguments["padding"]]
    arguments["strides"] = list(arguments["strides"])
    arguments["dilations"] = list(arguments["dilations"])
    given = {
        name: tensorflow.constant(array)
        for name, array in zip(operation.operands, operands, strict=True)
    }
    if operation is FORWARD:
        result = tensorflow.nn.depthwise_conv2d(**given, **arguments)
    elif case.dilations == (1, 1):
        function = getattr(tensorflow.nn, operation.function.__name__)
        sizes = {f"{operation.result}_sizes": case.shapes[operation.result]}
        result = function(**given, **sizes, **arguments)
    else:
        # The function is linear in each of its arrays: where it is differentiated is all the same.
        wanted = tensorflow.zeros(case.shapes[operation.result], operands[0].dtype)
        arrays = {**given, operation.result: wanted}
        with tensorflow.GradientTape() as tape:
            tape.watch(wanted)
            output = tensorflow.nn.depthwise_conv2d(arrays["input"], arrays["filter"], **arguments)
        result = tape.gradient(output, wanted, output_gradients=given["out_backprop"])
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
@EVERY_OPERATION
def test_same_bits_on_integers(
    operation: Operation, seed: int, dtype: np.dtype[Any], tensorflow: Any
) -> None:
    case = draw_case(seed)
    random = case.random()
    first, second = (random.integers(-2, 3, case.shapes[name]) for name in operation.operands)
    # TensorFlow may accumulate in bfloat16, where 2**8 is the last integer that is exact together
    # with all below it: longer sums get zeros among their terms.
    second *= random.random(second.shape) < 32 / operation.sum_length(case)
    assert operation.expect(case, (first, second)).magnitude.max() <= 2**8
    operands = (first.astype(dtype), second.astype(dtype))
    got = operation(case, operands, "NHWC")
    theirs = run_tensorflow(tensorflow, operation, case, operands)
    if operation is BACKPROP_FILTER:
        # TensorFlow leaves bfloat16 taps that only meet padding uninitialised.
        ones = (np.ones_like(first), np.ones_like(second))
        reached = operation.expect(case, ones).values > 0
        assert not got[~reached].any()
        theirs[~reached] = 0
    assert_same_bits(got, theirs, str(case))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(COUNT, COUNT + 100))
@EVERY_OPERATION
def test_close_on_random_values(
    operation: Operation, seed: int, dtype: np.dtype[Any], tensorflow: Any
) -> None:
    """Both are within an error bound; TensorFlow's may accumulate in the type of the arrays."""
    case = draw_case(seed)
    operands = operation.random_data(case, dtype)
    got = operation(case, operands, "NHWC")
    theirs = run_tensorflow(tensorflow, operation, case, operands)
    assert theirs.shape == got.shape
    assert theirs.dtype == got.dtype
    # ml_dtypes types have no numpy.finfo.
    eps = 2.0**-7 if dtype == BFLOAT16 else float(np.finfo(dtype).eps)
    bound = (2 * operation.sum_length(case) + 4) * eps * operation.expect(case, operands).magnitude
    difference = np.abs(got.astype(np.float64) - theirs.astype(np.float64))
    assert (difference <= bound).all(), str(case)


def test_tensorflow_s_gradient_functions_ignore_dilations(tensorflow: Any) -> None:
    """Why they are not what is compared with; docs/semantics.md tells of it too."""
    ones = np.ones((1, 5, 5, 1), np.float32)
    filter = np.arange(9, dtype=np.float32).reshape(3, 3, 1, 1)
    arguments = {"strides": [1] * 4, "padding": "SAME"}
    dilated, undilated = (
        tensorflow.nn.depthwise_conv2d_backprop_input(
            ones.shape, filter, ones, **arguments, dilations=dilations
        ).numpy()
        for dilations in ([2, 2], [1, 1])
    )
    assert_same_bits(dilated, undilated)
    case = Case((5, 5), (3, 3), 1, dilations=(2, 2))
    assert (BACKPROP_INPUT(case, (filter, ones), "NHWC") != dilated).any()


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
    input = np.array([[1, 2], [3, 4], [5, 6]], np.float32).reshape(case.shapes["input"])
    filter = np.array([[1, 2], [3, 4]], np.float32).reshape(case.shapes["filter"])
    got = run_tensorflow(tensorflow, FORWARD, case, (input, filter))
    assert_same_bits(got, np.array(want, np.float32))
