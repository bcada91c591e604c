"""Layers of PyTorch where nothing but the output is wanted: straight to the kernels.

By an operator and views of the parameters a layer takes 40 us besides the kernel, or 130 where
other layers have overwritten the caches in between, as in any model; so it takes 5, or 65.

``depthwise.torch`` asks this before it goes the way of all calls, which it also does for whatever
is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from . import _native
from ._geometry import Geometry
from ._torch_observers import is_observed, is_plain
from ._torch_ops import (
    DTYPES,
    as_nhwc,
    empty,
    is_channels_last_memory,
    layer_options,
    solve,
)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What the kernels are told of a call, besides addresses."""

    geometry: Geometry
    code: int
    input_strides: tuple[int, int, int, int]
    is_channels_last: bool
    element_size: int


@lru_cache(maxsize=1024)
def _make_plan(
    input_shape: torch.Size,
    input_strides: tuple[int, ...],
    dtype: torch.dtype,
    weight_shape: torch.Size,
    in_channels: int,
    stride: int | tuple[int, int],
    padding: int | tuple[int, int] | str,
    dilation: int | tuple[int, int],
) -> _Plan | None:
    """Return the plan; None for what goes the way of all calls, such as all that is wrong."""
    out_channels, _, height, width = weight_shape
    if dtype not in DTYPES or 0 in input_strides or out_channels % in_channels:
        return None
    filter_shape = (height, width, in_channels, out_channels // in_channels)
    try:
        geometry = solve(input_shape, filter_shape, *layer_options(stride, padding, dilation))
    except (TypeError, ValueError, OverflowError):
        return None
    a, b, c, d = input_strides
    is_channels_last = is_channels_last_memory(input_shape, input_strides)
    if is_channels_last:
        return _Plan(as_nhwc(geometry), DTYPES[dtype][1], (a, c, d, b), True, dtype.itemsize)
    return _Plan(geometry, DTYPES[dtype][1], (a, b, c, d), False, dtype.itemsize)


def convolve(layer: Any, input: Tensor) -> Tensor | None:
    """Return the output of a layer with a group for each channel; None if that takes more."""
    parameters = layer._parameters
    weight, bias = parameters.get("weight"), parameters.get("bias")
    if weight is None or torch.is_grad_enabled() or is_observed():
        return None
    if not is_plain(input) or not is_plain(weight) or not weight.is_contiguous():
        return None
    dtype = input.dtype
    if weight.dtype is not dtype or input.dim() != 4:
        return None
    bias_address = 0
    if bias is not None:
        if not is_plain(bias) or bias.dtype is not dtype or not bias.is_contiguous():
            return None
        if bias.shape != weight.shape[:1]:
            return None
        bias_address = bias.data_ptr()
    plan = _make_plan(
        input.shape,
        input.stride(),
        dtype,
        weight.shape,
        layer.in_channels,
        layer.stride,
        layer.padding,
        layer.dilation,
    )
    input_address, weight_address = input.data_ptr(), weight.data_ptr()
    if plan is None or (input_address | weight_address | bias_address) % plan.element_size:
        return None
    output = empty(plan.geometry.output_shape, "input or padding", dtype, plan.is_channels_last)
    _native.forward_at(
        plan.geometry.native,
        plan.code,
        input_address,
        plan.input_strides,
        weight_address,
        True,
        bias_address,
        output.data_ptr(),
    )
    return output
