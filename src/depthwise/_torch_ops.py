"""The three functions as operators of PyTorch.

Requirements that shaped this file:
- torch.compile and torch.export see one operator with the user's arguments, whose sizes may be
  symbols: so the geometry is made inside of it, and once more for fake tensors;
- NCHW tensors in channels-last memory run on the kernels for NHWC, and give such tensors;
- the kernels read tensors in place, and results lie in the memory that NumPy's results lie in.

``_torch_autograd`` calls the operators and gives them their gradients, ``_torch_vmap`` maps them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import _kernels, _native
from ._geometry import Geometry, Padding, check_out_backprop, solve_geometry

# What the operators take besides tensors and sizes: strides, padding, explicit_paddings,
# data_format, dilations. No argument of an operator is either a string or a list, so that the
# padding takes two, as in TensorFlow's own operators.
Options = tuple[tuple[int, ...], str, tuple[int, ...], str, tuple[int, ...]]

_OPTIONS = (
    "int[] strides, str padding, SymInt[] explicit_paddings, str data_format, int[] dilations"
)

# PyTorch's types, NumPy's that their memory is seen as, and the kernels' codes.
DTYPES: dict[torch.dtype, tuple[np.dtype[Any], int]] = {
    torch.float32: (np.dtype(np.float32), _kernels.DTYPE_CODES["float32"]),
    torch.float64: (np.dtype(np.float64), _kernels.DTYPE_CODES["float64"]),
    torch.float16: (np.dtype(np.float16), _kernels.DTYPE_CODES["float16"]),
    torch.bfloat16: (np.dtype(np.uint16), _kernels.DTYPE_CODES["bfloat16"]),
}


def make_options(
    strides: tuple[int, ...], padding: Padding, data_format: str, dilations: tuple[int, ...]
) -> Options:
    """Return the options of an operator from what ``normalize_options`` returns."""
    if isinstance(padding, str):
        return strides, padding, (), data_format, dilations
    return strides, "EXPLICIT", tuple(n for pair in padding for n in pair), data_format, dilations


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Return what somebody has set in a layer as height and width."""
    return (value, value) if isinstance(value, int) else value


def layer_options(
    stride: int | tuple[int, int],
    padding: int | tuple[int, int] | str,
    dilation: int | tuple[int, int],
) -> Options:
    """Return the options of an operator for what a layer has."""
    strides = (1, 1, *_pair(stride))
    dilation = _pair(dilation)
    if isinstance(padding, str):
        return strides, padding.upper(), (), "NCHW", dilation
    height, width = _pair(padding)
    pads = (0, 0, 0, 0, height, height, width, width)
    return strides, "EXPLICIT", pads, "NCHW", dilation


# The operators: a kernel for CPU tensors, and the shape and strides of its result for fake ones.

LIBRARY = torch.library.Library("depthwise", "DEF")


