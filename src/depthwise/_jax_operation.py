"""A bilinear function on images and a filter as an operation of JAX: its rules, for all three.

Takes from ``jax.py`` which arrays a function takes and gives, and what computes it; registers with
JAX what becomes of it under tracing, vmap, differentiation, compilation and on several devices.

Requirements that shaped this file:
- sum(output * out_backprop) is linear in each of input, filter and out_backprop, and the three
  functions are its derivatives. Hence every derivative of one is another of them, and each rule is
  written once, by which of the arrays are images and which is the filter;
- on the CPU, XLA hands its buffers to native/xla_handlers.cc; Python runs while tracing only;
- images that are spread over devices stay where they are;
- a call outside of jit costs microseconds more than one of the NumPy front end;
- only what JAX documents is used, the same for 0.6 and 0.10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from . import _native
from ._geometry import Geometry, geometry_of

# Geometry.fields: the problem as a parameter of an operation, equal if the problem is.
Fields = tuple[Any, ...]


def _make_spread() -> Any:
    identity = custom_partitioning(lambda array: array)
    identity.def_partition(partition=None, sharding_rule="i -> i")
    return jax.make_jaxpr(identity)(np.zeros(1, np.float32))


# JAX tells a lowering rule the devices only if it finds custom_partitioning in the program. Ours
# comes to it in the lowering rule itself, too late to be found; so each operation carries this
# jaxpr as a parameter, for JAX to look into.
_SPREAD = _make_spread()


class Operation:
    """One of the three functions as a primitive of JAX.

    Parameters
    ----------
    name : str
        Of the native handler.
    operands : tuple of two of "input", "filter", "output"
        What it takes. What has the shape of the output may be its gradient.
    result : one of "input", "filter", "output"
        What it gives.
    convolve : callable
        Computes the same of (first, second, geometry) by operations of XLA, on platforms other than
        the CPU.
    """

    def __init__(
        self,
        name: str,
        operands: tuple[str, str],
        result: str,
        convolve: Callable[[Any, Any, Geometry], Any],
    ) -> None:
        self.operands = operands
        self.result = result
        self.convolve = convolve
        self.target = f"depthwise_{name}"
        jax.ffi.register_ffi_target(self.target, _native.xla_handlers()[name], platform="cpu")
        self.primitive = jax.extend.core.Primitive(self.target)
        self.primitive.def_impl(self.run)
        self.primitive.def_abstract_eval(self.result_type)
        batching.primitive_batchers[self.primitive] = self.batch
        for lower, platform in ((self.on_cpu, "cpu"), (self.elsewhere, None)):
            lowering = mlir.lower_fun(lower, multiple_results=False)
            mlir.register_lowering(self.primitive, lowering, platform=platform)
        self.compiled = jax.jit(self.bind, static_argnames="geometry")

    def __call__(self, first: Any, second: Any, geometry: Geometry) -> Any:
        """Compute, or add the operation to the program that is being traced."""
        if isinstance(first, jax.core.Tracer) or isinstance(second, jax.core.Tracer):
            first, second = _vary_alike(first, second)
            return self.bind(first, second, geometry=geometry.fields)
        # What bind() comes to in the end, but with 6.8 instead of 13.5 us for a tiny image.
        return self.compiled(first, second, geometry=geometry.fields)

    def bind(self, first: Any, second: Any, *, geometry: Fields) -> Any:
        """Hand the operation to JAX."""
        return self.primitive.bind(first, second, geometry=geometry, spread=_SPREAD)

    def run(self, first: Any, second: Any, *, geometry: Fields, spread: Any) -> Any:
        """Compute with arrays."""
        with jax.disable_jit(False):  # Without jit this would come back here.
            return self.compiled(first, second, geometry=geometry)

    def result_type(self, first: Any, second: Any, *, geometry: Fields, spread: Any) -> Any:
        """Return the type of the result from those of the operands."""
        problem = geometry_of(geometry)
        spec = self.specs((first, second), problem)[self.result]
        image = second if self.operands[0] == "filter" else first
        return image.update(
            shape=_shape(self.result, problem),
            weak_type=False,
            sharding=NamedSharding(image.sharding.mesh, spec),
        )

    def on_cpu(self, first: Any, second: Any, *, geometry: Fields, spread: Any) -> Any:
        """Compute with our kernels, on all devices that the images are spread over."""

        def compute(first: Any, second: Any) -> Any:
            return self.call_native(first, second, problem)

        problem = geometry_of(geometry)
        partitioned = custom_partitioning(compute)
        partitioned.def_partition(
            partition=partial(self.partition, problem),
            infer_sharding_from_operands=partial(self.infer_sharding, problem),
            sharding_rule=self.sharding_rule(problem),
        )
        return partitioned(first, second)

    def call_native(self, first: Any, second: Any, geometry: Geometry) -> Any:
        """Let XLA call the kernel with its buffers."""
        result = jax.ShapeDtypeStruct(_shape(self.result, geometry), first.dtype)
        call = jax.ffi.ffi_call(self.target, result)
        return call(first, second, geometry=np.array(geometry.fields, np.int64))

    def elsewhere(self, first: Any, second: Any, *, geometry: Fields, spread: Any) -> Any:
        """Compute with XLA's convolution, accumulating in float32 or float64."""
        wide = jnp.promote_types(first.dtype, jnp.float32)
        result = self.convolve(first.astype(wide), second.astype(wide), geometry_of(geometry))
        return result.astype(first.dtype)

    def batch(
        self,
        operands: Sequence[Any],
        axes: Sequence[int | None],
        *,
        geometry: Fields,
        spread: Any,
    ) -> tuple[Any, int]:
        """Return the results of many operations at once, and the axis that tells them apart.

        Those with one filter for all are further images, others are further channels.
        """
        single = geometry_of(geometry)
        mapped = dict(zip(self.operands, axes, strict=True))
        count = next(
            array.shape[axis]
            for array, axis in zip(operands, axes, strict=True)
            if axis is not None
        )
        if self.result != "filter" and mapped.get("filter") is None:
            problem = replace(single, batch=count * single.batch)
            into = {"input": 0, "output": 0}
        else:
            problem = replace(single, in_channels=count * single.in_channels)
            into = {name: _channel_axis(name, problem) for name in ("input", "filter", "output")}
        first, second = (
            _fold(array, mapped[name], into[name], count) if name in into else array
            for name, array in zip(self.operands, operands, strict=True)
        )
        result = self(first, second, problem)
        axis = into[self.result]
        shape = _shape(self.result, single)
        return result.reshape(*shape[:axis], count, *shape[axis:]), axis

    def specs(self, operands: Sequence[Any], problem: Geometry) -> dict[str, PartitionSpec]:
        """Return how all three arrays lie on a mesh, from the types of the operands.

        They are split along batch and channels as the first image is, and nowhere else.
        """
        index = 1 if self.operands[0] == "filter" else 0
        sharding = operands[index].sharding
        batch = channels = None
        # GSPMD asks before it knows, too, and without a mesh to name the axes of.
        if isinstance(sharding, NamedSharding):
            channel_axis = _channel_axis(self.operands[index], problem)
            batch = _dividing(sharding, 0, problem.batch)
            channels = _dividing(sharding, channel_axis, problem.in_channels)
        if problem.data_format == "NHWC":
            image = PartitionSpec(batch, None, None, channels)
        else:
            image = PartitionSpec(batch, channels, None, None)
        return {
            "input": image,
            "output": image,
            "filter": PartitionSpec(None, None, channels, None),
        }

    def partition(
        self, problem: Geometry, mesh: Any, operands: Sequence[Any], result: Any
    ) -> tuple[Any, Callable[[Any, Any], Any], Any, tuple[Any, ...]]:
        """Return what each device computes, and how the result and the operands are spread.

        The gradients of a filter are rounded on each device, and once more by each addition.
        """

        def compute(first: Any, second: Any) -> Any:
            result = self.call_native(first, second, part)
            return lax.psum(result, batch) if batch and self.result == "filter" else result

        specs = self.specs(operands, problem)
        batch, channels = specs["input"][0], specs["filter"][2]
        part = replace(
            problem,
            batch=problem.batch // _device_count(mesh, batch),
            in_channels=problem.in_channels // _device_count(mesh, channels),
        )
        spread = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
        return mesh, compute, spread[self.result], tuple(spread[name] for name in self.operands)

    def infer_sharding(
        self, problem: Geometry, mesh: Any, operands: Sequence[Any], result: Any
    ) -> Any:
        """Return how the result is spread, for GSPMD, the partitioner of JAX 0.6."""
        return NamedSharding(mesh, self.specs(operands, problem)[self.result])

    def sharding_rule(self, problem: Geometry) -> str:
        """Return which axes go together, for Shardy, the partitioner since."""
        # Shardy refuses (k q) if one of them is 1.
        if problem.channel_multiplier == 1:
            channels = "k"
        else:
            channels = "(k q)" if problem.in_channels > 1 else "q"
        if problem.data_format == "NHWC":
            axes = {"input": "b h w k", "filter": "di dj k q", "output": f"b i j {channels}"}
        else:
            axes = {"input": "b k h w", "filter": "di dj k q", "output": f"b {channels} i j"}
        first, second = self.operands
        return f"{axes[first]}, {axes[second]} -> {axes[self.result]}"


