"""The rows of the benchmarks: layers of well-known networks, images, and awkward sizes.

Each family is a table of cases in NHWC, float32, on one thread. From it come the twins in NCHW, the
other types, the gradients and the rows on two threads. A shape that several networks share stands
in the first of them only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from benchmarks.cases import FILTER_GRADIENT, INPUT_GRADIENT, OPERATIONS, Case


def _layer(size: int, channels: int, filter_size: int, **options: Any) -> Case:
    """A square image, a square filter, one image unless ``batch`` says otherwise."""
    return Case(options.pop("batch", 1), size, size, channels, filter_size, filter_size, **options)


def _image(height: int, width: int, channels: int, filter_size: int, stride: int = 1) -> Case:
    """A picture that is filtered: every colour by the same taps. With a stride it gets smaller."""
    sizes = (1, height, width, channels, filter_size, filter_size)
    return Case(*sizes, stride=stride, same_filter=channels > 1)


_FORWARD: dict[str, tuple[Case, ...]] = {
    "MobileNet V1": (
        _layer(112, 32, 3),
        _layer(112, 64, 3, stride=2),
        _layer(56, 128, 3),
        _layer(56, 128, 3, stride=2),
        _layer(28, 256, 3),
        _layer(14, 512, 3),
        _layer(14, 512, 3, stride=2),
        _layer(7, 1024, 3),
    ),
    "MobileNet V2": (
        _layer(112, 96, 3, stride=2),
        _layer(56, 144, 3),
        _layer(28, 192, 3),
        _layer(14, 576, 3, stride=2),
        _layer(7, 960, 3),
    ),
    "MobileNet V3": (
        _layer(112, 16, 3),
        _layer(56, 72, 5, stride=2),
        _layer(28, 120, 5),
        _layer(14, 672, 5, stride=2),
        _layer(7, 960, 5),
    ),
    "EfficientNet": (
        _layer(56, 144, 5, stride=2),
        _layer(28, 240, 3, stride=2),
        _layer(28, 240, 5),
        _layer(14, 672, 5),
        _layer(7, 1152, 5),
        _layer(7, 1152, 3),
    ),
    "ConvNeXt": (
        _layer(56, 96, 7),
        _layer(28, 192, 7),
        _layer(14, 384, 7),
        _layer(7, 768, 7),
    ),
    "RepLKNet": (
        _layer(56, 128, 31),
        _layer(28, 256, 29),
        _layer(14, 512, 27),
        _layer(7, 1024, 13),
    ),
    "DeepLab": (
        _layer(65, 256, 3, dilation=2),
        _layer(33, 256, 3, dilation=4),
        _layer(33, 256, 3, dilation=12),
    ),
    "Batches": (
        _layer(112, 32, 3, batch=8),
        _layer(56, 128, 3, batch=8),
        _layer(56, 144, 5, batch=8, stride=2),
        _layer(28, 192, 7, batch=8),
        _layer(7, 1024, 3, batch=8),
        _layer(28, 256, 29, batch=8),
        _layer(112, 32, 3, batch=32),
        _layer(112, 64, 3, batch=32, stride=2),
        _layer(14, 512, 3, batch=32),
        _layer(14, 384, 7, batch=32),
    ),
    "Channel multipliers": (
        _layer(56, 64, 3, channel_multiplier=2),
        _layer(28, 128, 5, channel_multiplier=2),
        _layer(112, 64, 3, channel_multiplier=2, stride=2),
        _layer(112, 3, 3, channel_multiplier=8),
        _layer(28, 32, 3, channel_multiplier=8),
        _layer(224, 3, 3, channel_multiplier=8, stride=2),
    ),
    "Images": (
        _image(480, 640, 1, 3),
        _image(480, 640, 3, 5),
        _image(480, 640, 3, 5, stride=2),
        _image(480, 640, 4, 7),
        _image(1080, 1920, 1, 3),
        _image(1080, 1920, 1, 15),
        _image(1080, 1920, 3, 3, stride=2),
        _image(1080, 1920, 3, 5),
        _image(1080, 1920, 3, 21),
        _image(1080, 1920, 4, 3),
        _image(2160, 3840, 1, 7),
        _image(2160, 3840, 3, 3),
        _image(2160, 3840, 3, 11),
        _image(2160, 3840, 4, 5),
        _image(4320, 7680, 1, 5),
        _image(4320, 7680, 3, 3),
        _image(4320, 7680, 4, 9),
    ),
    # Text of Mamba, speech of Conformer, and frames of audio of Vocos.
    "Signals": (
        Case(1, 1, 2048, 1536, 1, 4),
        Case(8, 1, 500, 256, 1, 31),
        Case(1, 1, 1000, 512, 1, 7),
    ),
    "Awkward": (
        _layer(37, 37, 3),
        _layer(41, 37, 5),
        Case(1, 59, 83, 37, 7, 7),
        Case(1, 101, 64, 48, 3, 3),
        Case(3, 53, 47, 100, 3, 3, stride=2),
        Case(1, 56, 56, 96, 1, 7),
        Case(1, 56, 56, 96, 7, 1),
        Case(1, 1, 4096, 64, 1, 31),
        Case(1, 4096, 1, 64, 31, 1),
        _layer(56, 96, 2),
        _layer(56, 96, 4),
        Case(1, 56, 56, 96, 6, 4),
        _layer(57, 96, 3, stride=3),
        _layer(57, 96, 5, stride=3),
        _layer(56, 96, 3, padding="VALID"),
        _layer(30, 96, 7, padding="VALID"),
        _layer(15, 37, 31),
    ),
}

# In every type: memory-bound, arithmetic-bound, with a stride, and few channels.
_TYPED = (
    _layer(56, 128, 3),
    _layer(28, 240, 5),
    _layer(56, 144, 5, stride=2),
    _layer(56, 96, 7),
    _layer(56, 128, 31),
    _layer(56, 128, 3, batch=8),
    _image(1080, 1920, 3, 5),
)
_OTHER_TYPES = ("float16", "bfloat16", "float64")

# The layers above as they are trained, in batches.
_TRAINED = (
    _layer(56, 128, 3, batch=8),
    _layer(56, 128, 3, batch=8, stride=2),
    _layer(112, 32, 3, batch=8),
    _layer(14, 512, 3, batch=8),
    _layer(7, 1024, 3, batch=32),
    _layer(28, 240, 5, batch=8),
    _layer(28, 192, 7, batch=8),
    _layer(28, 256, 31, batch=2),
    _layer(56, 64, 3, batch=8, channel_multiplier=2),
    _layer(33, 256, 3, batch=8, dilation=2),
    _layer(56, 128, 3, batch=8, dtype="bfloat16"),
)

# Too short to be worth splitting, just worth it, and bound by arithmetic or by memory.
_THREADED = (
    _layer(7, 1024, 3),
    _layer(112, 32, 3),
    _layer(56, 128, 3, batch=8),
    _layer(28, 240, 5),
    _layer(56, 96, 7),
    _layer(56, 128, 31),
    _layer(112, 32, 3, batch=32),
    _image(2160, 3840, 3, 3),
    _image(2160, 3840, 3, 11),
)


def _twins(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Return the cases in NHWC and after them in NCHW."""
    given = tuple(cases)
    return given + tuple(replace(case, data_format="NCHW") for case in given)


