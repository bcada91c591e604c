"""The public forward function: its documentation, and the way to the backend of the arrays."""

from __future__ import annotations

from typing import Any, TypeVar

from numpy import ndarray

from ._backends import find_backend
from ._errors import DOCUMENTED, begin_with, check_name
from ._native import FORWARD, call_like_before

ArrayT = TypeVar("ArrayT")


def depthwise_conv2d(
    input: ArrayT,
    filter: ArrayT,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> ArrayT:
    """Convolve every channel of a batch of images with filters of its own.

    With ``data_format="NHWC"``, over the padded input::

        output[b, i, j, k*channel_multiplier + q] =
            sum over di, dj of filter[di, dj, k, q] * input[b, strides[1]*i + dilations[0]*di,
                                                            strides[2]*j + dilations[1]*dj, k]

    Parameters
    ----------
    input : array of shape [batch, in_height, in_width, in_channels]
        A `numpy.ndarray`, `torch.Tensor`, `jax.Array` or its tracer, or an array of any library
        that exchanges memory by DLPack on the CPU; float16, bfloat16 (ml_dtypes), float32 or
        float64, of any memory layout. With ``data_format="NCHW"``, [batch, in_channels, in_height,
        in_width]. Nested lists of numbers become float32. Never modified; copied only if it is
        unaligned or not in native byte order.
    filter : array of shape [filter_height, filter_width, in_channels, channel_multiplier]
        Of the array type and dtype of `input`, all sizes >= 1. The same shape for both data
        formats.
    strides : sequence of four integers >= 1
        Ordered by `data_format`; 1 for batch and channels. Height and width may differ.
    padding : {"SAME", "VALID"} or four pairs of integers >= 0
        Pairs are (before, after), ordered by `data_format`, (0, 0) for batch and channels. "SAME"
        pads with zeros such that the output size is ceil(input size / stride); an odd zero goes
        after.
    data_format : {"NHWC", "NCHW"}, default "NHWC"
        Order of the axes of `input` and output.
    dilations : sequence of two integers >= 1, default (1, 1)
        Distance between the taps, height then width. If one is greater than 1, all strides must
        be 1.
    name : str, optional
        Begins the message of errors; of PyTorch and JAX also a scope in profiles and traces.

    Returns
    -------
    array of shape [batch, out_height, out_width, in_channels * channel_multiplier]
        New, C-contiguous, of the array type and dtype of `input`, on its device. With
        ``data_format="NCHW"``, [batch, in_channels * channel_multiplier, out_height, out_width];
        then in channels-last memory if a PyTorch `input` is.

    Raises
    ------
    TypeError
        An argument has the wrong type; `input` or `filter` has an unsupported dtype; they differ
        in dtype or in array type.
    ValueError
        A rank, size or value is not as above; the output would have a negative size.
    OverflowError
        A padding or the size of the dilated filter exceeds 2**31 - 1.
    MemoryError
        The output does not fit in memory.

    Notes
    -----
    The semantics are those of TensorFlow 2.21,
    https://www.tensorflow.org/api_docs/python/tf/nn/depthwise_conv2d, with these differences:
    strides may differ between height and width; a dilation together with a stride is an error
    (TensorFlow warns, then computes something else); outputs of size zero are empty arrays; taps
    on padding contribute nothing even if they are infinite.

    float64 accumulates in float64, the other types in float32, with one rounding at the end. Equal
    arguments give the same bits for any number of threads, batch and memory layout.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1, 2], [3, 4], [5, 6]], np.float32).reshape(1, 3, 2, 1)
    >>> kernel = np.array([[1, 2], [3, 4]], np.float32).reshape(2, 1, 1, 2)
    >>> depthwise_conv2d(x, kernel, strides=[1, 1, 1, 1], padding="VALID")
    array([[[[10., 14.],
             [14., 20.]],
    <BLANKLINE>
            [[18., 26.],
             [22., 32.]]]], dtype=float32)
    >>> depthwise_conv2d(x, kernel, strides=[1, 1, 1, 1], padding=[[0, 0], [1, 0], [1, 0], [0, 0]])
    array([[[[ 0.,  0.],
             [ 3.,  4.],
             [ 6.,  8.]],
    <BLANKLINE>
            [[ 0.,  0.],
             [10., 14.],
             [14., 20.]],
    <BLANKLINE>
            [[ 0.,  0.],
             [18., 26.],
             [22., 32.]]]], dtype=float32)
    """
    if name is not None:
        check_name(name)
    elif type(input) is ndarray:
        output: ArrayT | None = call_like_before(
            FORWARD, input, filter, None, strides, padding, data_format, dilations
        )
        if output is not None:
            return output
    try:
        backend = find_backend(input, filter, ("input", "filter"))
        arguments = (input, filter, strides, padding, data_format, dilations)
        computed: ArrayT
        if name is None:
            computed = backend.depthwise_conv2d(*arguments)
        else:
            with backend.trace_scope(name):
                computed = backend.depthwise_conv2d(*arguments)
    except DOCUMENTED as error:
        begin_with(name, error)
        raise
    return computed
