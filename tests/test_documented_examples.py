"""The two examples of TensorFlow's page, the doctests of the public functions, the signature."""

from __future__ import annotations

import doctest
import inspect
from typing import Any

import numpy as np
import pytest

import depthwise
from comparator import DTYPES, assert_same_bits
from depthwise import _api, _gradients, _settings

IMAGE = np.array([[1, 2], [3, 4], [5, 6]], np.float32).reshape(1, 3, 2, 1)
FILTER = np.array([[1, 2], [3, 4]], np.float32).reshape(2, 1, 1, 2)
VALID = [[[[10, 14], [14, 20]], [[18, 26], [22, 32]]]]
PADDED = [
    [[[0, 0], [3, 4], [6, 8]], [[0, 0], [10, 14], [14, 20]], [[0, 0], [18, 26], [22, 32]]],
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("padding", "want"),
    [("VALID", VALID), ([[0, 0], [1, 0], [1, 0], [0, 0]], PADDED)],
    ids=["VALID", "explicit"],
)
def test_examples_of_the_source(padding: Any, want: Any, dtype: np.dtype[Any], isa: str) -> None:
    got = depthwise.depthwise_conv2d(
        IMAGE.astype(dtype), FILTER.astype(dtype), strides=[1, 1, 1, 1], padding=padding
    )
    assert_same_bits(got, np.array(want, dtype))


@pytest.mark.parametrize(
    "module", [depthwise, _api, _gradients], ids=lambda module: module.__name__
)
def test_doctests(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


def test_the_public_function_has_both_examples_as_doctests() -> None:
    finder = doctest.DocTestFinder(recurse=False)
    examples = [
        example
        for test in finder.find(depthwise.depthwise_conv2d, "depthwise_conv2d")
        for example in test.examples
    ]
    shown = "".join(example.want for example in examples)
    assert "VALID" in "".join(example.source for example in examples)
    for number in ("10", "14", "20", "18", "26", "22", "32"):
        assert number in shown
    runner = doctest.DocTestRunner()
    for test in finder.find(depthwise.depthwise_conv2d, "depthwise_conv2d"):
        assert runner.run(test).failed == 0


REST = ["strides", "padding", "data_format", "dilations", "name"]


@pytest.mark.parametrize(
    ("function", "first"),
    [
        (depthwise.depthwise_conv2d, ["input", "filter"]),
        (depthwise.depthwise_conv2d_backprop_input, ["input_sizes", "filter", "out_backprop"]),
        (depthwise.depthwise_conv2d_backprop_filter, ["input", "filter_sizes", "out_backprop"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_signatures_are_the_source_s(function: Any, first: list[str]) -> None:
    parameters = inspect.signature(function).parameters
    assert list(parameters) == [*first, *REST]
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters.values())
    assert [parameters[name].default for name in REST[2:]] == [None, None, None]
    # Python 3.13 takes the indentation from docstrings.
    documentation = inspect.cleandoc(function.__doc__)
    for name in parameters:
        assert f"\n{name}" in documentation or name in REST


def test_public_names() -> None:
    names = {
        "depthwise_conv2d",
        "depthwise_conv2d_backprop_filter",
        "depthwise_conv2d_backprop_input",
        "set_num_threads",
        "get_num_threads",
        "show_config",
        "__version__",
    }
    assert names == set(depthwise.__all__)
    assert isinstance(depthwise.__version__, str)
    for name in names - {"__version__"}:
        assert getattr(depthwise, name).__doc__


def test_show_config(capsys: pytest.CaptureFixture[str], isa: str) -> None:
    depthwise.show_config()
    printed = capsys.readouterr().out
    assert isa in printed
    assert depthwise.__version__ in printed
    config = _settings.config()
    assert config["isa"] == isa
    assert config["num_threads"] == depthwise.get_num_threads()
    assert isa in config["supported_isas"]


def test_nested_lists_are_float32() -> None:
    got = depthwise.depthwise_conv2d(IMAGE.tolist(), FILTER.tolist(), [1, 1, 1, 1], "VALID")
    assert_same_bits(got, np.array(VALID, np.float32))


@pytest.mark.parametrize("whole", [True, False], ids=["integers", "floats"])
def test_lists_and_arrays_may_be_mixed(whole: bool) -> None:
    """A list is float32, whatever its numbers; the array beside it must be float32 too."""
    image = IMAGE.astype(int).tolist() if whole else IMAGE.tolist()
    filter = FILTER.astype(int).tolist() if whole else FILTER.tolist()
    want = np.array(VALID, np.float32)
    assert_same_bits(depthwise.depthwise_conv2d(image, FILTER, [1, 1, 1, 1], "VALID"), want)
    assert_same_bits(depthwise.depthwise_conv2d(IMAGE, filter, [1, 1, 1, 1], "VALID"), want)


def test_positional_and_keyword_arguments() -> None:
    want = np.array(VALID, np.float32)
    got = depthwise.depthwise_conv2d(IMAGE, FILTER, [1] * 4, "VALID", "NHWC", [1, 1], "blur")
    assert_same_bits(got, want)
    got = depthwise.depthwise_conv2d(
        input=IMAGE,
        filter=FILTER,
        strides=np.ones(4, np.int32),
        padding=np.zeros((4, 2), np.uint8),
        data_format=None,
        dilations=(np.int64(1), 1),
        name=None,
    )
    assert_same_bits(got, want)


@pytest.mark.parametrize("whole", [True, False], ids=["integers", "floats"])
def test_gradients_take_lists_too(whole: bool) -> None:
    """Of float32, alone or beside an array of float32."""
    image = IMAGE.astype(int).tolist() if whole else IMAGE.tolist()
    filter = FILTER.astype(int).tolist() if whole else FILTER.tolist()
    ones = np.ones((1, 2, 2, 2), np.float32)
    of_input = np.array([3, 3, 10, 10, 7, 7], np.float32).reshape(IMAGE.shape)
    of_filter = np.array([10, 10, 18, 18], np.float32).reshape(FILTER.shape)
    for out_backprop in (ones, ones.astype(int).tolist(), ones.tolist()):
        for one in (FILTER, filter):
            got = depthwise.depthwise_conv2d_backprop_input(
                IMAGE.shape, one, out_backprop, [1] * 4, "VALID"
            )
            assert_same_bits(got, of_input)
        for one in (IMAGE, image):
            got = depthwise.depthwise_conv2d_backprop_filter(
                one, FILTER.shape, out_backprop, [1] * 4, "VALID"
            )
            assert_same_bits(got, of_filter)
