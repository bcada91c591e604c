"""Prints how much faster depthwise is than XLA's own convolution, in JAX on one thread.

    python -m benchmarks.jax_layers

XLA's convolution may use all cores. All contenders take turns in one process, and each answer is
checked first. "NumPy + empty jit" is the NumPy path and then a jitted function that does nothing:
what a call by JAX costs where a layer's data have taken the caches, several times that of a loop.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import depthwise
from benchmarks.machine import describe, summary
from benchmarks.peers import keep_freed_memory
from benchmarks.timing import interleave

# Height and width, channels, filter, stride.
_LAYERS = ((112, 32, 3, 1), (56, 96, 7, 1), (56, 144, 5, 2))

Calls = dict[str, Callable[[], Any]]

_LAX = "lax, jit"
_OURS_JIT = "depthwise, jit"
_OURS_EAGER = "depthwise, no jit"
_OURS_NUMPY = "depthwise, NumPy"
_EMPTY_JIT = "NumPy + empty jit"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jax_layers")
    parser.add_argument("--seconds", type=float, default=5.0, help="for a row, default 5")
    seconds = parser.parse_args(arguments).seconds
    keep_freed_memory()
    depthwise.set_num_threads(1)
    print(summary(describe("benchmarks.jax_layers", {}, [1])))
    print(f"JAX {jax.__version__}; microseconds per call, median (quartiles), times as fast as lax")
    for layer in _LAYERS:
        for kind in (_outputs, _gradients):
            calls = kind(*layer)
            _check(calls)
            size, channels, filter_size, stride = layer
            print(
                f"{kind.__name__[1:]}: {size}x{size}x{channels}, "
                f"{filter_size}x{filter_size} stride {stride}"
            )
            waiting = {label: _waiting(call) for label, call in calls.items()}
            waiting[_EMPTY_JIT] = _then_empty_jit(calls[_OURS_NUMPY])
            timings = interleave(waiting, seconds)
            for label, time in timings.items():
                ratio = timings[_LAX].median_us / time.median_us
                quartiles = f"({time.q1_us:.1f} to {time.q3_us:.1f})"
                print(f"  {label:<18}{time.median_us:>10.1f} {quartiles:<24}{ratio:>7.1f}")
    return 0


def _waiting(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return a call that ends with its result; JAX may return while it computes."""
    return lambda: jax.block_until_ready(call())


def _then_empty_jit(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return a call that is followed by a jitted function which does nothing."""
    empty = jax.jit(lambda value: value)
    value = jnp.zeros((1, 4, 4, 8))

    def both() -> Any:
        result = call()
        jax.block_until_ready(empty(value))
        return result

    return both


def _arrays(*shapes: tuple[int, ...]) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Return small integers, of which all sums are exact in any order."""
    random = np.random.default_rng(0)
    return [random.integers(-2, 3, shape).astype(np.float32) for shape in shapes]


def _problem(size: int, channels: int, filter_size: int, stride: int) -> tuple[Any, ...]:
    """Return input, filter and gradient of the output, and both convolutions of JAX."""
    out_size = -(-size // stride)
    arrays = _arrays(
        (1, size, size, channels),
        (filter_size, filter_size, channels, 1),
        (1, out_size, out_size, channels),
    )

    def ours(input: Any, filter: Any) -> Any:
        return depthwise.depthwise_conv2d(input, filter, [1, stride, stride, 1], "SAME")

    def theirs(input: Any, filter: Any) -> Any:
        return jax.lax.conv_general_dilated(
            input,
            filter.reshape(filter_size, filter_size, 1, channels),
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )

    return *arrays, ours, theirs


def _outputs(*layer: int) -> Calls:
    """Return the forward calls by their label."""
    input, filter, _, ours, theirs = _problem(*layer)
    given = (jnp.asarray(input), jnp.asarray(filter))
    return {
        _LAX: partial(jax.jit(theirs), *given),
        _OURS_JIT: partial(jax.jit(ours), *given),
        _OURS_EAGER: partial(ours, *given),
        _OURS_NUMPY: partial(ours, input, filter),
    }


def _gradients(*layer: int) -> Calls:
    """Return the calls for the gradients of both arguments by their label."""
    input, filter, out_backprop, ours, theirs = _problem(*layer)
    given = tuple(map(jnp.asarray, (input, filter, out_backprop)))
    stride = layer[3]
    options = ([1, stride, stride, 1], "SAME")

    def pulled_back(convolve: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
        return lambda input, filter, out_backprop: jax.vjp(convolve, input, filter)[1](out_backprop)

    def both(input: Any, filter: Any, out_backprop: Any) -> Any:
        of_input = depthwise.depthwise_conv2d_backprop_input(
            input.shape, filter, out_backprop, *options
        )
        of_filter = depthwise.depthwise_conv2d_backprop_filter(
            input, filter.shape, out_backprop, *options
        )
        return of_input, of_filter

    return {
        _LAX: partial(jax.jit(pulled_back(theirs)), *given),
        _OURS_JIT: partial(jax.jit(pulled_back(ours)), *given),
        _OURS_EAGER: partial(both, *given),
        _OURS_NUMPY: partial(both, input, filter, out_backprop),
    }


def _check(calls: Calls) -> None:
    """Raise AssertionError unless all answers are equal."""
    wanted = jax.tree.leaves(calls[_LAX]())
    for label, call in calls.items():
        for got, want in zip(jax.tree.leaves(call()), wanted, strict=True):
            np.testing.assert_array_equal(np.asarray(got), np.asarray(want), label)


if __name__ == "__main__":
    sys.exit(main())
