"""Activation checkpointing: the selected modules, and gradients that stay the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.fake_tensors.nets import ConvNet, Layer, Transformer
from vram_cli.errors import ConfigError
from vram_cli.workload.activation_checkpointing import apply_activation_checkpointing, repeated_blocks, select_blocks
from vram_cli.workload.model_libraries import library_builder

TINY_GPT2 = {"n_layer": 3, "n_embd": 32, "n_head": 2, "vocab_size": 50, "n_positions": 16}
TINY_T5 = {"num_layers": 2, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_heads": 2, "vocab_size": 50} | {
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
}


def built(target: str, **kwargs: Any) -> nn.Module:
    build = library_builder(target)
    assert build is not None
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's swin asks for a keyword of meshgrid
        return build(**kwargs)


@pytest.mark.parametrize(
    ("target", "kwargs", "count", "first", "kinds"),
    [
        ("torchvision:resnet50", {}, 16, "layer1.0", {"Bottleneck"}),
        ("torchvision:vit_b_16", {}, 12, "encoder.layers.encoder_layer_0", {"EncoderBlock"}),
        ("torchvision:convnext_tiny", {}, 18 + 3, "features.1.0", {"CNBlock", "Sequential"}),
        ("torchvision:swin_t", {}, 12 + 3, "features.1.0", {"SwinTransformerBlock", "PatchMerging"}),
        ("torchvision:densenet121", {}, 58, "features.denseblock1.denselayer1", {"_DenseLayer"}),
        ("torchvision:mobilenet_v3_small", {}, 11, "features.1", {"InvertedResidual"}),
        ("torchvision:efficientnet_b0", {}, 16, "features.1.0", {"MBConv"}),
        ("transformers:gpt2", TINY_GPT2, 3, "transformer.h.0", {"GPT2Block"}),
        ("transformers:t5", TINY_T5, 4, "encoder.block.0", {"T5Block"}),
        ("timm:vit_tiny_patch16_224", {}, 12, "blocks.0", {"Block"}),
        # Stages that hold their blocks in sequences: the blocks are taken.
        ("timm:convnext_atto", {}, 12, "stages.0.blocks.0", {"ConvNeXtBlock"}),
    ],
)
def test_repeated_blocks_of_known_models(
    target: str, kwargs: dict[str, Any], count: int, first: str, kinds: set[str]
) -> None:
    found = repeated_blocks(built(target, **kwargs))
    assert (len(found), next(iter(found))) == (count, first)
    assert {type(module).__name__ for module in found.values()} == kinds


def test_blocks_are_ordered_and_not_nested() -> None:
    model = built("torchvision:swin_t")
    names = [name for name, _ in model.named_modules()]
    found = list(repeated_blocks(model))
    assert found == sorted(found, key=names.index)
    assert not [name for name in found for other in found if name.startswith(f"{other}.")]


class Expert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)


class Mixture(nn.Module):
    """A layer with a list of parallel experts: the layer is the block."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Expert() for _ in range(4))


def test_experts_belong_to_their_layer() -> None:
    model = nn.ModuleDict({"layers": nn.ModuleList(Mixture() for _ in range(3))})
    assert list(repeated_blocks(model)) == ["layers.0", "layers.1", "layers.2"]


def test_single_layers_are_not_blocks() -> None:
    def block() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    assert list(repeated_blocks(nn.Sequential(block(), nn.ReLU(), block()))) == ["0", "2"]
    assert list(repeated_blocks(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)))) == []
    assert list(repeated_blocks(built("torchvision:vgg11"))) == []


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ("none", []),
        ("full", ["layers.0", "layers.1", "layers.2", "layers.3"]),
        ("every-2", ["layers.0", "layers.2"]),
        ("every-3", ["layers.0", "layers.3"]),
        ("every-9", ["layers.0"]),
        ("layers.[12]", ["layers.1", "layers.2"]),
        ("layers.1*", ["layers.1"]),  # what is in it is within it
        ("layers*", ["layers.0", "layers.1", "layers.2", "layers.3"]),  # the list itself is never called
        ("*.mlp", [f"layers.{i}.mlp" for i in range(4)]),
        ("norm", ["norm"]),
    ],
)
def test_selected_blocks(how: str, names: list[str]) -> None:
    assert list(select_blocks(Transformer(layers=4), how)) == names


@pytest.mark.parametrize(
    ("how", "words", "hint"),
    [
        ("ful", r"no module is called 'ful'", "the model has embed, layers, norm, head"),
        ("layers.9", r"no module is called 'layers\.9'", "embed"),
        ("Layers*", "no module is called", "embed"),
        ("layers", "layers is a list of modules, which is never called", '"layers.*"'),
    ],
)
def test_pattern_without_matches(how: str, words: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.activation_checkpointing: " + words) as caught:
        apply_activation_checkpointing(Transformer(), how)
    assert hint in caught.value.hint


@pytest.mark.parametrize("how", ["full", "every-2"])
def test_model_without_repeated_blocks(how: str) -> None:
    with pytest.raises(ConfigError, match=f"train.activation_checkpointing: {how} finds no repeated blocks") as caught:
        apply_activation_checkpointing(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), how)
    assert "pattern" in caught.value.hint


def dense() -> nn.Module:
    from torchvision.models import DenseNet

    return DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8, num_classes=10)


def hugging(target: str, kwargs: dict[str, Any]) -> nn.Module:
    build = library_builder(target)
    assert build is not None
    return build(**kwargs)


WORDS = torch.randint(0, 50, (2, 12))
IMAGES = torch.randn(2, 3, 32, 32)
TRAINED: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], torch.Tensor]]] = {
    "conv net with dropout": (lambda: ConvNet(dropout=0.3), lambda model: model(IMAGES).square().mean()),
    "transformer with dropout": (lambda: Transformer(dropout=0.3), lambda model: model(WORDS, WORDS)["loss"]),
    "densenet": (dense, lambda model: model(IMAGES).square().mean()),
    "gpt2": (
        lambda: hugging("transformers:gpt2", TINY_GPT2),
        lambda model: model(input_ids=WORDS, labels=WORDS).loss,
    ),
    "t5": (lambda: hugging("transformers:t5", TINY_T5), lambda model: model(input_ids=WORDS, labels=WORDS).loss),
}


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_are_unchanged(name: str) -> None:
    build, run = TRAINED[name]
    gradients = []
    for how in ("none", "full", "every-2"):
        torch.manual_seed(0)
        model = apply_activation_checkpointing(build().train(), how)
        torch.manual_seed(1)
        run(model).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for other in gradients[1:]:
        assert any(gradient is not None for gradient in other)
        torch.testing.assert_close(other, gradients[0])


def test_checkpointing_disables_the_kv_cache() -> None:
    plain, model = (
        apply_activation_checkpointing(hugging("transformers:t5", TINY_T5), how) for how in ("none", "full")
    )
    assert plain(input_ids=WORDS, labels=WORDS).past_key_values is not None
    assert model(input_ids=WORDS, labels=WORDS).past_key_values is None


def test_only_selected_blocks_run_twice() -> None:
    runs: list[str] = []
    model = apply_activation_checkpointing(Transformer(layers=3), "layers.1")
    for name, module in model.layers.named_children():
        module.norm1.register_forward_hook(lambda *_, name=name: runs.append(name))
    model(WORDS, WORDS)["loss"].backward()
    assert runs == ["0", "1", "2", "1"]
    assert isinstance(model.layers[1], Layer)
