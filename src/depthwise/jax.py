"""jax.Array and tracers: the native kernels as operations of XLA's programs.

Takes what ``_api`` and ``_gradients`` are called with, inside of any transformation or outside;
``_backends`` imports this file at the first array of JAX.

Requirements that shaped it:
- on the CPU, XLA hands its buffers to native/xla_handlers.cc; Python runs while tracing only;
- sum(output * out_backprop) is linear in each of input, filter and out_backprop, and the three
  functions are its derivatives. Hence every derivative of one is another of them, and the rules for
  types, vmap and devices are written once, by which arrays are images and which is the filter;
- a computation whose images are spread over devices stays where they are;
- other platforms run the same program with XLA's own convolution;
- nothing of JAX is used that is not public; 0.6 is the oldest version that the tests pass with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
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
from ._geometry import (
    Geometry,
    geometry_of,
    make_backprop_filter_geometry,
    make_backprop_input_geometry,
    make_geometry,
)

_DTYPES = frozenset(np.dtype(name) for name in (jnp.float16, jnp.bfloat16, np.float32, np.float64))

# The problem as a parameter of an operation: Geometry.fields, which are equal if problems are.
_Fields = tuple[int, ...]

# A mesh axis, several of them, or none: an entry of a PartitionSpec.
_MeshAxes = Any


def trace_scope(name: str) -> AbstractContextManager[Any]:
    """Return a scope that shows `name` in the profile and in the program's metadata."""
    scope: AbstractContextManager[Any] = jax.named_scope(name)
    return scope


def depthwise_conv2d(
    input: Any, filter: Any, strides: Any, padding: Any, data_format: Any, dilations: Any
) -> Any:
    """Return the output."""
    _check(input, filter, ("input", "filter"))
    geometry = make_geometry(input.shape, filter.shape, strides, padding, data_format, dilations)
    return _FORWARD(input, filter, geometry)


def depthwise_conv2d_backprop_input(
    input_sizes: Any,
    filter: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
) -> Any:
    """Return the gradient with respect to the input."""
    _check(filter, out_backprop, ("filter", "out_backprop"))
    geometry = make_backprop_input_geometry(
        input_sizes, filter.shape, out_backprop.shape, strides, padding, data_format, dilations
    )
    return _BACKPROP_INPUT(filter, out_backprop, geometry)


def depthwise_conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
) -> Any:
    """Return the gradient with respect to the filter."""
    _check(input, out_backprop, ("input", "out_backprop"))
    geometry = make_backprop_filter_geometry(
        input.shape, filter_sizes, out_backprop.shape, strides, padding, data_format, dilations
    )
    return _BACKPROP_FILTER(input, out_backprop, geometry)


def _check(first: Any, second: Any, arguments: tuple[str, str]) -> None:
    """Raise TypeError unless both are arrays or tracers of one supported dtype."""
    for array, argument in zip((first, second), arguments, strict=True):
        if not isinstance(array, jax.Array):
            raise TypeError(
                f"{argument} is a {type(array).__module__}.{type(array).__qualname__}; needed a "
                "jax.Array"
            )
        if array.dtype not in _DTYPES:
            raise TypeError(
                f"{argument} has dtype {array.dtype}; needed float16, bfloat16, float32 or float64"
            )
    if first.dtype != second.dtype:
        raise TypeError(
            f"{arguments[1]} has dtype {second.dtype}, {arguments[0]} has {first.dtype}; needed "
            "the same dtype"
        )


def _make_spread() -> Any:
    identity = custom_partitioning(lambda array: array)
    identity.def_partition(partition=None, sharding_rule="i -> i")
    return jax.make_jaxpr(identity)(np.zeros(1, np.float32))


# JAX tells the devices to the lowering rule of custom_partitioning only if it finds that operation
# in the program. Ours come to it in their lowering, too late to be found; so that each of them
# carries this jaxpr as a parameter, for JAX to look into.
_SPREAD = _make_spread()


