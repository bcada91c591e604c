"""OpenVINO: a model of one group convolution, compiled for the CPU in the precision of the row.

Without that hint it may compute float32 as bfloat16. The filter is a constant that it rearranges
when it compiles, and NHWC is transposed within the model, which its compiler mostly turns into a
choice of layout. The output's memory is its own and overwritten by every call: the one peer that is
never asked for a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import openvino
from numpy.typing import NDArray

from benchmarks.cases import FORWARD, Case
from benchmarks.peers._onnx import make_model

_PRECISIONS = {
    "float16": openvino.Type.f16,
    "bfloat16": openvino.Type.bf16,
    "float32": openvino.Type.f32,
}


class Adapter:
    """See `benchmarks.peers.Peer`."""

    label = "OpenVINO"

    def __init__(self, threads: int) -> None:
        self._core = openvino.Core()
        self._threads = threads

    def version(self) -> str:
        return str(openvino.__version__).split("-")[0]

    def supports(self, case: Case) -> bool:
        # It computes float64 as float32.
        return case.operation == FORWARD and case.dtype in _PRECISIONS

    def prepare(self, case: Case, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], Any]:
        settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": _PRECISIONS[case.dtype],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        model = self._core.read_model(make_model(case, arrays))
        request = self._core.compile_model(model, "CPU", settings).create_infer_request()
        input = arrays["input"]
        if case.dtype == "bfloat16":  # Known to it, but not as a type of NumPy's.
            bits = input.view(np.uint16)
            tensor = openvino.Tensor(bits, case.input_shape, _PRECISIONS[case.dtype])
        else:
            tensor = openvino.Tensor(input, shared_memory=True)
        request.set_input_tensor(tensor)

        def infer() -> Any:
            request.infer(share_outputs=True)
            return request

        return infer

    def to_numpy(self, case: Case, answer: Any) -> NDArray[Any]:
        array: NDArray[Any] = answer.get_output_tensor().data
        if case.dtype == "bfloat16":
            array = array.view(ml_dtypes.bfloat16)
        return array.reshape(case.answer_shape)
