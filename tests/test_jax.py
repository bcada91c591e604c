"""The front end of JAX: the same bits as NumPy's, other platforms, derivatives and errors.

The kernels are the same, so that there is nothing to tolerate: results are compared with those of
the NumPy front end bit for bit. Only finite differences have a tolerance, in float64. These tests
run only if asked for, and then fail without JAX.
"""

from __future__ import annotations

import importlib
import itertools
import re
from typing import Any

import numpy as np
import pytest

import depthwise
from cases import Case, to_format
from comparator import BFLOAT16, Array
from depthwise._geometry import make_geometry
from families import degenerate_cases
from jax_helpers import (
    CASE,
    EVERY_FORMAT,
    FLOAT32,
    assert_equal_bits,
    call_of,
    integers,
    run_script,
    to_jax,
)
from operations import (
    BACKPROP_FILTER,
    BACKPROP_INPUT,
    EVERY_OPERATION,
    FORWARD,
    OPERATIONS,
    Operation,
)
from wrong_arguments import WRONG_OPTIONS

pytestmark = pytest.mark.jax

# float64 takes another setting of JAX, and has a test of its own.
DTYPES = (np.dtype(np.float16), BFLOAT16, FLOAT32)
EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=str)

# One for each argument that changes what is computed, and an awkward mixture.
CASES = (
    Case((9, 8), (3, 3), 16),
    Case((7, 8), (5, 4), 5, 2, batch=2, padding="VALID"),
    Case((9, 11), (3, 3), 3, 3, strides=(2, 3)),
    Case((8, 9), (3, 2), 4, dilations=(2, 3), padding=((4, 1), (0, 3))),
)


def arrays_of(case: Case, data_format: str) -> dict[str, Array]:
    """Return random values for all three arrays, float32."""
    random = case.random()
    return {
        name: array if name == "filter" else to_format(array, data_format)
        for name, shape in case.shapes.items()
        for array in [random.standard_normal(shape).astype(FLOAT32)]
    }


@EVERY_DTYPE
@EVERY_FORMAT
@pytest.mark.parametrize("case", CASES, ids=str)
@EVERY_OPERATION
def test_same_bits_as_numpy(
    operation: Operation, case: Case, data_format: str, dtype: np.dtype[Any], jax: Any
) -> None:
    operands = operation.to_format(operation.random_data(case, dtype), data_format)
    got = operation(case, to_jax(jax, operands), data_format)
    assert isinstance(got, jax.Array)
    assert_equal_bits(got, operation(case, operands, data_format), str(case))


@EVERY_FORMAT
@pytest.mark.parametrize("case", list(degenerate_cases()), ids=str)
@EVERY_OPERATION
def test_empty_and_tiny_arrays(
    operation: Operation, case: Case, data_format: str, jax: Any
) -> None:
    operands = integers(operation, case, data_format)
    got = operation(case, to_jax(jax, operands), data_format)
    assert_equal_bits(got, operation(case, operands, data_format), str(case))


@EVERY_FORMAT
@pytest.mark.parametrize("case", [*CASES, *degenerate_cases()], ids=str)
@EVERY_OPERATION
def test_other_platforms_compute_the_same(
    operation: Operation, case: Case, data_format: str, jax: Any
) -> None:
    assert_the_same_elsewhere(operation, case, data_format, FLOAT32, jax)


@EVERY_DTYPE
@EVERY_OPERATION
def test_other_platforms_accumulate_in_float32(
    operation: Operation, dtype: np.dtype[Any], jax: Any
) -> None:
    assert_the_same_elsewhere(operation, CASES[0], "NHWC", dtype, jax)
    first, second = to_jax(jax, integers(operation, CASE))
    traced = jax.jit(call_of(operation, CASE)).trace(first.astype(dtype), second.astype(dtype))
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    (convolution,) = (line for line in program.splitlines() if "stablehlo.convolution" in line)
    assert re.search(r"tensor<\w+xf32>, tensor<\w+xf32>\) -> tensor<\w+xf32>", convolution)
    # Not in TensorFloat-32.
    assert "HIGHEST" in convolution


def assert_the_same_elsewhere(
    operation: Operation, case: Case, data_format: str, dtype: np.dtype[Any], jax: Any
) -> None:
    """Run here what other platforms run, on integers; its zeros may have another sign."""
    front_end = importlib.import_module("depthwise.jax")
    elsewhere = front_end.OPERATIONS[OPERATIONS.index(operation)].elsewhere
    first, second = integers(operation, case, data_format)
    operands = (first.astype(dtype), second.astype(dtype))
    shapes = (operation.shape(name, case, data_format) for name in ("input", "filter"))
    geometry = make_geometry(*shapes, **case.arguments(data_format))
    got = elsewhere(*to_jax(jax, operands), geometry=geometry.fields, spread=None)
    want = operation(case, operands, data_format)
    assert_equal_bits(np.asarray(got) + dtype.type(0), want + dtype.type(0), str(case))


@EVERY_OPERATION
def test_programs_hold_the_kernel_or_a_convolution(operation: Operation, jax: Any) -> None:
    operands = to_jax(jax, integers(operation, CASE))
    traced = jax.jit(call_of(operation, CASE)).trace(*operands)
    ours = traced.lower(lowering_platforms=("cpu",)).as_text()
    assert f"custom_call @depthwise_{operation.name}" in ours
    assert "convolution" not in ours
    assert "callback" not in ours
    theirs = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in theirs
    assert "custom_call" not in theirs


