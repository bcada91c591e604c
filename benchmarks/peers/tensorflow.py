"""TensorFlow: `tf.nn.depthwise_conv2d`, eager, traced or bare, whichever is fastest."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import NDArray

from benchmarks.peers import fastest
from benchmarks.shapes import Case

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # Its start-up notes would bury the progress.

import tensorflow as tf


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

    def prepare(self, case: Case, input: NDArray[Any], filter: NDArray[Any]) -> Callable[[], Any]:
        arrays = tf.constant(input), tf.constant(filter)

        # Not a partial: tf.function traces the keywords of one as inputs, 1 ms more for each call.
        def convolve(input: Any, filter: Any) -> Any:
            return tf.nn.depthwise_conv2d(
                input,
                filter,
                case.strides,
                case.padding,
                data_format=case.data_format,
                dilations=case.dilations,
            )

        # A concrete function skips the checks that choose a trace: its cheapest way to be called.
        traced = tf.function(convolve).get_concrete_function(*arrays)
        calls = [partial(convolve, *arrays), partial(traced, *arrays)]
        if case.dilation == 1:
            # The bare operation, without the public function's 150 us of Python.
            calls.append(
                partial(
                    tf.raw_ops.DepthwiseConv2dNative,
                    input=arrays[0],
                    filter=arrays[1],
                    strides=case.strides,
                    padding=case.padding,
                    data_format=case.data_format,
                )
            )
        return fastest(*calls)

    def to_numpy(self, case: Case, output: Any) -> NDArray[Any]:
        array: NDArray[Any] = output.numpy()
        return array
