"""`DepthwiseConv2d`, `accelerate` and `restore` against PyTorch's own layers."""

from __future__ import annotations

import contextlib
import copy
import doctest
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import depthwise.torch
from depthwise.torch import DepthwiseConv2d, accelerate, restore
from subprocesses import output_of

# A framework's own warnings are not ours to turn into errors.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

OPTIONS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 3},
    {"kernel_size": (3, 5), "stride": (2, 1), "padding": (1, 2)},
    {"kernel_size": 5, "padding": "same", "channel_multiplier": 3, "bias": False},
    {"kernel_size": (2, 4), "padding": "same", "dilation": (2, 3)},
    {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 2, "channel_multiplier": 2},
    {"kernel_size": 3, "stride": (1, 3), "dilation": (3, 2), "padding": "valid"},
)


def twins(options: dict[str, Any], channels: int, dtype: torch.dtype) -> tuple[Any, nn.Conv2d]:
    """Return a layer of ours and PyTorch's, with the parameters of the latter."""
    torch.manual_seed(0)
    ours = DepthwiseConv2d(channels, **options, dtype=dtype)
    theirs_options = {k: v for k, v in options.items() if k != "channel_multiplier"}
    out_channels = channels * options.get("channel_multiplier", 1)
    theirs = nn.Conv2d(channels, out_channels, **theirs_options, groups=channels, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def train(layer: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Return the output and all gradients of one step."""
    image = image.clone(memory_format=torch.preserve_format).requires_grad_()
    layer.zero_grad()
    output = layer(image)
    output.square().sum().backward()
    assert image.grad is not None
    gradients = [parameter.grad for parameter in layer.parameters()]
    return [output.detach(), image.grad, *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_layer_is_conv2d(
    options: dict[str, Any], channels: int, order: torch.memory_format
) -> None:
    """Output and gradients, which proves the order of the channels of each group too."""
    ours, theirs = twins(options, channels, torch.float64)
    image = torch.randn(2, channels, 11, 13, dtype=torch.float64).contiguous(memory_format=order)
    for got, want in zip(train(ours, image), train(theirs, image), strict=True):
        torch.testing.assert_close(got, want)
    assert ours(image).is_contiguous(memory_format=order)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(image[0]), theirs(image[0]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype: torch.dtype) -> None:
    ours, theirs = twins({"kernel_size": 5, "padding": 2}, 20, dtype)
    image = torch.randn(2, 20, 11, 13, dtype=dtype)
    torch.testing.assert_close(ours(image), theirs(image))


def test_padding_as_tensorflow_has_it() -> None:
    """An odd zero goes after, and the size depends on the stride alone."""
    layer = DepthwiseConv2d(4, 3, stride=2, padding="SAME")
    image = torch.randn(1, 4, 8, 9)
    padded = nn.functional.pad(image, (1, 1, 0, 1))
    want = nn.functional.conv2d(padded, layer.weight, layer.bias, stride=2, groups=4)
    torch.testing.assert_close(layer(image), want)
    assert layer(image).shape == (1, 4, 4, 5)
    valid = DepthwiseConv2d(4, 3, padding="VALID")
    assert valid(image).shape == (1, 4, 6, 7)
    assert "SAME" in repr(layer)


def test_padding_that_neither_has() -> None:
    with pytest.raises(ValueError, match="Same"):
        DepthwiseConv2d(4, 3, padding="Same")


def test_one_rounding_of_the_bias() -> None:
    """It is added in the kernel: a pass of its own would round 2049 to 2048 first."""
    layer = DepthwiseConv2d(1, 1, dtype=torch.float16)
    image = torch.full((1, 1, 1, 1), 683, dtype=torch.float16)
    with torch.no_grad():
        layer.weight.fill_(3)
        assert layer.bias is not None
        layer.bias.fill_(1)
        assert layer(image).item() == 2050


def test_errors_of_a_layer() -> None:
    layer = DepthwiseConv2d(4, 3)
    with pytest.raises(ValueError, match="input channels"):
        layer(torch.ones(1, 5, 8, 8))
    with pytest.raises(TypeError, match=r"weight has dtype torch.float32, input has torch.float64"):
        layer(torch.ones(1, 4, 8, 8).double())
    with pytest.raises(ValueError, match="negative"):
        layer(torch.ones(1, 4, 1, 1))
    with pytest.raises(ValueError, match="rank 2"):
        layer(torch.ones(4, 4))


class OwnForward(nn.Conv2d):
    """A layer that computes something else."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) * 2


class OwnSettings(nn.Conv2d):
    """As models of transformers have them: other defaults, the same computation."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels)


def make_model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.BatchNorm2d(8),
        nn.Sequential(nn.Conv2d(8, 16, 5, stride=2, groups=8), nn.ReLU(), OwnSettings(16)),
        nn.Conv2d(16, 16, 3, groups=16, padding=1, padding_mode="reflect"),
        nn.Conv2d(16, 16, 3, groups=4),
        OwnForward(16, 16, 1, groups=16),
    )


def test_accelerate_and_restore(capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model()
    image = torch.randn(2, 3, 12, 13)
    classes = [type(module) for module in model.modules()]
    parameters = list(model.parameters())
    names = list(model.state_dict())
    want = train(copy.deepcopy(model), image)
    seen: list[torch.Size] = []
    model[1].register_forward_hook(lambda module, args, output: seen.append(output.shape))

    assert accelerate(model) is model
    assert capsys.readouterr().out.splitlines() == [
        "depthwise: 3 of 7 Conv2d replaced",
        "  2 left: groups is not in_channels",
        "  1 left: padding_mode is reflect",
        "  1 left: OwnForward has a forward of its own",
    ]
    for got, wanted in zip(train(model, image), want, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert seen == [(2, 8, 12, 13)]
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert list(model.state_dict()) == names
    assert isinstance(model[1], nn.Conv2d)

    accelerate(model, verbose=False)
    assert capsys.readouterr().out == ""
    accelerate(model)
    assert "3 left: computed by depthwise already" in capsys.readouterr().out
    assert restore(model) is model
    assert [type(module) for module in model.modules()] == classes


def test_accelerated_layers_really_are_ours() -> None:
    """Their last bits are those of our kernels."""
    model = make_model()
    image = torch.randn(2, 8, 12, 13)
    layer: Any = model[1]
    ours = DepthwiseConv2d(8, 3, padding=1)
    ours.load_state_dict(layer.state_dict())
    assert torch.equal(accelerate(layer, verbose=False)(image), ours(image))


def test_a_model_that_is_a_layer(capsys: pytest.CaptureFixture[str]) -> None:
    layer = nn.Conv2d(4, 8, 3, groups=4)
    assert accelerate(layer) is layer
    assert capsys.readouterr().out == "depthwise: 1 of 1 Conv2d replaced\n"


def test_copies_and_pickles() -> None:
    model = accelerate(make_model(), verbose=False)
    image = torch.randn(2, 3, 12, 13)
    model.eval()
    want = model(image)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    copies = [
        copy.deepcopy(model),
        *(pickle.loads(pickle.dumps(model, protocol)) for protocol in (2, 5)),
        torch.load(buffer, weights_only=False),
    ]
    for other in copies:
        assert type(other[1]) is type(model[1])
        assert torch.equal(other(image), want)
        assert type(restore(other)[1]) is nn.Conv2d
    layer: Any = model[1]
    shallow = copy.copy(layer)
    assert type(restore(shallow)) is nn.Conv2d
    assert shallow.weight is layer.weight
    assert type(layer) is not nn.Conv2d
    fresh = make_model().eval()
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(image), want, rtol=1e-4, atol=1e-4)


def test_a_pickle_is_read_by_a_process_that_has_not_imported_us(tmp_path: Any) -> None:
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps(accelerate(nn.Conv2d(4, 4, 3, groups=4), verbose=False)))
    printed = output_of(
        f"""
        import pickle, torch
        layer = pickle.load(open({str(path)!r}, "rb"))
        print(layer(torch.ones(1, 4, 5, 5)).shape)
        """
    )
    assert printed.strip() == "torch.Size([1, 4, 3, 3])"


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


@pytest.mark.parametrize(
    "steps", ["accelerate register restore remove", "register accelerate remove restore"]
)
def test_parametrizations(steps: str) -> None:
    """PyTorch gives such layers a class of their own, whichever they had."""
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8))
    image = torch.randn(1, 8, 5, 5)
    plain = model(image)
    bias: Any = model[0].bias
    doubled = 2 * (plain - bias.view(-1, 1, 1)) + bias.view(-1, 1, 1)
    names = {
        "accelerate": lambda: accelerate(model, verbose=False),
        "restore": lambda: restore(model),
        "register": lambda: parametrize.register_parametrization(model[0], "weight", Doubled()),
        "remove": lambda: parametrize.remove_parametrizations(model[0], "weight", False),
    }
    for step in steps.split():
        names[step]()
        want = doubled if parametrize.is_parametrized(model[0]) else plain
        torch.testing.assert_close(model(image), want)
    assert type(model[0]) is nn.Conv2d


def test_what_is_changed_after_the_layer_is_made() -> None:
    """Its settings may then be integers, as PyTorch takes them too."""
    layer = accelerate(nn.Conv2d(4, 4, 3, groups=4), verbose=False)
    twin = restore(copy.deepcopy(layer))
    image = torch.randn(1, 4, 9, 9)
    for changed in (layer, twin):
        changed.stride, changed.padding, changed.dilation = 2, 1, 1  # type: ignore[assignment]
    torch.testing.assert_close(layer(image), twin(image))
    own = nn.Conv2d(4, 4, 3, groups=4)
    own.forward = lambda input: input  # type: ignore[method-assign]
    assert accelerate(own, verbose=False)(image) is image
    assert type(own) is nn.Conv2d


def test_symbolic_traces() -> None:
    model = accelerate(make_model(), verbose=False)
    image = torch.randn(2, 3, 12, 13)
    assert torch.equal(torch.fx.symbolic_trace(model.eval())(image), model(image))


def test_training_and_evaluation_modes() -> None:
    model = accelerate(make_model(), verbose=False)
    assert not model.eval()[1].training
    assert model.train()[1].training


def test_other_dtypes_and_devices_compute_as_before() -> None:
    layer = nn.Conv2d(4, 4, 3, groups=4, dtype=torch.complex64)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        accelerate(layer)
    assert "1 left: parameters of torch.complex64" in printed.getvalue()
    model = accelerate(nn.Conv2d(4, 4, 3, groups=4), verbose=False)
    image = torch.ones(1, 4, 5, 5)
    assert model.to("meta")(image.to("meta")).device.type == "meta"
    with pytest.raises(RuntimeError):  # as torch.nn.Conv2d does
        accelerate(nn.Conv2d(4, 4, 3, groups=4), verbose=False)(image.int())


def test_compiled_model_is_one_graph() -> None:
    torch.compiler.reset()
    model = accelerate(make_model(), verbose=False)
    image = torch.randn(2, 3, 12, 13)
    want = train(model, image)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for got, wanted in zip(train(compiled, image), want, strict=True):
        torch.testing.assert_close(got, wanted)


def test_autocast_of_a_model() -> None:
    model = accelerate(make_model(), verbose=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model[1](torch.randn(1, 8, 5, 5)).dtype is torch.bfloat16


def test_workers_of_a_data_loader() -> None:
    """Children of a process that has computed with several threads."""
    output = output_of(
        """
        import torch, depthwise
        from depthwise.torch import DepthwiseConv2d

        depthwise.set_num_threads(2)
        layer = DepthwiseConv2d(32, 3, padding=1)
        images = torch.randn(6, 32, 56, 56)
        want = layer(images)

        class Filtered(torch.utils.data.Dataset):
            def __len__(self):
                return 6

            def __getitem__(self, index):
                with torch.no_grad():
                    return layer(images[index])

        loader = torch.utils.data.DataLoader(
            Filtered(), batch_size=3, num_workers=2, multiprocessing_context="fork"
        )
        print(torch.equal(torch.cat(list(loader)), want))
        """
    )
    assert output.strip() == "True"


def test_examples_of_the_documentation() -> None:
    results = doctest.testmod(depthwise.torch)
    assert results.attempted > 0
    assert results.failed == 0
