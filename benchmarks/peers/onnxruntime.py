"""ONNX Runtime: a model of one `Conv` on its CPU provider, all of its optimisations on.

The filter is a constant that it may rearrange when it loads the model, and NHWC is transposed
within the model. Input and output are `OrtValue`s, which nobody copies. The output is either new
for every call or bound once and overwritten, whichever is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from benchmarks.cases import FORWARD, Case
from benchmarks.peers import fastest
from benchmarks.peers._onnx import make_model


class Adapter:
    """See `benchmarks.peers.Peer`."""

    label = "ONNX Runtime"

    def __init__(self, threads: int) -> None:
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._options.graph_optimization_level = level
        self._options.log_severity_level = 3

    def version(self) -> str:
        return str(onnxruntime.__version__)

    def supports(self, case: Case) -> bool:
        # Its CPU provider has no Conv of another type on x86-64.
        return case.operation == FORWARD and case.dtype == "float32"

    def prepare(self, case: Case, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], Any]:
        session = onnxruntime.InferenceSession(
            make_model(case, arrays), self._options, providers=["CPUExecutionProvider"]
        )
        value = onnxruntime.OrtValue.ortvalue_from_numpy(arrays["input"])
        fresh = partial(session.run_with_ort_values, ["output"], {"input": value})
        binding = session.io_binding()
        binding.bind_ortvalue_input("input", value)
        binding.bind_output("output")

        def bound() -> Any:
            session.run_with_iobinding(binding)
            return binding

        return fastest(fresh, bound)

    def to_numpy(self, case: Case, answer: Any) -> NDArray[Any]:
        values = answer if isinstance(answer, list) else answer.get_outputs()
        array: NDArray[Any] = values[0].numpy()
        return array
