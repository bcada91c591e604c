"""JAX: XLA's own convolution with a group for each channel, jitted, and its gradients by `vjp`.

Each case is computed in the row's layout and, with transposes within the jitted function, in the
other one; the faster counts. XLA sizes its pool of threads by the cores that it may use, so that
affinity is what fixes their number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import FORWARD, Case
from benchmarks.peers import fastest


class Adapter:
    """See `benchmarks.peers.Peer`."""

    label = "JAX"

    def __init__(self, threads: int) -> None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_x64", True)
        if hasattr(os, "sched_setaffinity"):
            usable = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, usable[-threads:])

    def version(self) -> str:
        return jax.__version__

    def supports(self, case: Case) -> bool:
        return True

    def prepare(self, case: Case, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], Any]:
        given = {name: jnp.asarray(array) for name, array in arrays.items()}
        calls = []
        for layout in ("NHWC", "NCHW"):
            function, arguments = _function(case, layout, given)
            calls.append(partial(_wait_for, jax.jit(function), arguments))
        return fastest(*calls)

    def to_numpy(self, case: Case, answer: Any) -> NDArray[Any]:
        return np.asarray(answer)


def _wait_for(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call and wait; JAX may return while it computes."""
    return jax.block_until_ready(function(*arguments))


def _function(
    case: Case, layout: str, given: Mapping[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return what to jit for a case, computed in a layout, and what to call it with."""
    convolve = partial(_convolve, case, layout)
    if case.operation == FORWARD:
        return convolve, (given["input"], given["filter"])
    # The convolution is linear in each argument: whatever the answer's place holds is not read.
    missing = jnp.zeros(case.answer_shape, case.dtype)
    out_backprop = given["out_backprop"]
    if case.answer == "input":

        def input_gradient(filter: Any, out_backprop: Any) -> Any:
            return jax.vjp(lambda input: convolve(input, filter), missing)[1](out_backprop)[0]

        return input_gradient, (given["filter"], out_backprop)

    def filter_gradient(input: Any, out_backprop: Any) -> Any:
        return jax.vjp(lambda filter: convolve(input, filter), missing)[1](out_backprop)[0]

    return filter_gradient, (given["input"], out_backprop)


def _convolve(case: Case, layout: str, input: Any, filter: Any) -> Any:
    """Convolve in a layout, with transposes if it is not that of the case."""
    if layout != case.data_format:
        input = _to_layout(layout, input)
    # From (di, dj, k, q) to (di, dj, 1, k * q).
    taps = filter.reshape(case.filter_height, case.filter_width, 1, -1)
    output = jax.lax.conv_general_dilated(
        input,
        taps,
        (case.stride, case.stride),
        [case.height.pads, case.width.pads],
        rhs_dilation=(case.dilation, case.dilation),
        dimension_numbers=(layout, "HWIO", layout),
        feature_group_count=case.in_channels,
    )
    return output if layout == case.data_format else _to_layout(case.data_format, output)


def _to_layout(layout: str, array: Any) -> Any:
    return jnp.transpose(array, (0, 2, 3, 1) if layout == "NHWC" else (0, 3, 1, 2))
