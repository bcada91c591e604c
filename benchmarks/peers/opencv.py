"""OpenCV: `filter2D` for images, its `dnn` module for layers.

`filter2D` has one filter for all channels, so that it takes an image as it is where the row has but
one too. Otherwise the channels are split, filtered one by one and merged. It and `split` and
`merge` are given fresh outputs. `dnn` copies its input into the network in the timed call, as its
interface wants, and returns a new array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import FORWARD, Case
from benchmarks.peers import fastest
from benchmarks.peers._onnx import make_model

_MOST_COLOURS = 4


class Adapter:
    """See `benchmarks.peers.Peer`."""

    label = "OpenCV"

    def __init__(self, threads: int) -> None:
        cv2.setNumThreads(threads)

    def version(self) -> str:
        return str(cv2.__version__)

    def supports(self, case: Case) -> bool:
        if case.operation != FORWARD:
            return False
        return case.dtype == "float32" or (_is_image(case) and case.dtype == "float64")

    def prepare(self, case: Case, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], Any]:
        if _is_image(case):
            return _image_call(case, arrays["input"], arrays["filter"])
        net = cv2.dnn.readNetFromONNX(np.frombuffer(make_model(case, arrays), np.uint8))
        input = arrays["input"]

        def forward() -> Any:
            net.setInput(input)
            return net.forward()

        return forward

    def to_numpy(self, case: Case, answer: Any) -> NDArray[Any]:
        return np.asarray(answer).reshape(case.answer_shape)


def _is_image(case: Case) -> bool:
    """Whether `filter2D` can compute the case."""
    return (
        (case.batch, case.channel_multiplier, case.stride, case.dilation) == (1, 1, 1, 1)
        and case.in_channels <= _MOST_COLOURS
        and case.padding == "SAME"
    )


def _image_call(
    case: Case, input: NDArray[Any], filter: NDArray[Any]
) -> Callable[[], NDArray[Any]]:
    image = input[0]
    taps = [np.ascontiguousarray(filter[:, :, k, 0]) for k in range(case.in_channels)]
    # The tap that lies on the pixel itself: where SAME has as many before it as it pads.
    anchor = case.width.pads[0], case.height.pads[0]
    filtered = partial(
        cv2.filter2D, ddepth=-1, anchor=anchor, delta=0, borderType=cv2.BORDER_CONSTANT
    )
    if case.data_format == "NCHW":

        def planes() -> NDArray[Any]:
            output = np.empty_like(image)
            for plane, kernel, target in zip(image, taps, output, strict=True):
                filtered(plane, kernel=kernel, dst=target)
            return output

        return planes

    def split() -> NDArray[Any]:
        planes = cv2.split(image)
        parts = [filtered(plane, kernel=kernel) for plane, kernel in zip(planes, taps, strict=True)]
        merged: NDArray[Any] = cv2.merge(parts)
        return merged

    calls: list[Callable[[], NDArray[Any]]] = [split] if case.in_channels > 1 else []
    if all(np.array_equal(kernel, taps[0]) for kernel in taps):
        calls.append(partial(filtered, image, kernel=taps[0]))
    return fastest(*calls)
