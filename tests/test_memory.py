"""Memory beyond the arrays: at most 2 MB a thread, whatever the size of the problem.

The filter gradient may take 4 MB a thread and a float32 filter for its sums.

The peak is the kernel's own count of resident memory, in a fresh process that does nothing else.
"""

from __future__ import annotations

import os

import pytest

from subprocesses import output_of

# The kernel counts resident pages in batches, one for each CPU.
COUNTING_ERROR = 512 * 1024
MEGABYTE = 1 << 20
ONLY_LINUX = pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="only Linux tells the peak of a moment"
)

SCRIPT = """
import ctypes, re, sys
# Huge pages would round the memory of each array up to 2 MB.
PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
import numpy as np
import depthwise

def resident(field):
    with open("/proc/self/status") as status:
        return 1024 * int(re.search(field + r":\\s+(\\d+)", status.read())[1])

depthwise.set_num_threads({threads})
# The threads and their stacks are there before the measurement. The output is kept, so that its
# memory cannot be what the next call uses.
ones = np.ones((1, 64, 64, 64), np.float32)
kept = depthwise.depthwise_conv2d(ones, np.ones((3, 3, 64, 1), np.float32), [1] * 4, "SAME")
input = {input}
filter = np.ones({filter_shape}, input.dtype)
options = ({strides}, "{padding}", "{data_format}", {dilations})
out_backprop = depthwise.depthwise_conv2d(input, filter, *options)
calls = {{
    "forward": lambda: depthwise.depthwise_conv2d(input, filter, *options),
    "backprop_input": lambda: depthwise.depthwise_conv2d_backprop_input(
        input.shape, filter, out_backprop, *options
    ),
    "backprop_filter": lambda: depthwise.depthwise_conv2d_backprop_filter(
        input, filter.shape, out_backprop, *options
    ),
}}
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")  # resets the peak to what is resident now
before = resident("VmRSS")
result = calls["{operation}"]()
print(resident("VmHWM") - before - result.nbytes, filter.size)
"""

PROBLEMS: dict[str, dict[str, object]] = {
    "3x3": {"input": "np.ones((4, 112, 112, 64), np.float32)"},
    "31x31": {
        "input": "np.ones((1, 120, 120, 128), np.float32)",
        "filter_shape": (31, 31, 128, 1),
    },
    "11x11 photograph": {
        "input": "np.ones((1, 1080, 1920, 3), np.float32)",
        "filter_shape": (11, 11, 3, 1),
    },
    "strided": {"input": "np.ones((4, 113, 225, 64), np.float32)[:, 1:, 1::2]"},
    "reversed": {"input": "np.ones((4, 112, 112, 64), np.float32)[:, ::-1, ::-1, ::-1]"},
    "wide": {
        "input": "np.ones((1, 30, 60000, 3), np.float32)",
        "filter_shape": (7, 7, 3, 1),
    },
    "huge filter": {
        "input": "np.ones((1, 40, 30000, 1), np.float32)",
        "filter_shape": (3, 2001, 1, 1),
    },
    "NCHW": {
        "input": "np.ones((4, 64, 112, 112), np.float32)",
        "data_format": "NCHW",
    },
    "NCHW 7x7": {
        "input": "np.ones((2, 64, 200, 200), np.float32)",
        "data_format": "NCHW",
        "filter_shape": (7, 7, 64, 1),
    },
    "multiplier": {
        "input": "np.ones((1, 224, 224, 16), np.float32)",
        "filter_shape": (5, 5, 16, 8),
    },
    "stride": {
        "input": "np.ones((4, 225, 225, 64), np.float32)",
        "strides": [1, 2, 2, 1],
    },
    "dilation": {"input": "np.ones((4, 112, 112, 64), np.float32)", "dilations": [9, 9]},
    "float16": {"input": "np.ones((8, 112, 112, 64), np.float16)"},
    # Filter gradients by the transform, whose sums of a vector of channels come on top.
    "float16 91x91": {
        "input": "np.ones((1, 60, 60, 16), np.float16)",
        "filter_shape": (91, 91, 16, 1),
    },
    "71x71 of few channels": {
        "input": "np.ones((1, 40, 40, 8), np.float32)",
        "filter_shape": (71, 71, 8, 1),
    },
    "float64 5x5": {
        "input": "np.ones((4, 112, 112, 64))",
        "filter_shape": (5, 5, 64, 1),
    },
}


# Whose sums, of all channels and images, would not fit.
FILTER_GRADIENTS: dict[str, dict[str, object]] = {
    # Nor those of a vector of channels, 3.7 MB, beside the memory of a transform.
    "240x240": {
        "input": "np.ones((1, 279, 279, 16), np.float16)",
        "filter_shape": (240, 240, 16, 1),
        "padding": "VALID",
    },
    "32 images": {
        "input": "np.ones((32, 46, 46, 192), np.float32)",
        "filter_shape": (21, 21, 192, 1),
        "strides": [1, 2, 2, 1],
    },
    "a vector for each channel": {
        "input": "np.ones((1, 15, 200, 200), np.float32)",
        "data_format": "NCHW",
        "filter_shape": (100, 100, 15, 1),
    },
    "float16 31x31": {
        "input": "np.ones((1, 56, 56, 2048), np.float16)",
        "filter_shape": (31, 31, 2048, 1),
    },
}


BACKPROP_FILTER = "backprop_filter"
CASES = [
    pytest.param(operation, problem, id=f"{operation}-{name}")
    for operation, problems in {
        "forward": PROBLEMS,
        "backprop_input": PROBLEMS,
        BACKPROP_FILTER: PROBLEMS | FILTER_GRADIENTS,
    }.items()
    for name, problem in problems.items()
]


@ONLY_LINUX
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("operation", "problem"), CASES)
def test_extra_memory(operation: str, problem: dict[str, object], threads: int) -> None:
    defaults = {
        "filter_shape": (3, 3, 64, 1),
        "padding": "SAME",
        "strides": [1, 1, 1, 1],
        "data_format": "NHWC",
        "dilations": None,
    }
    printed = output_of(
        SCRIPT.format(**{**defaults, **problem}, operation=operation, threads=threads)
    )
    extra, filter_size = map(int, printed.split())
    allowed = 2 * MEGABYTE * threads
    if operation == BACKPROP_FILTER:
        allowed = (4 * MEGABYTE + 4 * filter_size) * threads
    assert extra <= allowed + COUNTING_ERROR


@ONLY_LINUX
def test_nothing_leaks() -> None:
    """A thousand calls of changing shapes leave no more memory in use than a hundred did."""
    grown = output_of(
        """
        import re, numpy as np, depthwise
        def resident():
            with open("/proc/self/status") as status:
                return 1024 * int(re.search(r"VmRSS:\\s+(\\d+)", status.read())[1])
        def work(count):
            for i in range(count):
                ones = np.ones((1, 20 + i % 10, 30, 16), np.float32)
                filter = np.ones((3 + i % 3, 3, 16, 1), np.float32)
                output = depthwise.depthwise_conv2d(ones, filter, [1] * 4, "SAME")
                for gradient, arguments in (
                    (depthwise.depthwise_conv2d_backprop_input, (ones.shape, filter)),
                    (depthwise.depthwise_conv2d_backprop_filter, (ones, filter.shape)),
                ):
                    gradient(*arguments, output, [1] * 4, "SAME")
                    try:
                        gradient(*arguments, output, [1] * 4, "VALID", name="step")
                    except ValueError:
                        pass
        work(1000)
        before = resident()
        work(10000)
        print(resident() - before)
        """
    )
    assert int(grown) < 2 * 1024 * 1024
