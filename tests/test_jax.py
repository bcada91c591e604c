"""The front end of JAX: the same bits as NumPy's, under every transformation, on several devices.

The kernels are the same, so that there is nothing to tolerate: results are compared with those of
the NumPy front end bit for bit. Only finite differences have a tolerance, in float64. These tests
run only if asked for, and then fail without JAX.
"""

from __future__ import annotations

import importlib
import itertools
import re
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import depthwise
from cases import Case, to_format
from comparator import BFLOAT16, Array, assert_same_bits
from depthwise import _geometry
from depthwise._geometry import make_geometry
from families import degenerate_cases
from operations import (
    BACKPROP_FILTER,
    BACKPROP_INPUT,
    EVERY_OPERATION,
    FORWARD,
    OPERATIONS,
    Operands,
    Operation,
    exact_data,
)
from subprocesses import output_of
from wrong_arguments import WRONG_OPTIONS

pytestmark = pytest.mark.jax

FLOAT32 = np.dtype(np.float32)
# float64 takes another setting of JAX, and has a test of its own.
DTYPES = (np.dtype(np.float16), BFLOAT16, FLOAT32)

# One for each argument that changes what is computed, and an awkward mixture.
CASES = (
    Case((9, 8), (3, 3), 16),
    Case((7, 8), (5, 4), 5, 2, batch=2, padding="VALID"),
    Case((9, 11), (3, 3), 3, 3, strides=(2, 3)),
    Case((8, 9), (3, 2), 4, dilations=(2, 3), padding=((4, 1), (0, 3))),
)
CASE = Case((5, 6), (3, 3), 3, 2, batch=2, strides=(2, 1))

EVERY_FORMAT = pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=str)

# Begins the scripts, whose JAX has settings of its own.
PREAMBLE = """
import jax, jax.numpy as jnp, numpy as np
from cases import Case
from comparator import assert_same_bits
from depthwise import depthwise_conv2d
from operations import OPERATIONS, exact_data
"""


@pytest.fixture(autouse=True)
def jax() -> Any:
    """Import JAX; not being able to is a failure."""
    return importlib.import_module("jax")


def run_script(script: str, **environment: str) -> str:
    """Run Python source that sees the modules of the tests."""
    path = str(Path(__file__).parent)
    return output_of(
        textwrap.dedent(PREAMBLE) + textwrap.dedent(script),
        environment={"PYTHONPATH": path, **environment},
        seconds=300,
    )


def integers(operation: Operation, case: Case, data_format: str = "NHWC") -> Operands:
    """Return operands of which every sum is exact, float32."""
    (first, second), _ = exact_data(operation, case)
    operands = (first.astype(FLOAT32), second.astype(FLOAT32))
    return operation.to_format(operands, data_format)


def arrays_of(case: Case, data_format: str) -> dict[str, Array]:
    """Return random values for all three arrays, float32."""
    random = case.random()
    return {
        name: array if name == "filter" else to_format(array, data_format)
        for name, shape in case.shapes.items()
        for array in [random.standard_normal(shape).astype(FLOAT32)]
    }


def to_jax(jax: Any, operands: Operands) -> tuple[Any, Any]:
    first, second = operands
    return jax.numpy.asarray(first), jax.numpy.asarray(second)


def call_of(operation: Operation, case: Case, data_format: str = "NHWC") -> Any:
    """Return the function of the two operands alone."""
    return lambda first, second: operation(case, (first, second), data_format)


def assert_equal_bits(got: Any, want: Any, context: str = "") -> None:
    """Assert that two arrays have the same bits, whatever libraries they are of."""
    assert_same_bits(np.array(got), np.asarray(want), context)


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