def _families() -> Iterator[tuple[str, tuple[Case, ...]]]:
    for family, cases in _FORWARD.items():
        yield family, _twins(cases)
    for dtype in _OTHER_TYPES:
        yield dtype, _twins(replace(case, dtype=dtype) for case in _TYPED)
    for operation in (INPUT_GRADIENT, FILTER_GRADIENT):
        yield operation, _twins(replace(case, operation=operation) for case in _TRAINED)
    yield "Two threads", _twins(replace(case, threads=2) for case in _THREADED)


FAMILIES: dict[str, tuple[Case, ...]] = dict(_families())
"""All cases by what they are examples of."""

CASES: tuple[Case, ...] = tuple(chain.from_iterable(FAMILIES.values()))

FAMILY_OF: dict[Case, str] = {case: family for family, cases in FAMILIES.items() for case in cases}

SELECTION: tuple[Case, ...] = (
    _layer(112, 32, 3),
    _layer(112, 64, 3, stride=2),
    _layer(56, 128, 3),
    _layer(14, 512, 3),
    _layer(7, 1024, 3),
    _layer(56, 144, 5, stride=2),
    _layer(28, 240, 5),
    _layer(56, 96, 7),
    _layer(14, 384, 7),
    _layer(56, 128, 31),
    _layer(65, 256, 3, dilation=2),
    _layer(56, 64, 3, channel_multiplier=2),
    _layer(112, 3, 3, channel_multiplier=8),
    _layer(112, 32, 3, batch=32),
    _image(1080, 1920, 1, 3),
    _image(2160, 3840, 3, 3),
    Case(1, 59, 83, 37, 7, 7),
    *(
        replace(case, data_format="NCHW")
        for case in (
            _layer(112, 32, 3),
            _layer(56, 128, 3),
            _layer(7, 1024, 3),
            _layer(56, 96, 7),
            Case(8, 1, 500, 256, 1, 31),
            _image(2160, 3840, 3, 3),
        )
    ),
    *(_layer(56, 128, 3, batch=8, dtype=dtype) for dtype in _OTHER_TYPES),
    _layer(56, 128, 3, batch=8, operation=INPUT_GRADIENT),
    _layer(28, 192, 7, batch=8, operation=FILTER_GRADIENT),
    _layer(56, 128, 3, batch=8, threads=2),
)
"""What stands for the rest where minutes or lines are few."""

NAME_WIDTH = max(len(case.name) for case in CASES) + 1
"""Width of a column of names."""

TINY: tuple[Case, ...] = tuple(Case(1, 4, 4, 8, 3, 3, operation=name) for name in OPERATIONS)
"""So little work that only the cost of a call is left."""