@EVERY_FORMAT
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_the_public_functions(case: Case, data_format: str, jax: Any) -> None:
    arrays = arrays_of(case, data_format)
    _, pull_back = jax.vjp(call_of(FORWARD, case, data_format), arrays["input"], arrays["filter"])
    of_input, of_filter = pull_back(jax.numpy.asarray(arrays["out_backprop"]))
    for got, operation in ((of_input, BACKPROP_INPUT), (of_filter, BACKPROP_FILTER)):
        first, second = (arrays[name] for name in operation.operands)
        assert_equal_bits(got, operation(case, (first, second), data_format), str(operation))


@EVERY_OPERATION
def test_second_derivatives_to_the_last_bit(operation: Operation, jax: Any) -> None:
    """Of sum(out * y) the Hessian is known: times a vector it is two of the other functions."""
    first, second = to_jax(jax, integers(operation, CASE))
    tangents = (first[::-1] + 1, second[::-1] - 2)
    weights = operation(CASE, (first, second), "NHWC") % 5 - 2

    def loss(operands: Any) -> Any:
        return (operation(CASE, operands, "NHWC") * weights).sum()

    # The gradient is linear in either operand.
    gradient = jax.grad(loss)
    zeros = (0 * first, 0 * second)
    want = (gradient((zeros[0], tangents[1]))[0], gradient((tangents[0], zeros[1]))[1])
    forward_over_reverse = jax.jvp(gradient, ((first, second),), (tangents,))[1]

    def directional(operands: Any) -> Any:
        return sum((a * b).sum() for a, b in zip(gradient(operands), tangents, strict=True))

    reverse_over_reverse = jax.grad(directional)((first, second))
    for got in (forward_over_reverse, reverse_over_reverse):
        for array, wanted in zip(got, want, strict=True):
            assert wanted.any()
            assert_equal_bits(array, wanted)


def test_a_name_is_a_scope(jax: Any) -> None:
    operands = to_jax(jax, integers(FORWARD, CASE))

    def blur(input: Any, filter: Any) -> Any:
        return depthwise.depthwise_conv2d(input, filter, [1, 1, 1, 1], "SAME", name="blur")

    assert "blur" in str(jax.make_jaxpr(blur)(*operands).eqns[-1].source_info.name_stack)


def test_wrong_options(jax: Any) -> None:
    """The same errors as of the NumPy front end, word for word, traced and not."""
    for operation, (option, value, _) in itertools.product(OPERATIONS, WRONG_OPTIONS):
        operands = integers(operation, CASE)
        messages = []
        for given in (operands, to_jax(jax, operands)):
            arguments = operation.arguments(CASE, given, "NHWC")
            with pytest.raises((TypeError, ValueError)) as caught:
                operation.function(**{**arguments, option: value})
            messages.append((caught.type, str(caught.value)))
        assert messages[0] == messages[1]


@pytest.mark.parametrize("traced", [False, True])
@EVERY_OPERATION
def test_wrong_arrays(operation: Operation, traced: bool, jax: Any) -> None:
    operands = to_jax(jax, integers(operation, CASE))
    arguments = {**operation.arguments(CASE, operands, "NHWC"), "name": "blur"}

    def message(argument: str, change: Any) -> str:
        def call(array: Any) -> Any:
            return operation.function(**{**arguments, argument: change(array)})

        with pytest.raises((TypeError, ValueError)) as caught:
            (jax.jit(call) if traced else call)(arguments[argument])
        text = str(caught.value)
        assert text.startswith("blur: ")
        assert argument in text
        return f"{caught.type.__name__}: {text}"

    first, second = operation.operands
    numpy = jax.numpy
    for argument in (first, second):
        for dtype in (numpy.int32, numpy.bool_, numpy.complex64, numpy.float8_e4m3fn):
            text = message(argument, lambda array, dtype=dtype: array.astype(dtype))
            assert text.startswith("TypeError")
            assert numpy.dtype(dtype).name in text
        assert message(argument, lambda array: array[0]).startswith("ValueError")
        assert message(argument, lambda array: array[..., :0]).startswith("ValueError")
        text = message(argument, lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype))
        assert "ShapeDtypeStruct" in text
        text = message(argument, lambda array: np.zeros(array.shape, FLOAT32))
        assert "numpy.ndarray" in text
        assert "same array type" in text
    text = message(second, lambda array: array.astype(numpy.bfloat16))
    assert text == (
        f"TypeError: blur: {second} has dtype bfloat16, {first} has float32; needed the same dtype"
    )


def test_float64_and_finite_differences() -> None:
    """Second order too, forward and reverse in every order."""
    run_script(
        """
        from jax.test_util import check_grads
        case = Case((9, 11), (3, 2), 3, 3, batch=2, strides=(2, 3))
        for operation in OPERATIONS:
            for data_format in ("NHWC", "NCHW"):
                operands = operation.random_data(case, np.dtype(np.float64))
                operands = operation.to_format(operands, data_format)
                call = lambda *operands: operation(case, operands, data_format)
                given = tuple(map(jnp.asarray, operands))
                assert_same_bits(np.array(call(*given)), call(*operands))
                check_grads(call, given, order=2, atol=1e-7, rtol=1e-7)
        """,
        JAX_ENABLE_X64="1",
    )