def define_derivatives(operations: Sequence[Operation]) -> None:
    """Tell JAX that the operations are each other's derivatives."""
    by_result = {operation.result: operation for operation in operations}
    for operation in operations:
        rules = (partial(_transpose, operation, by_result[wanted]) for wanted in operation.operands)
        ad.defbilinear(operation.primitive, *rules)


def _transpose(
    operation: Operation,
    derivative: Operation,
    cotangent: Any,
    *operands: Any,
    geometry: Fields,
    spread: Any,
) -> Any:
    """Return the cotangent of the operand that is unknown, the result of `derivative`."""
    arrays = dict(zip(operation.operands, operands, strict=True))
    arrays[operation.result] = cotangent
    first, second = (arrays[name] for name in derivative.operands)
    result = derivative(first, second, geometry_of(geometry))
    # On a mesh with explicit axes its type has to be that of the operand, also of a filter that was
    # not spread when the channels were.
    spec = arrays[derivative.result].aval.sharding.spec
    sharding = jax.typeof(result).sharding
    if sharding.spec != spec:
        result = jax.reshard(result, NamedSharding(sharding.mesh, spec))
    return result


def _shape(array: str, geometry: Geometry) -> tuple[int, int, int, int]:
    return {
        "input": geometry.input_shape,
        "filter": geometry.filter_shape,
        "output": geometry.output_shape,
    }[array]


