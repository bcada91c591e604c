"""The front end of JAX under its transformations: vmap, scan, jit or not, shapes alone, in threads.

What comes out has the bits of calls one by one. These tests run only if asked for, and then fail
without JAX.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import depthwise
from cases import Case
from comparator import BFLOAT16
from depthwise import _geometry
from jax_helpers import (
    CASE,
    EVERY_FORMAT,
    FLOAT32,
    assert_equal_bits,
    call_of,
    integers,
    to_jax,
)
from operations import EVERY_OPERATION, FORWARD, Operation

pytestmark = pytest.mark.jax


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
