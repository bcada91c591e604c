"""A case as an ONNX model, for the libraries that read one.

ONNX knows only NCHW. A case in NHWC is transposed within the model on the way in and out, which is
what a user of such a library has to do, and what the library may optimise away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from benchmarks.cases import Case

_TYPES = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}
# The first with a Conv of bfloat16, and the file format that goes with it.
_OPSET = 22
_IR_VERSION = 10


def make_model(case: Case, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a model of one convolution, its filter a constant, from ``input`` to ``output``."""
    type_ = _TYPES[case.dtype]
    taps = arrays["filter"].transpose(2, 3, 0, 1)  # From (di, dj, k, q) to (k, q, di, dj).
    taps = np.ascontiguousarray(taps.reshape(-1, 1, case.filter_height, case.filter_width))
    filter = helper.make_tensor("filter", type_, taps.shape, taps.tobytes(), raw=True)
    (top, bottom), (left, right) = case.height.pads, case.width.pads
    nhwc = case.data_format == "NHWC"
    source, target = ("transposed", "convolved") if nhwc else ("input", "output")
    nodes = [
        helper.make_node(
            "Conv",
            [source, "filter"],
            [target],
            group=case.in_channels,
            kernel_shape=[case.filter_height, case.filter_width],
            pads=[top, left, bottom, right],
            strides=[case.stride, case.stride],
            dilations=[case.dilation, case.dilation],
        )
    ]
    if nhwc:
        before = helper.make_node("Transpose", ["input"], [source], perm=[0, 3, 1, 2])
        after = helper.make_node("Transpose", [target], ["output"], perm=[0, 2, 3, 1])
        nodes = [before, *nodes, after]
    graph = helper.make_graph(
        nodes,
        "depthwise",
        [helper.make_tensor_value_info("input", type_, case.input_shape)],
        [helper.make_tensor_value_info("output", type_, case.output_shape)],
        [filter],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
