"""The front end of JAX on several devices: each computes its part, to the bits of one device.

They are four of the CPU, which JAX has to be told of before it starts: each test is a script. These
tests run only if asked for, and then fail without JAX.
"""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from jax_helpers import run_script

pytestmark = pytest.mark.jax

# Begins the scripts of several devices: a loss whose gradients are integers, and on one device the
# output and the gradients of it.
DEVICES = """
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
assert len(jax.devices()) == 4
options = {"strides": [1, 1, 1, 1], "padding": "SAME"}
random = np.random.default_rng(0)
images = random.integers(-3, 4, (8, 6, 7, 4)).astype(np.float32)
filter = random.integers(-3, 4, (3, 3, 4, 2)).astype(np.float32)
blur = lambda images, filter: depthwise_conv2d(images, filter, **options)
loss = lambda images, filter: (blur(images, filter) ** 2).sum()
gradients = jax.grad(loss, (0, 1))
output, of_images, of_filter = map(
    np.array, (blur(images, filter), *gradients(jnp.asarray(images), jnp.asarray(filter)))
)
def check(got, want):
    assert_same_bits(np.array(got), want)
"""


def run_on_four_devices(script: str) -> None:
    run_script(
        DEVICES + textwrap.dedent(script),
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
        JAX_PLATFORMS="cpu",
    )


def test_each_device_keeps_its_images() -> None:
    run_on_four_devices(
        """
        for shape, names, images_spec, filter_spec in (
            ((4,), ("batch",), P("batch"), P()),
            ((2, 2), ("batch", "channels"), P("batch", None, None, "channels"), P()),
            (
                (2, 2),
                ("batch", "channels"),
                P("batch", None, None, "channels"),
                P(None, None, "channels"),
            ),
            ((2, 2), ("a", "b"), P(("a", "b")), P()),
        ):
            mesh = jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names))
            operands = (
                jax.device_put(images, NamedSharding(mesh, images_spec)),
                jax.device_put(filter, NamedSharding(mesh, filter_spec)),
            )
            check(blur(*operands), output)
            for function, wants in ((blur, [output]), (gradients, [of_images, of_filter])):
                program = jax.jit(function).lower(*operands).compile()
                results = jax.tree.leaves(program(*operands))
                for got, want in zip(results, wants):
                    check(got, want)
                assert results[0].sharding.is_equivalent_to(operands[0].sharding, 4)
                text = program.as_text()
                assert "depthwise_forward" in text
                for collective in ("all-gather", "all-to-all", "collective-permute"):
                    assert collective not in text, collective
                assert ("all-reduce" in text) == (function is gradients)
        """
    )


def test_other_shapes_on_several_devices() -> None:
    """With the channels second, with one channel, and with one filter for each."""
    run_on_four_devices(
        """
        mesh = jax.make_mesh((2, 2), ("batch", "channels"), axis_types=(AxisType.Auto,) * 2)
        for channels, multiplier in ((4, 1), (4, 2), (1, 4), (1, 1)):
            for data_format in ("NHWC", "NCHW"):
                case = Case((5, 6), (3, 3), channels, multiplier, batch=4)
                spec = ["batch", None, None, None]
                if channels > 1:
                    spec[data_format.index("C")] = "channels"
                for operation in OPERATIONS:
                    (first, second), _ = exact_data(operation, case)
                    operands = operation.to_format(
                        (first.astype(np.float32), second.astype(np.float32)), data_format
                    )
                    placed = [
                        array
                        if name == "filter"
                        else jax.device_put(array, NamedSharding(mesh, P(*spec)))
                        for name, array in zip(operation.operands, operands)
                    ]
                    call = jax.jit(lambda *operands: operation(case, operands, data_format))
                    program = call.lower(*placed).compile()
                    check(program(*placed), operation(case, operands, data_format))
                    assert "all-gather" not in program.as_text()
        """
    )


def test_what_cannot_be_split_is_gathered() -> None:
    """Six images on four devices, rows of images, multiples of one channel."""
    run_on_four_devices(
        """
        mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
        for spec in (P(), P("x"), P(None, None, None, "x")):
            placed = jax.device_put(images, NamedSharding(mesh, spec))
            six = jax.jit(lambda images, filter: blur(images[:6], filter))
            check(six(placed, filter), output[:6])
        rows = jax.device_put(images[:, :4], NamedSharding(mesh, P(None, "x")))
        check(jax.jit(blur)(rows, filter), np.array(blur(images[:, :4].copy(), filter)))
        one = random.integers(-3, 4, (2, 5, 5, 1)).astype(np.float32)
        taps = random.integers(-3, 4, (3, 3, 1, 4)).astype(np.float32)
        want = [np.array(array) for array in gradients(jnp.asarray(one), jnp.asarray(taps))]
        placed = jax.device_put(taps, NamedSharding(mesh, P(None, None, None, "x")))
        for got, wanted in zip(jax.jit(gradients)(one, placed), want):
            check(got, wanted)
        """
    )


def test_explicit_axes(jax: Any) -> None:
    if jax.__version_info__ < (0, 10):
        pytest.skip("JAX 0.8 cannot compile a sum over explicit axes in custom_partitioning")
    run_on_four_devices(
        """
        mesh = jax.make_mesh((2, 2), ("batch", "channels"), axis_types=(AxisType.Explicit,) * 2)
        with jax.set_mesh(mesh):
            for spec in (P("batch"), P(("batch", "channels")), P("batch", None, None, "channels")):
                placed = jax.device_put(images, NamedSharding(mesh, spec))
                taps = jax.device_put(filter, NamedSharding(mesh, P()))
                got = jax.jit(blur)(placed, taps)
                check(got, output)
                assert jax.typeof(got).sharding.spec == jax.typeof(placed).sharding.spec
                for got, want in zip(jax.jit(gradients)(placed, taps), (of_images, of_filter)):
                    check(got, want)
        """
    )


def test_shard_map() -> None:
    """Gradients from outside and, where JAX knows what varies, from inside."""
    run_on_four_devices(
        """
        mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
        specs = {"mesh": mesh, "in_specs": (P("x"), P())}
        for checked in (True, False):
            total = jax.shard_map(
                lambda *operands: jax.lax.psum(loss(*operands), "x"),
                out_specs=P(),
                check_vma=checked,
                **specs,
            )
            for got, want in zip(jax.grad(total, (0, 1))(images, filter), (of_images, of_filter)):
                check(got, want)
            lowered = jax.jit(jax.grad(total, (0, 1))).trace(images, filter)
            text = lowered.lower(lowering_platforms=("cuda",)).as_text()
            assert "convolution" in text and "depthwise" not in text
        inside = jax.shard_map(gradients, out_specs=(P("x"), P()), **specs)
        for got, want in zip(jax.jit(inside)(images, filter), (of_images, of_filter)):
            check(got, want)
        """
    )


def test_vmap_over_devices() -> None:
    run_on_four_devices(
        """
        mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
        placed = jax.device_put(images[:, None], NamedSharding(mesh, P("x")))
        program = jax.jit(jax.vmap(blur, (0, None))).lower(placed, filter).compile()
        check(program(placed, filter), output[:, None])
        assert "all-gather" not in program.as_text()
        """
    )


def test_another_device() -> None:
    run_on_four_devices(
        """
        device = jax.devices()[3]
        got = blur(jax.device_put(images, device), jax.device_put(filter, device))
        assert got.devices() == {device}
        check(got, output)
        """
    )
