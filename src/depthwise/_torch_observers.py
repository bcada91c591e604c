"""Whether a kernel may be called without PyTorch: nobody looks, and tensors are what they seem.

An operator goes through PyTorch's dispatcher, and so is seen by compilers, tracers, profilers,
modes, autocast and transforms. That takes 6 us, or 28 where other layers have overwritten the
caches: if nobody looks, its kernel can be called at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter


def _questions(module: Any, *names: str) -> tuple[Callable[[], Any], ...]:
    """Return functions of PyTorch. They are not public, and where one is missing it may be so."""
    return tuple(getattr(module, name, lambda: True) for name in names)


# Native code asks them, too (TensorLibrary in native/tensors.h).
WATCHERS = (
    *_questions(torch._C, "_len_torch_dispatch_stack", "_len_torch_function_stack"),
    *_questions(torch._C._autograd, "_profiler_enabled"),
)
TRANSFORMERS = _questions(
    torch._C, "_are_functorch_transforms_active", "_get_tracing_state", "_is_any_autocast_enabled"
)


def is_watched() -> bool:
    """Return whether somebody looks at operators: a mode or the profiler."""
    return any(is_there() for is_there in WATCHERS)


def is_transformed() -> bool:
    """Return whether somebody makes something else of what is called.

    That is a compiler, a tracer, autocast, forward mode or a transform of torch.func. Recording for
    gradients is not asked for here.
    """
    if torch.compiler.is_compiling():
        return True
    for is_there in TRANSFORMERS:
        if is_there():
            return True
    return getattr(forward_ad, "_current_level", 0) >= 0


def is_observed() -> bool:
    """Return whether computations have to go through PyTorch's dispatcher."""
    return is_transformed() or is_watched()


_keys_of: Callable[[Tensor], Any] | None = getattr(torch._C, "_dispatch_keys", None)


def _plain_keys() -> tuple[Any, ...]:
    """Return what the dispatcher knows of plain tensors, with and without a record of versions."""
    if _keys_of is None:
        return ()
    tensors = [torch.empty(0)]
    with torch.inference_mode():
        tensors.append(torch.empty(0))
    return tuple(_keys_of(tensor) for tensor in tensors)


_PLAIN_KEYS = _plain_keys()


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor's elements are in the memory of the CPU, as its strides tell.

    Those of sparse, fake and batched tensors are not, nor those of views that negate (`torch.imag`
    of a conjugate) and of zeros without memory, which the dispatcher resolves.
    """
    kind = type(tensor)
    if kind is not Tensor and kind is not Parameter:
        return False
    return _keys_of is not None and _keys_of(tensor) in _PLAIN_KEYS
