"""The public gradients: their documentation, and the way to the backend of the arrays."""

from __future__ import annotations

from typing import Any, TypeVar

from numpy import ndarray

from ._backends import find_backend
from ._errors import DOCUMENTED, begin_with, check_name
from ._native import BACKPROP_FILTER, BACKPROP_INPUT, call_like_before

ArrayT = TypeVar("ArrayT")


def depthwise_conv2d_backprop_input(
    input_sizes: Any,
    filter: ArrayT,
    out_backprop: ArrayT,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> ArrayT:
    """Compute the gradient of a depthwise convolution with respect to its input.

    That is the gradient of ``sum(depthwise_conv2d(input, filter, ...) * out_backprop)``, which the
    input itself has no part in. With ``data_format="NHWC"`` and `pad_top` rows and `pad_left`
    columns of padding before the image::

        input_backprop[b, strides[1]*i + dilations[0]*di - pad_top,
                          strides[2]*j + dilations[1]*dj - pad_left, k] =
            sum over all i, j, di, dj that lead there, and over q,
                of filter[di, dj, k, q] * out_backprop[b, i, j, k*channel_multiplier + q]

    Parameters
    ----------
    input_sizes : sequence of four integers >= 0
        Shape of the input, ordered by `data_format`: list, tuple or integer array.
    filter : array of shape [filter_height, filter_width, in_channels, channel_multiplier]
        Of a type that `depthwise_conv2d` takes; float16, bfloat16 (ml_dtypes), float32 or float64,
        of any memory layout, all sizes >= 1. Nested lists of numbers become float32. Never
        modified; copied only if it is unaligned, not in native byte order or not C-contiguous.
    out_backprop : array of the shape of the output
        [batch, out_height, out_width, in_channels * channel_multiplier] or, with
        ``data_format="NCHW"``, [batch, in_channels * channel_multiplier, out_height, out_width].
        Of the array type and dtype of `filter`, of any memory layout. Never modified; copied only
        if it is unaligned or not in native byte order.
    strides, padding, data_format, dilations
        Those of the convolution, see `depthwise_conv2d`.
    name : str, optional
        Begins the message of errors; of PyTorch and JAX also a scope in profiles and traces.

    Returns
    -------
    array of shape `input_sizes`
        New, C-contiguous, of the array type and dtype of `filter`. Zero wherever no tap reaches:
        between strides longer than the filter, beyond the last window, and everywhere if
        `out_backprop` is empty.

    Raises
    ------
    TypeError
        An argument has the wrong type; an array has an unsupported dtype; they differ in dtype or
        in array type.
    ValueError
        A rank, size or value is not as above; `out_backprop` does not have the shape that
        `depthwise_conv2d` would return, which the message tells.
    OverflowError
        A padding or the size of the dilated filter exceeds 2**31 - 1.
    MemoryError
        The gradient does not fit in memory.

    Notes
    -----
    The semantics are those of TensorFlow 2.21,
    https://www.tensorflow.org/api_docs/python/tf/nn/depthwise_conv2d_backprop_input, with these
    differences: strides may differ between height and width; a dilation together with a stride is
    an error; `out_backprop` may be empty; an element that no tap reaches is zero even if the filter
    is infinite.

    float64 accumulates in float64, the other types in float32, with one rounding at the end. Equal
    arguments give the same bits for any number of threads, batch and memory layout.

    Examples
    --------
    The first example of `depthwise_conv2d`: each pixel of the middle row is under both taps, those
    above and below are under one.

    >>> import numpy as np
    >>> kernel = np.array([[1, 2], [3, 4]], np.float32).reshape(2, 1, 1, 2)
    >>> out_backprop = np.ones((1, 2, 2, 2), np.float32)
    >>> gradient = depthwise_conv2d_backprop_input(
    ...     [1, 3, 2, 1], kernel, out_backprop, strides=[1, 1, 1, 1], padding="VALID"
    ... )
    >>> gradient[0, :, :, 0]
    array([[ 3.,  3.],
           [10., 10.],
           [ 7.,  7.]], dtype=float32)
    """
    gradient: ArrayT | None
    if name is not None:
        check_name(name)
    elif type(filter) is ndarray:
        gradient = call_like_before(
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
    try:
        backend = find_backend(filter, out_backprop, ("filter", "out_backprop"))
        arguments = (input_sizes, filter, out_backprop, strides, padding, data_format, dilations)
        computed: ArrayT
        if name is None:
            computed = backend.depthwise_conv2d_backprop_input(*arguments)
        else:
            with backend.trace_scope(name):
                computed = backend.depthwise_conv2d_backprop_input(*arguments)
    except DOCUMENTED as error:
        begin_with(name, error)
        raise
    return computed


def depthwise_conv2d_backprop_filter(
    input: ArrayT,
    filter_sizes: Any,
    out_backprop: ArrayT,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> ArrayT:
    """Compute the gradient of a depthwise convolution with respect to its filter.

    That is the gradient of ``sum(depthwise_conv2d(input, filter, ...) * out_backprop)``, which the
    filter itself has no part in. With ``data_format="NHWC"``, over the padded input::

        filter_backprop[di, dj, k, q] =
            sum over b, i, j of out_backprop[b, i, j, k*channel_multiplier + q]
                * input[b, strides[1]*i + dilations[0]*di, strides[2]*j + dilations[1]*dj, k]

    Parameters
    ----------
    input : array of shape [batch, in_height, in_width, in_channels]
        Of a type that `depthwise_conv2d` takes; float16, bfloat16 (ml_dtypes), float32 or float64,
        of any memory layout. With ``data_format="NCHW"``, [batch, in_channels, in_height,
        in_width]. Nested lists of numbers become float32. Never modified; copied only if it is
        unaligned or not in native byte order.
    filter_sizes : sequence of four integers >= 1
        Shape of the filter, [filter_height, filter_width, in_channels, channel_multiplier] for
        both data formats: list, tuple or integer array.
    out_backprop : array of the shape of the output
        [batch, out_height, out_width, in_channels * channel_multiplier] or, with
        ``data_format="NCHW"``, [batch, in_channels * channel_multiplier, out_height, out_width].
        Of the array type and dtype of `input`; otherwise like it.
    strides, padding, data_format, dilations
        Those of the convolution, see `depthwise_conv2d`.
    name : str, optional
        Begins the message of errors; of PyTorch and JAX also a scope in profiles and traces.

    Returns
    -------
    array of shape `filter_sizes`
        New, C-contiguous, of the array type and dtype of `input`. Zero for taps that only meet
        padding, and everywhere if `input` or `out_backprop` is empty.

    Raises
    ------
    TypeError
        An argument has the wrong type; an array has an unsupported dtype; they differ in dtype or
        in array type.
    ValueError
        A rank, size or value is not as above; `out_backprop` does not have the shape that
        `depthwise_conv2d` would return, which the message tells.
    OverflowError
        A padding or the size of the dilated filter exceeds 2**31 - 1.
    MemoryError
        The gradient does not fit in memory.

    Notes
    -----
    The semantics are those of TensorFlow 2.21,
    https://www.tensorflow.org/api_docs/python/tf/nn/depthwise_conv2d_backprop_filter, with these
    differences: strides may differ between height and width; a dilation together with a stride is
    an error; `input` and `out_backprop` may be empty; padding contributes nothing even where
    `out_backprop` is infinite.

    float64 accumulates in float64, the other types in float32, with one rounding at the end. The
    sums over the batch, rows and columns are made in blocks, so that the error grows with the
    square root of their length, not with the length. Equal arguments give the same bits for any
    number of threads and memory layout.

    Examples
    --------
    The first example of `depthwise_conv2d`: the upper tap meets rows 0 and 1 of the image, the
    lower one rows 1 and 2.

    >>> import numpy as np
    >>> x = np.array([[1, 2], [3, 4], [5, 6]], np.float32).reshape(1, 3, 2, 1)
    >>> out_backprop = np.ones((1, 2, 2, 2), np.float32)
    >>> gradient = depthwise_conv2d_backprop_filter(
    ...     x, [2, 1, 1, 2], out_backprop, strides=[1, 1, 1, 1], padding="VALID"
    ... )
    >>> gradient[:, 0, 0, :]
    array([[10., 10.],
           [18., 18.]], dtype=float32)
    """
    gradient: ArrayT | None
    if name is not None:
        check_name(name)
    elif type(input) is ndarray:
        gradient = call_like_before(
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
    try:
        backend = find_backend(input, out_backprop, ("input", "out_backprop"))
        arguments = (input, filter_sizes, out_backprop, strides, padding, data_format, dilations)
        computed: ArrayT
        if name is None:
            computed = backend.depthwise_conv2d_backprop_filter(*arguments)
        else:
            with backend.trace_scope(name):
                computed = backend.depthwise_conv2d_backprop_filter(*arguments)
    except DOCUMENTED as error:
        begin_with(name, error)
        raise
    return computed
