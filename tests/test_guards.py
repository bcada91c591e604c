"""Nothing is written but the output: it lies in a larger buffer whose edges must stay as they are.

Here the native function is called directly, because the public one allocates its own output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cases import Case, exact_data, expected_in, to_format
from comparator import DTYPES, Array, assert_matches
from depthwise import _native, _numpy
from depthwise._geometry import make_geometry
from families import (
    channel_cases,
    degenerate_cases,
    dilation_cases,
    drawn_cases,
    filter_cases,
    huge_filter_cases,
    image_size_cases,
    large_cases,
    larger_than_cache_cases,
    multiplier_cases,
    padding_cases,
    stride_cases,
)

GUARD_BYTES = 4096
# NaN in every type when repeated, hence no result of a finite problem.
POISON = 0xFF

CASES = [
    *channel_cases(),
    *image_size_cases(),
    *list(filter_cases())[::2],
    *list(multiplier_cases())[::2],
    *list(stride_cases())[::3],
    *list(dilation_cases())[::3],
    *padding_cases(),
    *degenerate_cases(),
    *large_cases(),
    *huge_filter_cases(),
    *list(drawn_cases())[::2],
]


def forward_into(output: Array, input: Array, filter: Array, arguments: dict[str, Any]) -> None:
    """Call the native forward function as `_numpy` does, with an output of our own."""
    geometry = make_geometry(input.shape, filter.shape, **arguments)
    assert geometry.output_shape == output.shape
    native_geometry = _numpy._lower(geometry)[0]
    dtype, code = _numpy._dtype_and_code(input.dtype)
    assert dtype == output.dtype
    as_buffers = [
        array.view(np.uint16) if dtype.itemsize == 2 else array for array in (input, filter, output)
    ]
    _native.forward(native_geometry, code, *as_buffers)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", dict.fromkeys(CASES), ids=str)
def test_nothing_around_the_output_changes(case: Case, data_format: str, isa: str) -> None:
    input, filter, nhwc = exact_data(case)
    expected = expected_in(nhwc, data_format)
    if expected.values.size == 0:
        return
    for number, dtype in enumerate(DTYPES):
        size = expected.values.size * dtype.itemsize
        memory = np.full(size + 2 * GUARD_BYTES, POISON, np.uint8)
        # Aligned to the element, but not to a vector for most of the dtypes.
        start = GUARD_BYTES - number * dtype.itemsize
        output = memory[start : start + size].view(dtype).reshape(expected.values.shape)
        typed_input, typed_filter = (
            to_format(input, data_format).astype(dtype),
            filter.astype(dtype),
        )
        forward_into(output, typed_input, typed_filter, case.arguments(data_format))
        context = f"{case}, {data_format}, {dtype}"
        assert (memory[:start] == POISON).all(), f"{context}: written before the output"
        assert (memory[start + size :] == POISON).all(), f"{context}: written after the output"
        assert_matches(output, expected, dtype, exact=True, context=context)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", list(larger_than_cache_cases()), ids=str)
def test_nothing_around_a_large_output_changes(case: Case, data_format: str, isa: str) -> None:
    """Stores past the caches need an aligned output, which the other test does not offer them."""
    input, filter, nhwc = exact_data(case)
    expected = expected_in(nhwc, data_format)
    image = to_format(input, data_format).astype(np.float32)
    copies = 24_000_000 // image.nbytes
    size = copies * expected.values.size
    memory = np.full(size + 2 * GUARD_BYTES, np.nan, np.float32)
    start = (-memory.ctypes.data % 64) // 4 + GUARD_BYTES
    output = memory[start : start + size].reshape(copies, *expected.values.shape[1:])
    batch = np.repeat(image, copies, axis=0)
    forward_into(output, batch, filter.astype(np.float32), case.arguments(data_format))
    assert np.isnan(memory[:start]).all()
    assert np.isnan(memory[start + size :]).all()
    assert_matches(output[-1:], expected, np.float32, exact=True)
    assert not np.isnan(output).any()


def test_the_binding_refuses_arrays_that_do_not_fit() -> None:
    """Memory safety does not rest on the Python side alone."""
    input, filter = np.ones((1, 5, 6, 3), np.float32), np.ones((3, 3, 3, 2), np.float32)
    output = np.zeros((1, 5, 6, 6), np.float32)
    geometry = make_geometry(input.shape, filter.shape, [1] * 4, "SAME")
    native_geometry = _numpy._lower(geometry)[0]
    code = _numpy._dtype_and_code(np.dtype(np.float32))[1]
    wrong = [
        (code, input[:, 1:], filter, output),
        (code, input, filter[1:], output),
        (code, input, filter, output[:, :, 1:].copy()),
        (code, input.astype(np.float64), filter, output),
        (code, input, filter.astype(np.float16).view(np.uint16), output),
        (code, input[0], filter, output),
        (code, input, filter, output[:, ::-1]),
        (-1, input, filter, output),
        (99, input, filter, output),
    ]
    for arguments in wrong:
        with pytest.raises((TypeError, ValueError)):
            _native.forward(native_geometry, *arguments)
    output.flags.writeable = False
    with pytest.raises((TypeError, ValueError)):
        _native.forward(native_geometry, code, input, filter, output)
    assert not output.any()
