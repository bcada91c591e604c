"""PyTorch: the public functions on tensors, a module, and faster models in one call.

`DepthwiseConv2d` is `torch.nn.Conv2d` with a group for each channel, computed by the kernels of
this package. `accelerate` makes all such layers of a model compute so, `restore` undoes it.

Importing this imports PyTorch; ``_backends`` does it for whoever passes a tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from . import _torch_autograd, _torch_layers
from ._geometry import normalize_options, normalize_sizes
from ._native import BACKPROP_FILTER, BACKPROP_INPUT, FORWARD
from ._torch_calls import call
from ._torch_ops import DTYPES, layer_options, make_options

__all__ = ["DepthwiseConv2d", "accelerate", "restore"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def trace_scope(name: str) -> AbstractContextManager[Any]:
    """Return a scope that shows `name` in the profiles of PyTorch."""
    scope: AbstractContextManager[Any] = torch.profiler.record_function(name)
    return scope


def depthwise_conv2d(
    input: Tensor, filter: Tensor, strides: Any, padding: Any, data_format: Any, dilations: Any
) -> Tensor:
    """Return the output."""
    output = call(FORWARD, input, filter, None, strides, padding, data_format, dilations)
    if output is not None:
        return output
    input, filter = _check((input, filter), ("input", "filter"))
    options = make_options(*normalize_options(strides, padding, data_format, dilations))
    return _torch_autograd.conv2d(input, filter, None, options)


def depthwise_conv2d_backprop_input(
    input_sizes: Any,
    filter: Tensor,
    out_backprop: Tensor,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
) -> Tensor:
    """Return the gradient with respect to the input."""
    gradient = call(
        BACKPROP_INPUT,
        filter,
        out_backprop,
        input_sizes,
        strides,
        padding,
        data_format,
        dilations,
    )
    if gradient is not None:
        return gradient
    filter, out_backprop = _check((filter, out_backprop), ("filter", "out_backprop"))
    sizes = normalize_sizes(input_sizes, "input_sizes", least=0)
    options = make_options(*normalize_options(strides, padding, data_format, dilations))
    return _torch_autograd.backprop_input(sizes, filter, out_backprop, options)


def depthwise_conv2d_backprop_filter(
    input: Tensor,
    filter_sizes: Any,
    out_backprop: Tensor,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
) -> Tensor:
    """Return the gradient with respect to the filter."""
    gradient = call(
        BACKPROP_FILTER,
        input,
        out_backprop,
        filter_sizes,
        strides,
        padding,
        data_format,
        dilations,
    )
    if gradient is not None:
        return gradient
    input, out_backprop = _check((input, out_backprop), ("input", "out_backprop"))
    sizes = normalize_sizes(filter_sizes, "filter_sizes", least=1)
    options = make_options(*normalize_options(strides, padding, data_format, dilations))
    return _torch_autograd.backprop_filter(input, sizes, out_backprop, options)


class DepthwiseConv2d(nn.Conv2d):
    """Convolve every channel with filters of its own, and add a bias.

    It is ``torch.nn.Conv2d(in_channels, in_channels * channel_multiplier, ...,
    groups=in_channels)`` with the same parameters under the same names, so that either loads the
    state of the other. With `data_format` NCHW and ``filter[di, dj, k, q] =
    weight[k*channel_multiplier + q, 0, di, dj]`` it computes ``depthwise_conv2d(input, filter) +
    bias``.

    Parameters
    ----------
    in_channels : int
    kernel_size : int or pair of ints
        Height and width of the filter.
    stride : int or pair of ints, default 1
    padding : int, pair of ints, "same", "valid", "SAME" or "VALID", default 0
        Zeros on both sides of height and width. In lower case as `torch.nn.Conv2d` has it, where
        "same" wants a stride of 1; in upper case as TensorFlow: with "SAME" the output size is
        ceil(input size / stride), and an odd zero goes after.
    dilation : int or pair of ints, default 1
        Distance between the taps; may be combined with a stride.
    channel_multiplier : int, default 1
        Outputs for each input channel.
    bias : bool, default True
    device, dtype : optional
        Of the parameters. The kernels are for the CPU and float16, bfloat16, float32, float64.

    Raises
    ------
    TypeError, ValueError
        In the call: the input is not on the CPU, of another dtype than the parameters, or too small
        for the filter.

    Notes
    -----
    Input and output are [batch, channels, height, width], or without the batch. An input in
    channels-last memory gives an output in channels-last memory.

    Examples
    --------
    >>> import torch
    >>> layer = DepthwiseConv2d(8, kernel_size=3, stride=2, padding="SAME", channel_multiplier=2)
    >>> layer(torch.ones(1, 8, 15, 15)).shape
    torch.Size([1, 16, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        channel_multiplier: int = 1,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        is_tensorflow_s = padding in ("SAME", "VALID")
        super().__init__(
            in_channels,
            in_channels * channel_multiplier,
            kernel_size,
            stride,
            0 if is_tensorflow_s else padding,
            dilation,
            groups=in_channels,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        if is_tensorflow_s:
            self.padding = padding

    def forward(self, input: Tensor) -> Tensor:
        """Return the output of a batch of images, or of one."""
        output = _torch_layers.convolve(self, input)
        return _convolve_by_operator(self, input) if output is None else output


class _Accelerated:
    """What `accelerate` puts before the class of a layer."""

    def forward(self: Any, input: Tensor) -> Tensor:
        """Return the output: by our kernels if they take the input, else as before."""
        output: Tensor | None = _torch_layers.convolve(self, input)
        if output is not None:
            return output
        if input.device.type == "cpu" and input.dtype in DTYPES and self.weight.dtype in DTYPES:
            return _convolve_by_operator(self, input)
        output = super().forward(input)  # type: ignore[misc]
        return cast(Tensor, output)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickle and copy by the class of before, since this one has no name in a module."""
        state = super().__reduce_ex__(max(2, int(protocol)))[2:]
        return _new_accelerated, (_class_before(self),), *state


@cache
def _accelerated_class(layer_class: type) -> type:
    # torch.fx takes the layers of this module as they are, and looks into others.
    attributes = {"__module__": nn.Conv2d.__module__}
    return type(f"Accelerated{layer_class.__name__}", (_Accelerated, layer_class), attributes)


def _accelerated_class_of(layer: nn.Conv2d) -> type:
    layer_class: type = type(layer)
    if is_parametrized(layer):
        return _with_base(layer_class, _accelerated_class(layer_class.__bases__[0]))
    return _accelerated_class(layer_class)


def _class_before(layer: _Accelerated) -> type:
    """Undo _accelerated_class_of()."""
    layer_class = type(layer)
    if is_parametrized(layer):
        return _with_base(layer_class, layer_class.__bases__[0].__bases__[1])
    return layer_class.__bases__[1]


def _with_base(layer_class: type, base: type) -> type:
    """Return the class of a layer with parametrizations, which PyTorch makes for it, on `base`."""
    own = {k: v for k, v in vars(layer_class).items() if k not in ("__dict__", "__weakref__")}
    return type(layer_class)(layer_class.__name__, (base,), own)


def _new_accelerated(layer_class: type) -> Any:
    accelerated: Any = _accelerated_class(layer_class)
    return accelerated.__new__(accelerated)


def accelerate(model: ModuleT, verbose: bool = True) -> ModuleT:
    """Make the depthwise layers of a model compute by the kernels of this package, in place.

    Those are the `torch.nn.Conv2d` with a group for each input channel and padding with zeros.
    Nothing but their class changes: they keep their parameters, their state, their hooks, and
    their place in the model. On other devices and dtypes they compute as before.

    Parameters
    ----------
    model : torch.nn.Module
        Changed, not copied.
    verbose : bool, default True
        Whether to print how many layers were replaced, and why others were left.

    Returns
    -------
    torch.nn.Module
        `model`.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8))
    >>> model = accelerate(model)
    depthwise: 1 of 2 Conv2d replaced
      1 left: groups is not in_channels
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    reasons: Counter[str] = Counter()
    for layer in layers:
        if reason := _reason_to_leave(layer):
            reasons[reason] += 1
        else:
            layer.__class__ = _accelerated_class_of(layer)
    if verbose:
        print(f"depthwise: {len(layers) - reasons.total()} of {len(layers)} Conv2d replaced")
        for reason, count in reasons.most_common():
            print(f"  {count} left: {reason}")
    return model


def restore(model: ModuleT) -> ModuleT:
    """Undo `accelerate`, in place: every layer has the class that it had before.

    Parameters
    ----------
    model : torch.nn.Module
        Changed, not copied.

    Returns
    -------
    torch.nn.Module
        `model`.
    """
    for layer in model.modules():
        if isinstance(layer, _Accelerated):
            layer.__class__ = _class_before(layer)
    return model


def _reason_to_leave(layer: nn.Conv2d) -> str | None:
    layer_class = type(layer)
    if isinstance(layer, (_Accelerated, DepthwiseConv2d)):
        return "computed by depthwise already"
    if layer.groups != layer.in_channels:
        return "groups is not in_channels"
    if layer.padding_mode != "zeros":
        return f"padding_mode is {layer.padding_mode}"
    for method in ("forward", "_conv_forward"):
        is_own = getattr(layer_class, method, None) is not getattr(nn.Conv2d, method, None)
        if is_own or method in vars(layer):
            return f"{layer_class.__name__} has a {method} of its own"
    if layer.weight.dtype not in DTYPES:
        return f"parameters of {layer.weight.dtype}"
    return None


def _convolve_by_operator(layer: nn.Conv2d, input: Tensor) -> Tensor:
    """Compute a layer with a group for each input channel, the way of all calls."""
    is_single = input.dim() == 3
    if is_single:
        input = input.unsqueeze(0)
    bias = layer.bias
    tensors, names = (input, layer.weight, bias), ("input", "weight", "bias")
    count = 2 if bias is None else 3
    input, weight, *rest = _check(tensors[:count], names[:count])
    filter = _torch_layers.filter_of(weight, layer.in_channels)
    options = layer_options(layer.stride, layer.padding, layer.dilation)
    output = _torch_autograd.conv2d(input, filter, rest[0] if rest else None, options)
    return output.squeeze(0) if is_single else output


def _check(tensors: Sequence[Tensor], arguments: Sequence[str]) -> Sequence[Tensor]:
    """Return tensors that the operators take, cast as autocast wants it."""
    if torch.is_autocast_enabled("cpu"):
        tensors = [_autocast(tensor) for tensor in tensors]
    dtype = tensors[0].dtype
    is_right = dtype in DTYPES
    for tensor in tensors:
        is_right = is_right and tensor.dtype is dtype and tensor.is_cpu
        is_right = is_right and tensor.layout is torch.strided
    if not is_right:
        for tensor, argument in zip(tensors, arguments, strict=True):
            _check_one(tensor, argument, dtype, arguments[0])
    return tensors


def _check_one(tensor: Tensor, argument: str, dtype: torch.dtype, dtype_argument: str) -> None:
    """Raise what is wrong with a tensor that is to have `dtype`, as another argument has."""
    if tensor.device.type not in ("cpu", "meta"):
        raise ValueError(f"{argument} is on device {tensor.device}; needed the CPU")
    if tensor.layout is not torch.strided:
        raise TypeError(f"{argument} has layout {tensor.layout}; needed torch.strided")
    if tensor.dtype not in DTYPES:
        raise TypeError(
            f"{argument} has dtype {tensor.dtype}; needed float16, bfloat16, float32 or float64"
        )
    if tensor.dtype is not dtype:
        raise TypeError(
            f"{argument} has dtype {tensor.dtype}, {dtype_argument} has {dtype}; needed the same "
            "dtype"
        )


def _autocast(tensor: Tensor) -> Tensor:
    """Cast as autocast casts the arguments of PyTorch's own convolutions."""
    if tensor.dtype in DTYPES and tensor.dtype is not torch.float64:
        return tensor.to(torch.get_autocast_dtype("cpu"))
    return tensor