@EVERY_FORMAT
@pytest.mark.parametrize(
    "axes", [(0, None), (None, 0), (0, 0), (2, 4), (None, 1), (3, None)], ids=str
)
@EVERY_OPERATION
def test_vmap(
    operation: Operation, axes: tuple[int | None, int | None], data_format: str, jax: Any
) -> None:
    """Three at once, over one operand or both, are three calls."""
    call = call_of(operation, CASE, data_format)
    # Of each operand either three different ones, or three times the same.
    thrice = [
        [array if axis is None else (i - 1) * np.roll(array, i, 0) for i in range(3)]
        for array, axis in zip(integers(operation, CASE, data_format), axes, strict=True)
    ]
    first, second = (
        copies[0] if axis is None else np.stack(copies, axis)
        for copies, axis in zip(thrice, axes, strict=True)
    )
    got = jax.vmap(call, axes, out_axes=1)(*to_jax(jax, (first, second)))
    want = [call(*operands) for operands in zip(*thrice, strict=True)]
    assert_equal_bits(got, np.stack(want, 1))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=str)
@EVERY_OPERATION
def test_vmap_over_nothing(
    operation: Operation, axes: tuple[int | None, int | None], jax: Any
) -> None:
    operands = to_jax(jax, integers(operation, CASE))
    first, second = (
        array if axis is None else array[None][:0]
        for array, axis in zip(operands, axes, strict=True)
    )
    got = jax.vmap(call_of(operation, CASE), axes)(first, second)
    assert got.shape == (0, *CASE.shapes[operation.result])


def test_vmap_of_vmap_of_grad(jax: Any) -> None:
    """Each image of a batch with each of two filters, and the gradients of each."""
    images, filter = to_jax(jax, integers(FORWARD, CASE.repeated(3)))
    images = images.reshape(3, 2, *images.shape[1:])
    filters = jax.numpy.stack([filter, filter[::-1]])

    def loss(image: Any, filter: Any) -> Any:
        return (FORWARD(CASE, (image, filter), "NHWC") ** 2).sum()

    gradients = jax.grad(loss, (0, 1))
    got = jax.vmap(jax.vmap(gradients, (None, 0)), (0, None))(images, filters)
    for i, j in itertools.product(range(3), range(2)):
        for array, want in zip(got, gradients(images[i], filters[j]), strict=True):
            assert_equal_bits(array[i, j], want)


def test_one_function_of_several_shapes(jax: Any) -> None:
    traced = []

    @jax.jit
    def blur(input: Any, filter: Any) -> Any:
        traced.append(input.shape)
        return depthwise.depthwise_conv2d(input, filter, [1, 1, 1, 1], "SAME")

    for size in ((5, 6), (7, 3), (5, 6)):
        case = Case(size)
        operands = integers(FORWARD, case)
        assert_equal_bits(blur(*to_jax(jax, operands)), FORWARD(case, operands, "NHWC"))
    assert len(traced) == 2


@EVERY_OPERATION
def test_equal_problems_are_equal_parameters(operation: Operation, jax: Any) -> None:
    """Or JAX would take equal programs for different ones."""
    operands = to_jax(jax, integers(operation, CASE))

    def parameters() -> tuple[Any, ...]:
        _geometry.solve_geometry.cache_clear()
        _geometry.geometry_of.cache_clear()
        program = jax.make_jaxpr(call_of(operation, CASE))(*operands)
        return tuple(program.eqns[-1].params.values())

    assert parameters() == parameters()
    assert hash(parameters()) == hash(parameters())


@EVERY_OPERATION
def test_shapes_alone(operation: Operation, jax: Any) -> None:
    operands = tuple(
        jax.ShapeDtypeStruct(CASE.shapes[name], jax.numpy.bfloat16) for name in operation.operands
    )
    got = jax.eval_shape(call_of(operation, CASE), *operands)
    assert (got.shape, got.dtype) == (CASE.shapes[operation.result], BFLOAT16)


def test_scan(jax: Any) -> None:
    """Five times the same blur, and the gradients of it."""
    case = Case((6, 7), (3, 3), 4)
    operands = to_jax(jax, integers(FORWARD, case))

    def step(image: Any, filter: Any) -> Any:
        return FORWARD(case, (image, filter), "NHWC") % 7 - 3

    def scanned(image: Any, filter: Any) -> Any:
        return jax.lax.scan(lambda image, _: (step(image, filter), None), image, length=5)[0]

    def unrolled(image: Any, filter: Any) -> Any:
        for _ in range(5):
            image = step(image, filter)
        return image

    for transform in (lambda f: f, lambda f: jax.grad(lambda *args: f(*args).sum(), (0, 1))):
        want, got = transform(unrolled)(*operands), jax.jit(transform(scanned))(*operands)
        jax.tree.map(assert_equal_bits, got, want)


