"""What the tests of the front end of JAX share: operands, calls, scripts in a JAX of their own.

Nothing here imports JAX; what needs it is given the module, which is a fixture.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cases import Case
from comparator import assert_same_bits
from operations import Operands, Operation, exact_data
from subprocesses import output_of

FLOAT32 = np.dtype(np.float32)

# Where one problem is enough.
CASE = Case((5, 6), (3, 3), 3, 2, batch=2, strides=(2, 1))

EVERY_FORMAT = pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])

# Begins the scripts, whose JAX has settings of its own.
PREAMBLE = """
import jax, jax.numpy as jnp, numpy as np
from cases import Case
from comparator import assert_same_bits
from depthwise import depthwise_conv2d
from operations import OPERATIONS, exact_data
"""


def run_script(script: str, **environment: str) -> str:
    """Run Python source that sees the modules of the tests."""
    path = str(Path(__file__).parent)
    return output_of(
        textwrap.dedent(PREAMBLE) + textwrap.dedent(script),
        environment={"PYTHONPATH": path, **environment},
        seconds=300,
    )


def integers(operation: Operation, case: Case, data_format: str = "NHWC") -> Operands:
    """Return operands of which every sum is exact, float32."""
    (first, second), _ = exact_data(operation, case)
    operands = (first.astype(FLOAT32), second.astype(FLOAT32))
    return operation.to_format(operands, data_format)


def to_jax(jax: Any, operands: Operands) -> tuple[Any, Any]:
    first, second = operands
    return jax.numpy.asarray(first), jax.numpy.asarray(second)


def call_of(operation: Operation, case: Case, data_format: str = "NHWC") -> Any:
    """Return the function of the two operands alone."""
    return lambda first, second: operation(case, (first, second), data_format)


def assert_equal_bits(got: Any, want: Any, context: str = "") -> None:
    """Assert that two arrays have the same bits, whatever libraries they are of."""
    assert_same_bits(np.array(got), np.asarray(want), context)
