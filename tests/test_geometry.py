"""Sizes and padding as pure integers, against worked examples and against counting."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from depthwise._geometry import (
    Geometry,
    geometry_of,
    make_backprop_filter_geometry,
    make_backprop_input_geometry,
    make_geometry,
)


def axis_geometry(
    in_size: int, filter_size: int, stride: int, dilation: int, padding: Any, axis: str
) -> tuple[int, int]:
    """Return the output size and leading padding of a problem with this height or width."""
    trivial = (0, 0)
    if axis == "height":
        geometry = make_geometry(
            (1, in_size, 1, 1),
            (filter_size, 1, 1, 1),
            (1, stride, 1, 1),
            padding if isinstance(padding, str) else (trivial, padding, trivial, trivial),
            "NHWC",
            (dilation, 1),
        )
        assert (geometry.out_width, geometry.pad_left) == (1, 0)
        return geometry.out_height, geometry.pad_top
    geometry = make_geometry(
        (1, 1, 1, in_size),
        (1, filter_size, 1, 1),
        (1, 1, 1, stride),
        padding if isinstance(padding, str) else (trivial, trivial, trivial, padding),
        "NCHW",
        (1, dilation),
    )
    assert (geometry.out_height, geometry.pad_top) == (1, 0)
    return geometry.out_width, geometry.pad_left


@pytest.mark.parametrize("axis", ["height", "width"])
@pytest.mark.parametrize(
    ("in_size", "filter_size", "stride", "dilation", "padding", "want"),
    [
        (5, 3, 1, 1, "SAME", (5, 1)),
        (5, 3, 2, 1, "SAME", (3, 1)),
        (6, 3, 2, 1, "SAME", (3, 0)),
        (224, 7, 2, 1, "SAME", (112, 2)),
        (5, 2, 1, 1, "SAME", (5, 0)),
        (5, 4, 1, 1, "SAME", (5, 1)),
        (5, 1, 3, 1, "SAME", (2, 0)),
        (1, 31, 1, 1, "SAME", (1, 15)),
        (5, 3, 1, 4, "SAME", (5, 4)),
        (0, 3, 1, 1, "SAME", (0, 0)),
        (0, 3, 5, 1, "SAME", (0, 0)),
        (5, 3, 1, 1, "VALID", (3, 0)),
        (5, 3, 2, 1, "VALID", (2, 0)),
        (6, 3, 2, 1, "VALID", (2, 0)),
        (9, 3, 1, 4, "VALID", (1, 0)),
        (2, 3, 1, 1, "VALID", (0, 0)),
        (1, 3, 2, 1, "VALID", (0, 0)),
        (5, 3, 1, 1, (0, 0), (3, 0)),
        (5, 3, 2, 1, (1, 0), (2, 1)),
        (5, 3, 1, 1, (7, 9), (19, 7)),
        (0, 3, 1, 1, (2, 2), (2, 2)),
    ],
)
def test_worked_examples(
    in_size: int,
    filter_size: int,
    stride: int,
    dilation: int,
    padding: Any,
    want: tuple[int, int],
    axis: str,
) -> None:
    out_size, pad = axis_geometry(in_size, filter_size, stride, dilation, padding, axis)
    assert out_size == want[0]
    # Padding before an empty output means nothing.
    if out_size:
        assert pad == want[1]


def test_explicit_and_valid_sizes_count_the_windows() -> None:
    """The output size is the number of windows that fit, one every `stride`."""
    for in_size, filter_size, before, after in itertools.product(
        range(1, 9), range(1, 5), range(3), range(3)
    ):
        for stride, dilation in [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3)]:
            window = [dilation * tap for tap in range(filter_size)]
            padded = in_size + before + after
            fitting = [i for i in range(padded) if stride * i + window[-1] < padded]
            if not fitting and (padded - window[-1] - 1) // stride + 1 < 0:
                continue
            for padding in [(before, after), *(["VALID"] if before == after == 0 else [])]:
                out_size, pad = axis_geometry(
                    in_size, filter_size, stride, dilation, padding, "height"
                )
                assert out_size == len(fitting)
                if out_size:
                    assert pad == before


def test_same_covers_the_image_evenly() -> None:
    """SAME has `ceil(in / stride)` outputs and pads least, the odd one at the end."""
    for in_size, filter_size in itertools.product(range(1, 12), range(1, 8)):
        for stride, dilation in [(1, 1), (2, 1), (3, 1), (5, 1), (1, 2), (1, 3)]:
            out_size, before = axis_geometry(
                in_size, filter_size, stride, dilation, "SAME", "height"
            )
            assert out_size == len(range(0, in_size, stride))
            last = (out_size - 1) * stride + (filter_size - 1) * dilation - before
            after = max(last - (in_size - 1), 0)
            assert before >= 0
            assert after - before in (0, 1)


@pytest.mark.parametrize("data_format", [None, "NHWC", "NCHW"])
def test_fields(data_format: str | None) -> None:
    input_shape = (2, 11, 13, 3) if data_format != "NCHW" else (2, 3, 11, 13)
    strides = (1, 2, 3, 1) if data_format != "NCHW" else (1, 1, 2, 3)
    geometry = make_geometry(input_shape, (5, 4, 3, 7), strides, "SAME", data_format, None)
    fields = {
        "batch": 2,
        "in_height": 11,
        "in_width": 13,
        "in_channels": 3,
        "filter_height": 5,
        "filter_width": 4,
        "channel_multiplier": 7,
        "stride_height": 2,
        "stride_width": 3,
        "dilation_height": 1,
        "dilation_width": 1,
        "pad_top": 2,
        "pad_left": 1,
        "out_height": 6,
        "out_width": 5,
        "data_format": data_format or "NHWC",
    }
    for name, want in fields.items():
        assert getattr(geometry, name) == want, name
    assert geometry.output_shape == ((2, 21, 6, 5) if data_format == "NCHW" else (2, 6, 5, 21))
    assert geometry.input_shape == input_shape
    assert geometry.filter_shape == (5, 4, 3, 7)


@pytest.mark.parametrize("convert", [list, tuple, np.array])
@pytest.mark.parametrize("data_format", [None, "NHWC", "NCHW"])
def test_gradients_have_the_geometry_of_the_forward_problem(
    data_format: str | None, convert: Any
) -> None:
    input_shape = (2, 11, 13, 3) if data_format != "NCHW" else (2, 3, 11, 13)
    options = ((1, 2, 3, 1) if data_format != "NCHW" else (1, 1, 2, 3), "SAME", data_format)
    forward = make_geometry(input_shape, (5, 4, 3, 7), *options)
    of_input = make_backprop_input_geometry(
        convert(input_shape), (5, 4, 3, 7), forward.output_shape, *options
    )
    of_filter = make_backprop_filter_geometry(
        input_shape, convert((5, 4, 3, 7)), forward.output_shape, *options
    )
    want = dataclasses.asdict(forward)
    for geometry in (of_input, of_filter):
        assert dataclasses.asdict(geometry) == want
        assert all(type(size) is int for size in geometry.input_shape + geometry.filter_shape)


def test_dilations_are_height_then_width() -> None:
    geometry = make_geometry((1, 20, 20, 1), (3, 3, 1, 1), (1, 1, 1, 1), "VALID", None, (4, 7))
    assert (geometry.out_height, geometry.out_width) == (12, 6)
    assert (geometry.dilation_height, geometry.dilation_width) == (4, 7)


def test_numpy_integers_become_python_integers() -> None:
    """A product of sizes must not overflow in a NumPy scalar."""
    geometry = make_geometry(
        (1, 5, 5, 1),
        (3, 3, 1, 1),
        np.ones(4, np.uint64),
        np.ones((4, 2), np.int16) * np.array([[0], [1], [1], [0]], np.int16),
        None,
        [np.int64(1), np.uint8(1)],
    )
    for field in dataclasses.fields(Geometry):
        value = getattr(geometry, field.name)
        assert type(value) is (str if field.name == "data_format" else int), field.name


def test_geometry_is_frozen() -> None:
    geometry = make_geometry((1, 5, 5, 1), (3, 3, 1, 1), (1, 1, 1, 1), "SAME")
    with pytest.raises(dataclasses.FrozenInstanceError):
        geometry.batch = 2  # type: ignore[misc]


@pytest.mark.parametrize("big", [2**31 - 1, 2**31, 2**62, 2**63 - 1, 2**70])
def test_large_strides_do_not_overflow(big: int) -> None:
    for stride_height, stride_width in [(big, 1), (1, big)]:
        strides = (1, stride_height, stride_width, 1)
        geometry = make_geometry((1, 5, 5, 1), (3, 3, 1, 1), strides, "SAME")
        want = (1, 5, 0, 1) if stride_height == big else (5, 1, 1, 0)
        sizes = (geometry.out_height, geometry.out_width, geometry.pad_top, geometry.pad_left)
        assert sizes == want


@pytest.mark.parametrize("big", [2**31 - 20, 2**31, 2**62, 2**63 - 1, 2**70])
def test_large_padding_is_right_or_refused(big: int) -> None:
    pads = ((0, 0), (big, 0), (0, 0), (0, 0))
    try:
        geometry = make_geometry((1, 5, 5, 1), (3, 3, 1, 1), (1, big, 1, 1), pads)
    except OverflowError as error:
        assert "padding" in str(error)
        assert big >= 2**31
        return
    assert (geometry.out_height, geometry.pad_top) == (2, big)


@pytest.mark.parametrize(
    ("axis", "input_shape", "filter_shape"),
    [("height", (1, 1, 9, 1), (3, 1, 1, 1)), ("width", (1, 9, 1, 1), (1, 3, 1, 1))],
)
def test_negative_size_names_the_axis(
    axis: str, input_shape: tuple[int, ...], filter_shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=axis):
        make_geometry(input_shape, filter_shape, (1, 1, 1, 1), "VALID")


@pytest.mark.parametrize("big", [2**31, 2**62, 2**63, 2**70])
def test_large_sizes_are_named(big: int) -> None:
    """Of a filter the size itself may be too large, without any dilation."""
    with pytest.raises(OverflowError, match="filter_sizes"):
        make_backprop_filter_geometry(
            (1, 5, 5, 1), (big, 1, 1, 1), (1, 5, 5, 1), (1, 1, 1, 1), "SAME"
        )
    geometry = make_backprop_input_geometry(
        (big, big, big, 1), (1, 1, 1, 1), (big, 1, 1, 1), (1, big, big, 1), "VALID"
    )
    assert geometry.input_shape == (big, big, big, 1)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_fields_tell_the_whole_problem(data_format: str) -> None:
    geometry = make_geometry((2, 5, 5, 5), (3, 2, 5, 4), [1] * 4, "SAME", data_format, (2, 3))
    again = geometry_of(geometry.fields)
    assert dataclasses.asdict(again) == dataclasses.asdict(geometry)
    assert again is geometry_of(tuple(geometry.fields))