@EVERY_OPERATION
def test_without_jit(operation: Operation, jax: Any) -> None:
    operands = integers(operation, CASE)
    with jax.disable_jit():
        got = jax.vmap(call_of(operation, CASE))(*(array[None] for array in to_jax(jax, operands)))
    assert_equal_bits(got[0], operation(CASE, operands, "NHWC"))


@EVERY_OPERATION
def test_eight_python_threads(operation: Operation, jax: Any) -> None:
    case = Case((56, 56), (3, 3), 64)
    operands = operation.random_data(case, FLOAT32)
    want = operation(case, operands, "NHWC")
    given = to_jax(jax, operands)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: operation(case, given, "NHWC"), range(64)):
            assert_equal_bits(got, want)


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


# Begins the scripts of several devices: a loss whose gradients are integers, and on one device the
# output and the gradients of it.
DEVICES = """
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
assert len(jax.devices()) == 4
options = {"strides": [1, 1, 1, 1], "padding": "SAME"}
random = np.random.default_rng(0)
images = random.integers(-3, 4, (8, 6, 7, 4)).astype(np.float32)
filter = random.integers(-3, 4, (3, 3, 4, 2)).astype(np.float32)
blur = lambda images, filter: depthwise_conv2d(images, filter, **options)
loss = lambda images, filter: (blur(images, filter) ** 2).sum()
gradients = jax.grad(loss, (0, 1))
output, of_images, of_filter = map(
    np.array, (blur(images, filter), *gradients(jnp.asarray(images), jnp.asarray(filter)))
)
def check(got, want):
    assert_same_bits(np.array(got), want)
"""


def run_on_four_devices(script: str) -> None:
    run_script(
        DEVICES + textwrap.dedent(script),
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
        JAX_PLATFORMS="cpu",
    )


def test_each_device_keeps_its_images() -> None:
    run_on_four_devices(
        """
        for shape, names, images_spec, filter_spec in (
            ((4,), ("batch",), P("batch"), P()),
            ((2, 2), ("batch", "channels"), P("batch", None, None, "channels"), P()),
            (
                (2, 2),
                ("batch", "channels"),
                P("batch", None, None, "channels"),
                P(None, None, "channels"),
            ),
            ((2, 2), ("a", "b"), P(("a", "b")), P()),
        ):
            mesh = jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names))
            operands = (
                jax.device_put(images, NamedSharding(mesh, images_spec)),
                jax.device_put(filter, NamedSharding(mesh, filter_spec)),
            )
            check(blur(*operands), output)
            for function, wants in ((blur, [output]), (gradients, [of_images, of_filter])):
                program = jax.jit(function).lower(*operands).compile()
                results = jax.tree.leaves(program(*operands))
                for got, want in zip(results, wants):
                    check(got, want)
                assert results[0].sharding.is_equivalent_to(operands[0].sharding, 4)
                text = program.as_text()
                assert "depthwise_forward" in text
                for collective in ("all-gather", "all-to-all", "collective-permute"):
                    assert collective not in text, collective
                assert ("all-reduce" in text) == (function is gradients)
        """
    )


def test_other_shapes_on_several_devices() -> None:
    """With the channels second, with one channel, and with one filter for each."""
    run_on_four_devices(
        """
        mesh = jax.make_mesh((2, 2), ("batch", "channels"), axis_types=(AxisType.Auto,) * 2)
        for channels, multiplier in ((4, 1), (4, 2), (1, 4), (1, 1)):
            for data_format in ("NHWC", "NCHW"):
                case = Case((5, 6), (3, 3), channels, multiplier, batch=4)
                spec = ["batch", None, None, None]
                if channels > 1:
                    spec[data_format.index("C")] = "channels"
                for operation in OPERATIONS:
                    (first, second), _ = exact_data(operation, case)
                    operands = operation.to_format(
                        (first.astype(np.float32), second.astype(np.float32)), data_format
                    )
                    placed = [
                        array
                        if name == "filter"
                        else jax.device_put(array, NamedSharding(mesh, P(*spec)))
                        for name, array in zip(operation.operands, operands)
                    ]
                    call = jax.jit(lambda *operands: operation(case, operands, data_format))
                    program = call.lower(*placed).compile()
                    check(program(*placed), operation(case, operands, data_format))
                    assert "all-gather" not in program.as_text()
        """
    )


