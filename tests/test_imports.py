"""`import depthwise` imports NumPy and itself, nothing else."""

from __future__ import annotations

from subprocesses import output_of

FRAMEWORKS = ("torch", "tensorflow", "jax", "jaxlib", "dask", "cupy", "ml_dtypes", "scipy", "PIL")


def test_no_framework_is_imported() -> None:
    printed = output_of("import sys, depthwise; print(*sys.modules)")
    loaded = {name.partition(".")[0] for name in printed.split()}
    assert "depthwise" in loaded
    assert not loaded & set(FRAMEWORKS)


def test_only_numpy_is_needed() -> None:
    """Beyond NumPy, no package outside the standard library is loaded."""
    printed = output_of(
        """
        import sys, numpy
        before = {name.partition(".")[0] for name in sys.modules}
        import depthwise
        after = {name.partition(".")[0] for name in sys.modules}
        print(*(after - before - set(sys.stdlib_module_names)))
        """
    )
    assert set(printed.split()) == {"depthwise"}


def test_computing_imports_no_framework_either() -> None:
    printed = output_of(
        """
        import sys, numpy as np, depthwise
        before = set(sys.modules)
        for dtype in (np.float16, np.float32, np.float64):
            ones = np.ones((3, 3, 2, 1), dtype)
            image = ones.reshape(1, 3, 3, 2)
            depthwise.depthwise_conv2d(image, ones, [1] * 4, "SAME")
            for gradient, first, second in (
                (depthwise.depthwise_conv2d_backprop_input, image.shape, ones),
                (depthwise.depthwise_conv2d_backprop_filter, image, ones.shape),
            ):
                gradient(first, second, image, [1] * 4, "SAME")
        try:
            depthwise.depthwise_conv2d("image", ones, [1] * 4, "SAME")
        except TypeError:
            pass
        names = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(*(names - set(sys.stdlib_module_names)))
        """
    )
    assert set(printed.split()) <= {"numpy", "depthwise"}


def test_bfloat16_needs_ml_dtypes_only_from_its_user() -> None:
    printed = output_of(
        """
        import sys, numpy as np, depthwise
        assert "ml_dtypes" not in sys.modules
        import ml_dtypes
        ones = np.ones((3, 3, 2, 1), ml_dtypes.bfloat16)
        print(depthwise.depthwise_conv2d(ones.reshape(1, 3, 3, 2), ones, [1] * 4, "VALID").dtype)
        """
    )
    assert printed.strip() == "bfloat16"


def test_the_reference_is_not_loaded() -> None:
    """It is for tests; the package computes nothing with NumPy."""
    printed = output_of("import sys, depthwise; print('depthwise._reference' in sys.modules)")
    assert printed.strip() == "False"