class _Operation:
    """One of the three functions as a primitive of JAX, with its rules.

    `operands` and `result` are which of the arrays "input", "filter" and "output" it takes and
    gives; what has the shape of the output may be its gradient. `name` is that of the native
    handler. `convolve` does the same with XLA's convolution, in the dtype of its arguments.
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
        self.primitive.def_abstract_eval(self.result_type)
        self.primitive.def_impl(self.run)
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
        # What `bind` and `run` end in, without the 7 us that they take.
        return self.compiled(first, second, geometry=geometry.fields)

    def bind(self, first: Any, second: Any, *, geometry: _Fields) -> Any:
        """Add the operation to the program that is being traced."""
        return self.primitive.bind(first, second, geometry=geometry, spread=_SPREAD)

    def run(self, first: Any, second: Any, *, geometry: _Fields, spread: Any) -> Any:
        """Compute with arrays."""
        with jax.disable_jit(False):
            return self.compiled(first, second, geometry=geometry)

    def result_type(self, first: Any, second: Any, *, geometry: _Fields, spread: Any) -> Any:
        """Return the type of the result from those of the operands."""
        problem = geometry_of(geometry)
        spec = self.specs((first, second), problem)[self.result]
        return first.update(
            shape=_shape(self.result, problem),
            weak_type=False,
            sharding=NamedSharding(first.sharding.mesh, spec),
        )

    def on_cpu(self, first: Any, second: Any, *, geometry: _Fields, spread: Any) -> Any:
        """Compute with our kernels, on as many devices as the images are spread over."""

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

    def elsewhere(self, first: Any, second: Any, *, geometry: _Fields, spread: Any) -> Any:
        """Compute with XLA's convolution, accumulating in float32 or float64."""
        wide = jnp.promote_types(first.dtype, jnp.float32)
        result = self.convolve(first.astype(wide), second.astype(wide), geometry_of(geometry))
        return result.astype(first.dtype)

    def transpose(
        self, wanted: str, cotangent: Any, *operands: Any, geometry: _Fields, spread: Any
    ) -> Any:
        """Return the gradient with respect to the operand `wanted`."""
        arrays = dict(zip(self.operands, operands, strict=True))
        arrays[self.result] = cotangent
        derivative = next(other for other in _OPERATIONS if other.result == wanted)
        first, second = (arrays[operand] for operand in derivative.operands)
        result = derivative(first, second, geometry_of(geometry))
        sharding = arrays[wanted].aval.sharding
        # With explicit mesh axes the two have to agree, as for a filter that all channels share.
        if jax.typeof(result).sharding != sharding:
            result = jax.sharding.reshard(result, sharding)
        return result

    def batch(
        self,
        operands: Sequence[Any],
        axes: Sequence[int | None],
        *,
        geometry: _Fields,
        spread: Any,
    ) -> tuple[Any, int]:
        """Return the results of many operations at once, and their new axis.

        With one filter for all, they are further images, else further channels.
        """
        problem = geometry_of(geometry)
        count = next(
            array.shape[axis]
            for array, axis in zip(operands, axes, strict=True)
            if axis is not None
        )
        filter_axis = dict(zip(self.operands, axes, strict=True)).get("filter")
        if self.result != "filter" and filter_axis is None:
            problem = replace(problem, batch=count * problem.batch)
            at = {"input": 0, "filter": None, "output": 0}
        else:
            problem = replace(problem, in_channels=count * problem.in_channels)
            at = {name: _channel_axis(name, problem) for name in ("input", "filter", "output")}
        folded = [
            array if at[name] is None else _fold(array, axis, at[name], count)
            for name, array, axis in zip(self.operands, operands, axes, strict=True)
        ]
        result = self(folded[0], folded[1], problem)
        at_result = at[self.result]
        shape = list(result.shape)
        shape[at_result : at_result + 1] = [count, shape[at_result] // count]
        return result.reshape(shape), at_result

    def specs(self, operands: Sequence[Any], problem: Geometry) -> dict[str, PartitionSpec]:
        """Return how all three arrays lie on a mesh, from the types of the operands.

        They are split along batch and channels as the first image is, and nowhere else.
        """
        index = 1 if self.operands[0] == "filter" else 0
        sharding = operands[index].sharding
        channel_axis = _channel_axis(self.operands[index], problem)
        batch, channels = (
            axes if size % _device_count(sharding.mesh, axes) == 0 else None
            for axes, size in (
                (sharding.spec[0], problem.batch),
                (sharding.spec[channel_axis], problem.in_channels),
            )
        )
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
        """Return what each device computes, and how the result and the operands are spread."""

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
        """Return how the result is spread; asked for by the partitioner before Shardy, GSPMD."""
        return NamedSharding(mesh, self.specs(operands, problem)[self.result])

    def sharding_rule(self, problem: Geometry) -> str:
        """Return which axes go together, for the partitioner Shardy."""
        if problem.data_format == "NHWC":
            axes = {"input": "b h w k", "filter": "di dj k q", "output": "b i j (k q)"}
        else:
            axes = {"input": "b k h w", "filter": "di dj k q", "output": "b (k q) i j"}
        first, second = self.operands
        return f"{axes[first]}, {axes[second]} -> {axes[self.result]}"


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


def _device_count(mesh: Any, axes: _MeshAxes) -> int:
    """Return over how many devices an axis is spread."""
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
    # Renamed between JAX 0.6 and 0.10.
    axes: frozenset[Any] = (
        kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma
    )
    return axes


def _vary(array: Any, axes: frozenset[Any]) -> Any:
    if not axes:
        return array
    names = tuple(axes)
    # Renamed between JAX 0.6 and 0.10.
    return lax.pcast(array, names, to="varying") if hasattr(lax, "pcast") else lax.pvary(array, names)


def _convolve(input: Any, filter: Any, geometry: Geometry) -> Any:
    """Return the output by XLA's convolution. Unlike ours it multiplies padding by the filter."""
    padding = [
        (before, (out_size - 1) * stride + (filter_size - 1) * dilation + 1 - before - in_size)
        for in_size, filter_size, stride, dilation, before, out_size in (
            (
                geometry.in_height,
                geometry.filter_height,
                geometry.stride_height,
                geometry.dilation_height,
                geometry.pad_top,
                geometry.out_height,
            ),
            (
                geometry.in_width,
                geometry.filter_width,
                geometry.stride_width,
                geometry.dilation_width,
                geometry.pad_left,
                geometry.out_width,
            ),
        )
    ]
    return lax.conv_general_dilated(
        input,
        filter.reshape(geometry.filter_height, geometry.filter_width, 1, geometry.out_channels),
        window_strides=(geometry.stride_height, geometry.stride_width),
        padding=padding,
        rhs_dilation=(geometry.dilation_height, geometry.dilation_width),
        dimension_numbers=(geometry.data_format, "HWIO", geometry.data_format),
        feature_group_count=geometry.in_channels,
        # GPUs would round float32 to TensorFloat-32.
        precision=lax.Precision.HIGHEST,
    )


def _convolve_backprop_input(filter: Any, out_backprop: Any, geometry: Geometry) -> Any:
    input = jax.ShapeDtypeStruct(geometry.input_shape, filter.dtype)
    transposed = jax.linear_transpose(lambda input: _convolve(input, filter, geometry), input)
    return transposed(out_backprop)[0]


def _convolve_backprop_filter(input: Any, out_backprop: Any, geometry: Geometry) -> Any:
    filter = jax.ShapeDtypeStruct(geometry.filter_shape, input.dtype)
    transposed = jax.linear_transpose(lambda filter: _convolve(input, filter, geometry), filter)
    return transposed(out_backprop)[0]


_FORWARD = _Operation("forward", ("input", "filter"), "output", _convolve)
_BACKPROP_INPUT = _Operation(
    "backprop_input", ("filter", "output"), "input", _convolve_backprop_input
)
_BACKPROP_FILTER = _Operation(
    "backprop_filter", ("input", "output"), "filter", _convolve_backprop_filter
)
_OPERATIONS = (_FORWARD, _BACKPROP_INPUT, _BACKPROP_FILTER)

for _operation in _OPERATIONS:
    ad.defbilinear(
        _operation.primitive,
        *(partial(_operation.transpose, operand) for operand in _operation.operands),
    )
