"""PyTorch: one `conv2d` with a group per channel, and what autograd runs for its gradients.

NHWC cases are channels-last tensors, NCHW cases contiguous ones. The filter is rearranged and
all tensors made outside timing. conv2d pads both sides alike; where SAME wants unequal padding
(stride 2 on even sizes) a user has to call `pad` first, so that call is timed too. With the
gradients that costs next to nothing: the filter's finds the padded input of the forward pass, which
autograd keeps, and the input's is cropped by a view, where autograd would copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.cases import FILTER_GRADIENT, FORWARD, Case


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

    def prepare(self, case: Case, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], torch.Tensor]:
        dtype = next(iter(arrays.values())).dtype
        # PyTorch wants an input for the input's gradient too, though it reads no more than its
        # layout, and likewise a filter: any array will do in place of the answer.
        tensors = {
            name: _to_tensor(case, name, arrays.get(name, np.ones(shape, dtype)))
            for name, shape in case.shapes.items()
        }
        (top, bottom), (left, right) = case.height.pads, case.width.pads
        padding, edges = (top, left), (0, 0, 0, 0)
        if (top, left) != (bottom, right):
            padding, edges = (0, 0), (left, right, top, bottom)
        if case.operation == FORWARD:
            return _forward(case, tensors, padding, edges)
        return _gradient(case, tensors, padding, edges)

    def to_numpy(self, case: Case, answer: torch.Tensor) -> NDArray[Any]:
        if case.operation == FILTER_GRADIENT:  # From (k, q, di, dj) to (di, dj, k, q).
            kqij = case.in_channels, case.channel_multiplier, case.filter_height, case.filter_width
            answer = answer.reshape(kqij).permute(2, 3, 0, 1)
        elif case.data_format == "NHWC":
            answer = answer.permute(0, 2, 3, 1)
        if answer.dtype == torch.bfloat16:
            answer = answer.float()
        array: NDArray[Any] = answer.numpy()
        return array


def _forward(
    case: Case,
    tensors: Mapping[str, torch.Tensor],
    padding: tuple[int, int],
    edges: tuple[int, int, int, int],
) -> Callable[[], torch.Tensor]:
    """Return the call of conv2d; ``edges`` is the padding it cannot express, as `pad` wants it."""
    convolve = partial(
        F.conv2d,
        weight=tensors["filter"],
        stride=case.stride,
        padding=padding,
        dilation=case.dilation,
        groups=case.in_channels,
    )
    input = tensors["input"]
    if any(edges):
        return lambda: convolve(F.pad(input, edges))
    return partial(convolve, input)


def _gradient(
    case: Case,
    tensors: Mapping[str, torch.Tensor],
    padding: tuple[int, int],
    edges: tuple[int, int, int, int],
) -> Callable[[], torch.Tensor]:
    """Return the call of the operation that autograd runs, asked for one of its answers."""
    wanted = [case.answer == name for name in ("input", "filter", "bias")]
    differentiate = partial(
        torch.ops.aten.convolution_backward,
        tensors["out_backprop"],
        F.pad(tensors["input"], edges),
        tensors["filter"],
        None,  # No bias.
        [case.stride, case.stride],
        padding,
        [case.dilation, case.dilation],
        False,  # Not transposed,
        [0, 0],  # so without the padding of an output.
        case.in_channels,
        wanted,
    )
    position = wanted.index(True)
    if case.answer == "input" and any(edges):
        left, _, top, _ = edges
        rows, columns = slice(top, top + case.in_height), slice(left, left + case.in_width)
        return lambda: differentiate()[position][:, :, rows, columns]
    return lambda: differentiate()[position]


def _to_tensor(case: Case, name: str, array: NDArray[Any]) -> torch.Tensor:
    """Copy one of the case's arrays into a tensor of PyTorch's shape and the case's layout."""
    if array.dtype.name == "bfloat16":  # PyTorch knows only its bits.
        tensor = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array)
    if name == "filter":
        tensor = tensor.permute(2, 3, 0, 1)  # From (di, dj, k, q) to (k, q, di, dj).
        tensor = tensor.reshape(-1, 1, case.filter_height, case.filter_width)
    elif case.data_format == "NHWC":
        tensor = tensor.permute(0, 3, 1, 2)
    # With one channel the layouts are the same bytes, and channels-last is 8 times faster.
    channels_last = case.data_format == "NHWC" or case.in_channels == 1
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return tensor.clone(memory_format=memory_format)