def _channel_axis(array: str, geometry: Geometry) -> int:
    if array == "filter":
        return 2
    return 3 if geometry.data_format == "NHWC" else 1


def _fold(array: Any, axis: int | None, into: int, count: int) -> Any:
    """Merge `axis` into another as its major part; without one, repeat the array."""
    if axis is None:
        shape = (*array.shape[:into], count, *array.shape[into:])
        array = jnp.broadcast_to(jnp.expand_dims(array, into), shape)
    else:
        array = jnp.moveaxis(array, axis, into)
    shape = array.shape
    return array.reshape(*shape[:into], shape[into] * shape[into + 1], *shape[into + 2 :])


def _dividing(sharding: NamedSharding, axis: int, size: int) -> Any:
    """Return what spreads an axis of an array, if that splits `size` evenly."""
    names = sharding.spec[axis]
    return names if size % _device_count(sharding.mesh, names) == 0 else None


def _device_count(mesh: Any, axes: Any) -> int:
    """Return over how many devices an entry of a PartitionSpec spreads an axis."""
    if axes is None:
        return 1
    return math.prod(mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes))


def _vary_alike(first: Any, second: Any) -> tuple[Any, Any]:
    """Let both vary over each mesh axis of a shard_map that one of them varies over.

    What all devices share becomes a copy for each, whose gradients JAX then knows to add up.
    """
    axes = (_varying_axes(first), _varying_axes(second))
    return _vary(first, axes[1] - axes[0]), _vary(second, axes[0] - axes[1])


def _varying_axes(array: Any) -> frozenset[Any]:
    kind = jax.typeof(array)
    # Renamed between JAX 0.6 and 0.10, like pvary() below.
    axes: frozenset[Any] = (
        kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma
    )
    return axes


def _vary(array: Any, axes: frozenset[Any]) -> Any:
    if not axes:
        return array
    if hasattr(lax, "pcast"):
        return lax.pcast(array, tuple(axes), to="varying")
    return lax.pvary(array, tuple(axes))