def _define(
    name: str, arguments: str, kernel: Callable[..., Tensor], fake: Callable[..., Tensor]
) -> Any:
    LIBRARY.define(
        f"{name}({arguments}, {_OPTIONS}) -> Tensor",
        tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order),
    )
    LIBRARY.impl(name, kernel, "CPU")
    torch.library.register_fake(f"depthwise::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.depthwise, name).default


def _solve_by(
    solve_geometry: Callable[..., Geometry],
    input_sizes: Sequence[int],
    filter_sizes: Sequence[int],
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
    dilations: Sequence[int],
) -> Geometry:
    pads: Padding = padding
    if padding == "EXPLICIT":
        pads = tuple(zip(explicit_paddings[::2], explicit_paddings[1::2], strict=True))
    return solve_geometry(
        tuple(input_sizes), tuple(filter_sizes), tuple(strides), pads, data_format, tuple(dilations)
    )


def solve(input_sizes: Sequence[int], filter_sizes: Sequence[int], *options: Any) -> Geometry:
    """Return the geometry of sizes and an operator's options."""
    return _solve_by(solve_geometry, input_sizes, filter_sizes, *options)


def _solve_symbolic(
    input_sizes: Sequence[int], filter_sizes: Sequence[int], *options: Any
) -> Geometry:
    """Do the same for sizes that may be symbols, which no cache takes: they have no hash."""
    return _solve_by(solve_geometry.__wrapped__, input_sizes, filter_sizes, *options)


def _check(dtype: torch.dtype, *others: Tensor) -> None:
    """Raise TypeError if a tensor has another dtype: the kernels see nothing but addresses."""
    for other in others:
        if other.dtype is not dtype:
            raise TypeError(f"a tensor has dtype {other.dtype}, another {dtype}; needed one dtype")


def _check_bias(bias: Tensor | None, geometry: Geometry, dtype: torch.dtype) -> None:
    if bias is None:
        return
    _check(dtype, bias)
    if tuple(bias.shape) != (geometry.out_channels,):
        raise ValueError(
            f"bias has shape {tuple(bias.shape)}; needed ({geometry.out_channels},), an element "
            "for each channel of the output"
        )


def is_channels_last_memory(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether an NCHW image lies in memory as NHWC, and is read there: see _readable()."""
    return shape[1] != 1 and strides[1] == 1 and strides[3] != 1 and 0 not in strides


def _is_channels_last(image: Tensor, data_format: str) -> bool:
    return data_format == "NCHW" and is_channels_last_memory(image.shape, image.stride())


@lru_cache(maxsize=1024)
def as_nhwc(geometry: Geometry) -> Geometry:
    """Return the problem of an NCHW image that lies in memory as NHWC."""
    return dataclasses.replace(geometry, data_format="NHWC")


def _readable(image: Tensor) -> Tensor:
    """Return an image that the kernels read in place and fast: aligned, with no column repeated.

    The gradient of a sum repeats one number for all pixels, which would be packed one by one.
    """
    if 0 in image.stride():
        return image.clone(memory_format=torch.contiguous_format)
    return image.clone() if image.data_ptr() % image.element_size() else image


def _dense(tensor: Tensor) -> Tensor:
    """Return a bias or filter that the kernels can read: contiguous and aligned."""
    tensor = tensor.contiguous()
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def _readable_filter(filter: Tensor) -> tuple[Tensor, bool]:
    """Return a filter that the kernels can read, and whether the taps of a channel lie together.

    They do in the parameters of PyTorch's layers. To copy 1152 channels of 5x5 takes 40 us.
    """
    if not filter.is_contiguous():
        parameters = filter.permute(2, 3, 0, 1)
        if parameters.is_contiguous():
            return _dense(parameters), True
    return _dense(filter), False


def _strides(image: Tensor, channels_last: bool) -> tuple[int, int, int, int]:
    """Return the strides in the order of the kernels' axes, NHWC if NCHW is `channels_last`."""
    a, b, c, d = image.stride()
    return (a, c, d, b) if channels_last else (a, b, c, d)


def empty(
    shape: tuple[int, int, int, int], causes: str, dtype: torch.dtype, channels_last: bool = False
) -> Tensor:
    """Return a tensor for a result of `shape`; if that is NHWC for NCHW, it is seen as NCHW."""
    array = _kernels.empty_result(shape, DTYPES[dtype][0], causes)
    tensor = torch.from_numpy(array.transpose(0, 3, 1, 2) if channels_last else array)
    if array.size == 0:  # With the strides that PyTorch gives such tensors, as _fake_image() does.
        empty = torch.empty(tensor.shape, dtype=dtype)
        return empty.to(memory_format=torch.channels_last) if channels_last else empty
    return tensor.view(dtype) if dtype is torch.bfloat16 else tensor


def _fake_image(image: Tensor, shape: Sequence[int], data_format: str) -> Tensor:
    """Return an empty tensor with the strides that the kernels' result has."""
    if _is_channels_last(image, data_format):
        return image.new_empty(shape).to(memory_format=torch.channels_last)
    return image.new_empty(shape)


def conv2d_cpu(input: Tensor, filter: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    geometry = solve(input.shape, filter.shape, *options)
    _check(input.dtype, filter)
    _check_bias(bias, geometry, input.dtype)
    input, (filter, taps_together) = _readable(input), _readable_filter(filter)
    bias = None if bias is None else _dense(bias)
    channels_last = _is_channels_last(input, geometry.data_format)
    if channels_last:
        geometry = as_nhwc(geometry)
    output = empty(geometry.output_shape, "input or padding", input.dtype, channels_last)
    _native.forward_at(
        geometry.native,
        DTYPES[input.dtype][1],
        input.data_ptr(),
        _strides(input, channels_last),
        filter.data_ptr(),
        taps_together,
        0 if bias is None else bias.data_ptr(),
        output.data_ptr(),
    )
    return output


def _conv2d_fake(input: Tensor, filter: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    geometry = _solve_symbolic(input.shape, filter.shape, *options)
    _check_bias(bias, geometry, input.dtype)
    return _fake_image(input, geometry.output_shape, geometry.data_format)


def backprop_input_cpu(
    input_sizes: Sequence[int], filter: Tensor, out_backprop: Tensor, *options: Any
) -> Tensor:
    geometry = solve(input_sizes, filter.shape, *options)
    check_out_backprop(geometry, tuple(out_backprop.shape))
    _check(filter.dtype, out_backprop)
    out_backprop, (filter, taps_together) = _readable(out_backprop), _readable_filter(filter)
    channels_last = _is_channels_last(out_backprop, geometry.data_format)
    if channels_last:
        geometry = as_nhwc(geometry)
    gradient = empty(geometry.input_shape, "input_sizes", filter.dtype, channels_last)
    _native.backprop_input_at(
        geometry.native,
        DTYPES[filter.dtype][1],
        filter.data_ptr(),
        taps_together,
        out_backprop.data_ptr(),
        _strides(out_backprop, channels_last),
        gradient.data_ptr(),
    )
    return gradient


def _backprop_input_fake(
    input_sizes: Sequence[int], filter: Tensor, out_backprop: Tensor, *options: Any
) -> Tensor:
    geometry = _solve_symbolic(input_sizes, filter.shape, *options)
    return _fake_image(out_backprop, geometry.input_shape, geometry.data_format)


def backprop_filter_cpu(
    input: Tensor, filter_sizes: Sequence[int], out_backprop: Tensor, *options: Any
) -> Tensor:
    geometry = solve(input.shape, filter_sizes, *options)
    check_out_backprop(geometry, tuple(out_backprop.shape))
    _check(input.dtype, out_backprop)
    input, out_backprop = _readable(input), _readable(out_backprop)
    channels_last = _is_channels_last(input, geometry.data_format)
    if channels_last:
        geometry = as_nhwc(geometry)
    if channels_last != _is_channels_last(out_backprop, options[3]):
        # Two images in different orders would be packed element by element.
        order = torch.channels_last if channels_last else torch.contiguous_format
        out_backprop = out_backprop.contiguous(memory_format=order)
    gradient = empty(geometry.filter_shape, "filter_sizes", input.dtype)
    _native.backprop_filter_at(
        geometry.native,
        DTYPES[input.dtype][1],
        input.data_ptr(),
        _strides(input, channels_last),
        out_backprop.data_ptr(),
        _strides(out_backprop, channels_last),
        gradient.data_ptr(),
        False,
    )
    return gradient


def _backprop_filter_fake(
    input: Tensor, filter_sizes: Sequence[int], out_backprop: Tensor, *options: Any
) -> Tensor:
    geometry = _solve_symbolic(input.shape, filter_sizes, *options)
    return input.new_empty(geometry.filter_shape)


def _define_both(
    name: str, arguments: str, kernel: Callable[..., Tensor], fake: Callable[..., Tensor]
) -> tuple[Any, Any]:
    """Define an operator twice: for graphs, where it has a gradient, and for calls, without one."""
    return (
        _define(name, arguments, kernel, fake),
        _define(f"_{name}", arguments, kernel, fake),
    )


GRAPH_CONV2D, CONV2D = _define_both(
    "depthwise_conv2d", "Tensor input, Tensor filter, Tensor? bias", conv2d_cpu, _conv2d_fake
)
GRAPH_BACKPROP_INPUT, BACKPROP_INPUT = _define_both(
    "depthwise_conv2d_backprop_input",
    "SymInt[] input_sizes, Tensor filter, Tensor out_backprop",
    backprop_input_cpu,
    _backprop_input_fake,
)
GRAPH_BACKPROP_FILTER, BACKPROP_FILTER = _define_both(
    "depthwise_conv2d_backprop_filter",
    "Tensor input, SymInt[] filter_sizes, Tensor out_backprop",
    backprop_filter_cpu,
    _backprop_filter_fake,
)
