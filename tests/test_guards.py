"""Nothing is written but the result: it lies in a larger buffer whose edges must stay as they are.

Here the native functions are called directly, because the public ones allocate their own results.
"""

from __future__ import annotations

import numpy as np
import pytest

from cases import Case
from comparator import DTYPES, assert_matches
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
    interleaved_column_cases,
    large_cases,
    multiplier_cases,
    padding_cases,
    permuted_cases,
    row_cases,
    stride_cases,
    tall_tile_cases,
)
from operations import EVERY_OPERATION, GRADIENTS, Operation, exact_data
from pixel_families import pixel_block_cases, single_pixel_cases
from plane_families import small_filter_cases, tall_walk_cases, walk_cases
from thin_families import row_tile_cases, thin_cases

GUARD_BYTES = 4096
# NaN in every type when repeated, hence no result of a finite problem.
POISON = 0xFF

CASES = [
    *channel_cases(),
    *image_size_cases(),
    *list(filter_cases())[::2],
    *list(multiplier_cases())[::2],
    *list(stride_cases())[::3],
    *single_pixel_cases(),
    *pixel_block_cases(),
    *list(dilation_cases())[::3],
    *padding_cases(),
    *row_cases(),
    *walk_cases(),
    *list(tall_walk_cases())[::2],
    *small_filter_cases(),
    *thin_cases(),
    *row_tile_cases(),
    *permuted_cases(),
    *list(tall_tile_cases())[::2],
    *list(interleaved_column_cases())[::2],
    *degenerate_cases(),
    *large_cases(),
    *huge_filter_cases(),
    *list(drawn_cases())[::2],
]


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", dict.fromkeys(CASES), ids=str)
@EVERY_OPERATION
def test_nothing_around_the_result_changes(
    operation: Operation, case: Case, data_format: str, isa: str
) -> None:
    operands, nhwc = exact_data(operation, case)
    expected = operation.expected_in(nhwc, data_format)
    if expected.values.size == 0:
        return
    first, second = operation.to_format(operands, data_format)
    for number, dtype in enumerate(DTYPES):
        size = expected.values.size * dtype.itemsize
        memory = np.full(size + 2 * GUARD_BYTES, POISON, np.uint8)
        # Aligned to the element, but not to a vector for most of the dtypes.
        start = GUARD_BYTES - number * dtype.itemsize
        result = memory[start : start + size].view(dtype).reshape(expected.values.shape)
        typed = (first.astype(dtype), second.astype(dtype))
        operation.write_into(result, case, typed, data_format)
        context = f"{case}, {data_format}, {dtype}"
        assert (memory[:start] == POISON).all(), f"{context}: written before the result"
        assert (memory[start + size :] == POISON).all(), f"{context}: written after the result"
        assert_matches(result, expected, dtype, exact=False, context=context)


def test_the_forward_binding_refuses_arrays_that_do_not_fit() -> None:
    """Memory safety does not rest on the Python side alone."""
    input, filter = np.ones((1, 5, 6, 3), np.float32), np.ones((3, 3, 3, 2), np.float32)
    output = np.zeros((1, 5, 6, 6), np.float32)
    geometry = make_geometry(input.shape, filter.shape, [1] * 4, "SAME")
    native_geometry = geometry.native
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
        with pytest.raises((TypeError, ValueError, BufferError)):
            _native.forward(native_geometry, *arguments)
    output.flags.writeable = False
    with pytest.raises((TypeError, ValueError, BufferError)):
        _native.forward(native_geometry, code, input, filter, output)
    assert not output.any()


@pytest.mark.parametrize("operation", GRADIENTS, ids=str)
def test_the_bindings_of_gradients_refuse_arrays_that_do_not_fit(operation: Operation) -> None:
    case = Case((5, 6), (3, 3), 3, 2, batch=2)
    geometry = make_geometry(case.shapes["input"], case.shapes["filter"], [1] * 4, "SAME")
    native_geometry = geometry.native
    code = _numpy._dtype_and_code(np.dtype(np.float32))[1]
    names = (*operation.operands, operation.result)
    right = [np.zeros(case.shapes[name], np.float32) for name in names]
    for place, array in enumerate(right):
        wrong_arrays = [
            array[1:].copy(),
            np.concatenate([array, array], axis=3),
            array[0],
            array.astype(np.float64),
            array.astype(np.float16).view(np.uint16),
        ]
        if array is right[-1]:
            wrong_arrays.append(array[:, ::-1])
        for wrong in wrong_arrays:
            arguments = [*right[:place], wrong, *right[place + 1 :]]
            with pytest.raises((TypeError, ValueError, BufferError)):
                operation.native(native_geometry, code, *arguments)
    for wrong_code in (-1, 99):
        with pytest.raises((TypeError, ValueError, BufferError)):
            operation.native(native_geometry, wrong_code, *right)
    right[-1].flags.writeable = False
    with pytest.raises((TypeError, ValueError, BufferError)):
        operation.native(native_geometry, code, *right)


@EVERY_OPERATION
def test_the_bindings_leave_what_they_cannot_read_in_place(operation: Operation) -> None:
    """They say so and write nothing; `_kernels` then copies the operand."""
    case = Case((5, 6), (3, 3), 3, 2, batch=2)
    geometry = make_geometry(case.shapes["input"], case.shapes["filter"], [1] * 4, "SAME")
    code = _numpy._dtype_and_code(np.dtype(np.float32))[1]
    right = [np.ones(case.shapes[name], np.float32) for name in operation.operands]
    result = np.zeros(case.shapes[operation.result], np.float32)
    for place, array in enumerate(right):
        memory = np.empty(array.nbytes + 1, np.uint8)
        unreadable = [memory[1:].view(np.float32).reshape(array.shape)]
        if operation.operands[place] == "filter":
            unreadable.append(array[:, ::-1])
        for operand in unreadable:
            operands = [*right[:place], operand, *right[place + 1 :]]
            with pytest.raises(BufferError, match=operation.operands[place]):
                operation.native(geometry.native, code, *operands, result)
            assert not result.any()
    operation.native(geometry.native, code, *right, result)
    assert result.any()
