"""LiteRT (once TensorFlow Lite): a model of one DEPTHWISE_CONV_2D, which XNNPACK computes.

The model is written with the schema that the package brings, so that TensorFlow's converter is not
needed. The filter is a constant that XNNPACK rearranges when the model is loaded. The input is
copied into the interpreter before the timing, and the output stays in it, overwritten by every
call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ai_edge_litert
import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from benchmarks.cases import FORWARD, Case

_FORMAT = b"TFL3"
_FORMAT_VERSION = 3


class Adapter:
    """See `benchmarks.peers.Peer`."""

    label = "LiteRT"

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def version(self) -> str:
        return str(ai_edge_litert.__version__)

    def supports(self, case: Case) -> bool:
        forward = case.operation == FORWARD and case.data_format == "NHWC"
        return forward and case.dtype == "float32"

    def prepare(self, case: Case, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], Any]:
        model = _make_model(case, arrays["filter"])
        interpreter = Interpreter(model_content=model, num_threads=self._threads)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], arrays["input"])

        def invoke() -> Any:
            interpreter.invoke()
            return interpreter

        return invoke

    def to_numpy(self, case: Case, answer: Any) -> NDArray[Any]:
        array: NDArray[Any] = answer.get_tensor(answer.get_output_details()[0]["index"])
        return array


def _make_model(case: Case, filter: NDArray[Any]) -> bytes:
    """Return a flat buffer with one operation; its tensors are 0 to 3: input to output."""
    out_channels = case.in_channels * case.channel_multiplier
    shapes = (
        case.input_shape,
        (1, case.filter_height, case.filter_width, out_channels),
        (out_channels,),
        case.output_shape,
    )
    names = ("input", "filter", "bias", "output")
    constants = {1: filter, 2: np.zeros(out_channels, np.float32)}

    buffers = [schema.BufferT()]  # The first is empty: that of the tensors without constants.
    tensors = []
    for position, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name, list(shape)
        tensor.type = schema.TensorType.FLOAT32
        tensor.buffer = 0
        if position in constants:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(constants[position].tobytes(), np.uint8)
            tensor.buffer = len(buffers)
            buffers.append(buffer)
        tensors.append(tensor)

    options = schema.DepthwiseConv2DOptionsT()
    options.padding = getattr(schema.Padding, case.padding)
    options.strideH = options.strideW = case.stride
    options.dilationHFactor = options.dilationWFactor = case.dilation
    options.depthMultiplier = case.channel_multiplier

    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.DepthwiseConv2DOptions
    operator.builtinOptions = options

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEPTHWISE_CONV_2D
    code.version = 2  # The first with dilations.

    graph = schema.SubGraphT()
    graph.name = "depthwise"
    graph.tensors, graph.operators = tensors, [operator]
    graph.inputs, graph.outputs = [0], [3]

    model = schema.ModelT()
    model.version = _FORMAT_VERSION
    model.operatorCodes, model.subgraphs, model.buffers = [code], [graph], buffers
    builder = flatbuffers.Builder(filter.nbytes + 4096)
    builder.Finish(model.Pack(builder), _FORMAT)
    return bytes(builder.Output())
