"""Prints what `depthwise.torch.accelerate` gains on whole models, and on their depthwise layers.

    python -m benchmarks.torch_models --seconds 5

Models of transformers with random weights, 224x224 images, one thread, PyTorch's default layout.
Each is timed as it is and accelerated, in turns in one process: without gradients, and in a step of
training (forward and backward). Layers are timed one by one, on the inputs that they have in the
model; their sums are printed. Outputs are compared first. Exit status 1 if they differ.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers

import depthwise
import depthwise.torch
from benchmarks.machine import describe, summary
from benchmarks.peers import keep_freed_memory
from benchmarks.timing import interleave

SIZE = 224


def make_models() -> dict[str, Callable[[], torch.nn.Module]]:
    """Return the models' names and how they are made."""
    efficientnet_b0 = transformers.EfficientNetConfig(
        image_size=SIZE, width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280
    )
    mobilenet = transformers.MobileNetV2Config(image_size=SIZE, tf_padding=True)
    convnext_tiny = transformers.ConvNextConfig(image_size=SIZE)
    return {
        "ConvNeXt-Tiny": partial(transformers.ConvNextModel, convnext_tiny),
        "MobileNetV2": partial(transformers.MobileNetV2Model, mobilenet),
        "EfficientNet-B0": partial(transformers.EfficientNetModel, efficientnet_b0),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.torch_models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--batch", type=int, default=1, help="images, default 1")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="for each of a model's four times, default 4"
    )
    options = parser.parse_args(arguments)
    depthwise.set_num_threads(1)
    torch.set_num_threads(1)
    keep_freed_memory()
    print(summary(describe("benchmarks.torch_models", {}, [1])))
    print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{'ms, median':<60}{'PyTorch':>10}{'depthwise':>11}  times faster")
    for name, make in make_models().items():
        torch.manual_seed(0)
        before = _calibrate(make())
        after = depthwise.torch.accelerate(copy.deepcopy(before), verbose=False)
        image = torch.randn(options.batch, 3, SIZE, SIZE)
        if not _agree(before, after, image):
            print(f"{name}: the outputs differ", file=sys.stderr)
            return 1
        for mode, run in (("forward", _forward), ("training step", _train)):
            layers = [
                interleave(
                    {"before": partial(run, a, x), "after": partial(run, b, x)},
                    options.seconds / len(pairs),
                )
                for pairs in [_layers(before, after, image)]
                for a, b, x in pairs
            ]
            times = [sum(t[key].median_us for t in layers) for key in ("before", "after")]
            _print(f"{name}, its {len(layers)} depthwise layers, {mode}", *times)
            whole = interleave(
                {"before": partial(run, before, image), "after": partial(run, after, image)},
                options.seconds,
            )
            _print(f"{name}, all of it, {mode}", *(t.median_us for t in whole.values()))
    return 0


def _calibrate(model: torch.nn.Module) -> torch.nn.Module:
    """Set the statistics of batch normalisation to those of some images, as training would.

    With those of a new model activations shrink from layer to layer to subnormal numbers, with
    which every library takes ten times as long.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(4, 3, SIZE, SIZE))
    return model.eval()


def _print(text: str, before_us: float, after_us: float) -> None:
    ratio = before_us / after_us
    print(f"{text:<60}{before_us / 1e3:>10.2f}{after_us / 1e3:>11.2f}  {ratio:.2f}", flush=True)


def _agree(before: torch.nn.Module, after: torch.nn.Module, image: torch.Tensor) -> bool:
    with torch.no_grad():
        a, b = before(image).last_hidden_state, after(image).last_hidden_state
    return bool(((a - b).abs() <= 1e-3 * a.abs().max()).all())


def _layers(
    before: torch.nn.Module, after: torch.nn.Module, image: torch.Tensor
) -> list[tuple[torch.nn.Module, torch.nn.Module, torch.Tensor]]:
    """Return each layer that was accelerated, as it was and is, and its input in the model."""
    inputs: dict[torch.nn.Module, torch.Tensor] = {}

    def remember(module: torch.nn.Module, args: Any, output: Any) -> None:
        inputs[module] = args[0].clone()

    pairs = [
        (a, b)
        for a, b in zip(before.modules(), after.modules(), strict=True)
        if type(a) is not type(b)
    ]
    hooks = [a.register_forward_hook(remember) for a, _ in pairs]
    with torch.no_grad():
        before(image)
    for hook in hooks:
        hook.remove()
    return [(a, b, inputs[a]) for a, b in pairs]


def _forward(module: torch.nn.Module, input: torch.Tensor) -> object:
    with torch.no_grad():
        return module(input)


def _train(module: torch.nn.Module, input: torch.Tensor) -> None:
    """Compute all gradients, also of the input, as within a model."""
    output = module(input.detach().requires_grad_())
    output = getattr(output, "last_hidden_state", output)
    output.backward(torch.ones_like(output))


if __name__ == "__main__":
    sys.exit(main())
