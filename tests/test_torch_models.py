"""Whole models of transformers: accelerated, they compute what they computed before."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    EfficientNetConfig,
    EfficientNetModel,
    MobileNetV2Config,
    MobileNetV2Model,
)

from depthwise.torch import accelerate

# A framework's own warnings are not ours to turn into errors.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

# With the number of their depthwise layers.
MODELS: dict[str, tuple[Callable[[], torch.nn.Module], int]] = {
    "ConvNeXt-Tiny": (lambda: ConvNextModel(ConvNextConfig()), 18),
    "MobileNetV2": (lambda: MobileNetV2Model(MobileNetV2Config(tf_padding=True)), 17),
    "EfficientNet-B0": (
        lambda: EfficientNetModel(
            EfficientNetConfig(
                image_size=224, width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280
            )
        ),
        16,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_all_gradients_agree(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In float64, where an error of ours would not hide behind rounding."""
    make, layers = MODELS[name]
    torch.manual_seed(0)
    before = make().double().eval()
    after = accelerate(copy.deepcopy(before))
    assert f"depthwise: {layers} of" in capsys.readouterr().out
    image = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    outputs = []
    for model in (before, after):
        output = model(image).last_hidden_state
        output.square().sum().backward()
        outputs.append(output)
    torch.testing.assert_close(outputs[1], outputs[0])
    parameters = dict(before.named_parameters())
    assert parameters.keys() == dict(after.named_parameters()).keys()
    reached = 0
    for key, parameter in after.named_parameters():
        want = parameters[key].grad
        if want is None:  # the pooled output is not part of the loss
            assert parameter.grad is None
            continue
        assert parameter.grad is not None
        reached += 1
        scale = want.abs().max().item()
        torch.testing.assert_close(parameter.grad, want, rtol=1e-9, atol=1e-9 * scale)
    assert reached > 0.9 * len(parameters)
