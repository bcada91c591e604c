"""TensorFlow: functions of `tf.nn`, eager, traced or bare, whichever is fastest.

A dilated `depthwise_conv2d` is made of three operations, and its gradients have no function of
their own: `depthwise_conv2d_backprop_input` and `..._filter` ignore their ``dilations`` on a CPU
and give wrong answers. There the gradient is what a tape gives, again eager or traced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from numpy.typing import NDArray

from benchmarks.cases import FILTER_GRADIENT, FORWARD, INPUT_GRADIENT, Case
from benchmarks.peers import fastest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # Its start-up notes would bury the progress.

import tensorflow as tf

# Each with the names of what precedes its strides.
_BARE = {
    FORWARD: (tf.raw_ops.DepthwiseConv2dNative, ["input", "filter"]),
    INPUT_GRADIENT: (
        tf.raw_ops.DepthwiseConv2dNativeBackpropInput,
        ["input_sizes", "filter", "out_backprop"],
    ),
    FILTER_GRADIENT: (
        tf.raw_ops.DepthwiseConv2dNativeBackpropFilter,
        ["input", "filter_sizes", "out_backprop"],
    ),
}


class Adapter:
    """See `benchmarks.peers.Peer`."""

    label = "TensorFlow"

    def __init__(self, threads: int) -> None:
        tf.config.set_visible_devices([], "GPU")
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)

    def version(self) -> str:
        return str(tf.__version__)

    def supports(self, case: Case) -> bool:
        # Its own CPU kernels know no other layout than NHWC; oneDNN's, which are the default, do.
        return case.data_format == "NHWC" or case.dtype in ("float32", "bfloat16")

    def prepare(self, case: Case, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], Any]:
        tensors = {name: tf.constant(array) for name, array in arrays.items()}
        if case.dilation > 1 and case.operation != FORWARD:
            return fastest(*_tape_calls(case, tensors))
        arguments = [tf.convert_to_tensor(argument) for argument in case.arguments(tensors)]

        # Not a partial: tf.function traces the keywords of one as inputs, 1 ms more for each call.
        def compute(*arguments: Any) -> Any:
            return getattr(tf.nn, case.function)(*arguments, **_options(case))

        # A concrete function skips the checks that choose a trace: its cheapest way to be called.
        traced = tf.function(compute).get_concrete_function(*arguments)
        calls = [partial(compute, *arguments), partial(traced, *arguments)]
        if case.dilation == 1:
            # The bare operation, without the public function's 150 us of Python.
            operation, names = _BARE[case.operation]
            options = {**_options(case), "dilations": [1, 1, 1, 1]}
            calls.append(partial(operation, **dict(zip(names, arguments, strict=True)), **options))
        return fastest(*calls)

    def to_numpy(self, case: Case, answer: Any) -> NDArray[Any]:
        array: NDArray[Any] = answer.numpy()
        return array


def _options(case: Case) -> dict[str, Any]:
    """Return the arguments that all of the functions have in common."""
    return {
        "strides": case.strides,
        "padding": case.padding,
        "data_format": case.data_format,
        "dilations": case.dilations,
    }


def _tape_calls(case: Case, tensors: Mapping[str, Any]) -> list[Callable[[], Any]]:
    """Return ways to compute a gradient without a function for it.

    The eager one plays back a tape that was recorded before, as training does: what the forward
    pass has left behind is not computed again. A trace holds both passes, but drops what of the
    forward pass the gradient does not read.
    """

    def record(input: Any, filter: Any) -> tuple[Any, Any, Any]:
        source = input if case.answer == "input" else filter
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(source)
            output = tf.nn.depthwise_conv2d(input, filter, **_options(case))
        return tape, output, source

    def compute(input: Any, filter: Any, out_backprop: Any) -> Any:
        tape, output, source = record(input, filter)
        return tape.gradient(output, source, out_backprop)

    # The answer's values do not count, only its place on the tape.
    missing = tf.zeros(case.answer_shape, case.dtype)
    input, filter, out_backprop = (tensors.get(name, missing) for name in case.shapes)
    tape, output, source = record(input, filter)
    traced = tf.function(compute).get_concrete_function(input, filter, out_backprop)
    return [
        partial(tape.gradient, output, source, out_backprop),
        partial(traced, input, filter, out_backprop),
    ]