def test_what_cannot_be_split_is_gathered() -> None:
    """Six images on four devices, rows of images, multiples of one channel."""
    run_on_four_devices(
        """
        mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
        for spec in (P(), P("x"), P(None, None, None, "x")):
            placed = jax.device_put(images, NamedSharding(mesh, spec))
            six = jax.jit(lambda images, filter: blur(images[:6], filter))
            check(six(placed, filter), output[:6])
        rows = jax.device_put(images[:, :4], NamedSharding(mesh, P(None, "x")))
        check(jax.jit(blur)(rows, filter), np.array(blur(images[:, :4].copy(), filter)))
        one = random.integers(-3, 4, (2, 5, 5, 1)).astype(np.float32)
        taps = random.integers(-3, 4, (3, 3, 1, 4)).astype(np.float32)
        want = [np.array(array) for array in gradients(jnp.asarray(one), jnp.asarray(taps))]
        placed = jax.device_put(taps, NamedSharding(mesh, P(None, None, None, "x")))
        for got, wanted in zip(jax.jit(gradients)(one, placed), want):
            check(got, wanted)
        """
    )


def test_explicit_axes(jax: Any) -> None:
    if jax.__version_info__ < (0, 10):
        pytest.skip("JAX 0.8 cannot compile a sum over explicit axes in custom_partitioning")
    run_on_four_devices(
        """
        mesh = jax.make_mesh((2, 2), ("batch", "channels"), axis_types=(AxisType.Explicit,) * 2)
        with jax.set_mesh(mesh):
            for spec in (P("batch"), P(("batch", "channels")), P("batch", None, None, "channels")):
                placed = jax.device_put(images, NamedSharding(mesh, spec))
                taps = jax.device_put(filter, NamedSharding(mesh, P()))
                got = jax.jit(blur)(placed, taps)
                check(got, output)
                assert jax.typeof(got).sharding.spec == jax.typeof(placed).sharding.spec
                for got, want in zip(jax.jit(gradients)(placed, taps), (of_images, of_filter)):
                    check(got, want)
        """
    )


def test_shard_map() -> None:
    """Gradients from outside and, where JAX knows what varies, from inside."""
    run_on_four_devices(
        """
        mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
        specs = {"mesh": mesh, "in_specs": (P("x"), P())}
        for checked in (True, False):
            total = jax.shard_map(
                lambda *operands: jax.lax.psum(loss(*operands), "x"),
                out_specs=P(),
                check_vma=checked,
                **specs,
            )
            for got, want in zip(jax.grad(total, (0, 1))(images, filter), (of_images, of_filter)):
                check(got, want)
            lowered = jax.jit(jax.grad(total, (0, 1))).trace(images, filter)
            text = lowered.lower(lowering_platforms=("cuda",)).as_text()
            assert "convolution" in text and "depthwise" not in text
        inside = jax.shard_map(gradients, out_specs=(P("x"), P()), **specs)
        for got, want in zip(jax.jit(inside)(images, filter), (of_images, of_filter)):
            check(got, want)
        """
    )


def test_vmap_over_devices() -> None:
    run_on_four_devices(
        """
        mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
        placed = jax.device_put(images[:, None], NamedSharding(mesh, P("x")))
        program = jax.jit(jax.vmap(blur, (0, None))).lower(placed, filter).compile()
        check(program(placed, filter), output[:, None])
        assert "all-gather" not in program.as_text()
        """
    )


def test_another_device() -> None:
    run_on_four_devices(
        """
        device = jax.devices()[3]
        got = blur(jax.device_put(images, device), jax.device_put(filter, device))
        assert got.devices() == {device}
        check(got, output)
        """
    )
