"""PyTorch: one `conv2d` with a group per channel, on tensors already in the layout it wants.

NHWC cases are channels-last tensors, NCHW cases contiguous ones. The filter is rearranged and
all tensors made outside timing. conv2d pads both sides alike; where SAME wants unequal padding
(stride 2 on even sizes) a user has to call `pad` first, so that call is timed too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.shapes import Case


class Adapter:
    """See `benchmarks.peers.Peer`."""

    label = "PyTorch"

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        # Entered for the life of the process: inside the timed call it would cost 2 us.
        self._inference = torch.inference_mode()
        self._inference.__enter__()

    def version(self) -> str:
        return torch.__version__

    def supports(self, case: Case) -> bool:
        return True

    def prepare(
        self, case: Case, input: NDArray[Any], filter: NDArray[Any]
    ) -> Callable[[], torch.Tensor]:
        tensor = _to_tensor(input)
        taps = _to_tensor(filter).permute(2, 3, 0, 1)  # From (di, dj, k, q) to (k, q, di, dj).
        taps = taps.reshape(-1, 1, case.filter_height, case.filter_width)
        memory_format = torch.contiguous_format
        # With one channel the layouts are the same bytes, and channels-last is 8 times faster.
        if case.data_format == "NHWC" or case.in_channels == 1:
            shape = case.batch, case.in_height, case.in_width, case.in_channels
            tensor = tensor.reshape(shape).permute(0, 3, 1, 2)
            memory_format = torch.channels_last
        tensor = tensor.contiguous(memory_format=memory_format)
        taps = taps.contiguous(memory_format=memory_format)
        (top, bottom), (left, right) = case.height.pads, case.width.pads
        convolve = partial(
            F.conv2d,
            weight=taps,
            stride=case.stride,
            dilation=case.dilation,
            groups=case.in_channels,
        )
        if (top, left) == (bottom, right):
            return partial(convolve, tensor, padding=(top, left))
        return lambda: convolve(F.pad(tensor, (left, right, top, bottom)))

    def to_numpy(self, case: Case, output: torch.Tensor) -> NDArray[Any]:
        if case.data_format == "NHWC":
            output = output.permute(0, 2, 3, 1)
        if output.dtype == torch.bfloat16:
            output = output.float()
        array: NDArray[Any] = output.numpy()
        return array


def _to_tensor(array: NDArray[Any]) -> torch.Tensor:
    """Copy an array into a tensor; PyTorch does not know NumPy's bfloat16, only its bits."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).clone()
    return torch.from_numpy(array).clone()
