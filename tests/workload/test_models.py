"""Models from a factory: untrained, frozen and laid out as configured; errors name their key."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn

from tests.workload.configs import HERE, config
from vram_cli.config import Config
from vram_cli.errors import ConfigError, MachineError
from vram_cli.workload import build_model, build_workload, check_code, config_key_of, open_data, train_step

CPU = torch.device("cpu")
NETS = "tests.fake_tensors.nets:"
IMAGES = {"name": "synthetic", "shape": [3, 8, 8], "classes": 10}


def model_of(target: str, kwargs: dict[str, Any] | None = None, **sections: Any) -> nn.Module:
    return build_model(config(model={"factory": target, "kwargs": kwargs or {}}, **sections))


def frozen(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize(
    ("target", "kwargs", "kind"),
    [
        (HERE + "linear", {"width": 3}, "Linear"),
        (NETS + "ConvNet", {"blocks": 1}, "ConvNet"),
        ("torchvision:resnet18", {"num_classes": 3}, "ResNet"),
        ("torchvision.models:resnet18", {"num_classes": 3}, "ResNet"),
        ("torch.nn:Linear", {"in_features": 3, "out_features": 2}, "Linear"),
        ("timm:vit_tiny_patch16_224", {"num_classes": 3, "depth": 1}, "VisionTransformer"),
        ("transformers:bert", {"num_hidden_layers": 1, "hidden_size": 12}, "BertForMaskedLM"),
        ("transformers:BertForSequenceClassification", {"num_hidden_layers": 1}, "BertForSequenceClassification"),
        ("transformers:gpt2", {"n_layer": 1, "n_embd": 12}, "GPT2LMHeadModel"),
        ("transformers:t5", {"num_layers": 1}, "T5ForConditionalGeneration"),
        ("transformers:bart", {"encoder_layers": 1, "decoder_layers": 1}, "BartForConditionalGeneration"),
        ("transformers:vit", {"num_hidden_layers": 1, "num_labels": 3}, "ViTForImageClassification"),
    ],
)
def test_factories_build_untrained_models(target: str, kwargs: dict[str, Any], kind: str) -> None:
    with torch.device("meta"):
        model = model_of(target, kwargs)
    assert type(model).__name__ == kind
    assert all(module.training for module in model.modules())
    assert frozen(model) == set()


def test_torchvision_backbones_download_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    with torch.device("meta"):
        model = model_of("torchvision:deeplabv3_mobilenet_v3_large", {"num_classes": 3})
    assert type(model).__name__ == "DeepLabV3"


@pytest.mark.parametrize(
    ("target", "kwargs", "words"),
    [
        (HERE + "no_model", {}, "returns a str, not a model"),
        (HERE + "nothing", {}, "has no attribute 'nothing'"),
        (HERE + "NUMBER", {}, "is a int, not callable"),
        ("torchvision:resnet19", {}, "torchvision has no model 'resnet19'"),
        ("timm:resnet19", {}, "timm has no model 'resnet19'"),
        ("transformers:gpt9", {}, "transformers has no model 'gpt9'"),
        ("transformers:Trainer", {}, "transformers has no model 'Trainer'"),
        ("transformers:gpt2", {"n_layers": 2}, r"model\.kwargs: GPT2Config has no setting 'n_layers'"),
        ("transformers:GPT2LMHeadModel", {"num_layer": 2}, r"model\.kwargs: GPT2Config has no setting 'num_layer'"),
    ],
)
def test_factory_that_makes_no_model(target: str, kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        model_of(target, kwargs)
    assert caught.value.message.startswith("model.")
    assert caught.value.hint


@pytest.mark.parametrize("setting", ["n_layer", "num_hidden_layers", "decoder_start_token_id", "attn_implementation"])
def test_transformers_attribute_map(setting: str) -> None:
    value = "eager" if setting == "attn_implementation" else 1
    with torch.device("meta"):
        assert isinstance(model_of("transformers:gpt2", {setting: value, "n_embd": 12}), nn.Module)


def test_missing_package_hints_at_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"model\.factory: timm:create_model: ModuleNotFoundError") as caught:
        model_of("timm:resnet18")
    assert "pip install timm" in caught.value.hint


@pytest.mark.parametrize(
    ("target", "kwargs"),
    [
        (HERE + "raises", {}),
        (HERE + "linear", {"widht": 3}),
        ("torchvision:resnet18", {"num_class": 3}),
        ("timm:resnet18", {"num_class": 3}),
        ("transformers:gpt2", {"n_embd": 13}),  # not divisible by its 12 heads
    ],
)
def test_factory_errors_name_their_key(target: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        model_of(target, kwargs)
    assert config_key_of(caught.value) == f"model.factory ({target})"


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["stem.*"], {"stem.weight", "stem.bias"}),
        (["stem.*", "head.bias"], {"stem.weight", "stem.bias", "head.bias"}),
        (["*.norm?.weight"], {"blocks.0.norm1.weight", "blocks.0.norm2.weight"}),
    ],
)
def test_frozen_parameters_keep_their_values(patterns: list[str], names: set[str]) -> None:
    chosen = config(
        model={"factory": NETS + "ConvNet", "kwargs": {"blocks": 1}}, data=IMAGES, train={"freeze": patterns}
    )
    work = build_workload(chosen, CPU)
    assert frozen(work.model) == names
    before = {name: parameter.clone() for name, parameter in work.model.named_parameters()}
    train_step(work, open_data(chosen).make_batch(4, CPU, torch.float32), lambda _: None)
    changed = {name for name, parameter in work.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == before.keys() - names
    assert {name for name, parameter in work.model.named_parameters() if parameter.grad is None} == names


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (["steam.*"], r"no parameter is called 'steam\.\*'"),
        (["stem"], "no parameter is called 'stem'"),
        (["*"], "no parameter is left to train"),
    ],
)
def test_freezing_nothing_or_everything(patterns: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.freeze: " + words) as caught:
        model_of(NETS + "ConvNet", train={"freeze": patterns})
    assert caught.value.hint


def test_channels_last_reaches_weights() -> None:
    train = {"channels_last": True}
    model = model_of(NETS + "ConvNet", data=IMAGES, train=train)
    assert model.stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert not model.stem.weight.is_contiguous()
    # Whatever fakes are made of it keeps its strides.
    with torch.device("meta"):
        built = model_of(NETS + "ConvNet", data=IMAGES, train=train)
    assert built.stem.weight.stride() == model.stem.weight.stride()


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"model": {"factory": HERE + "nothing"}}, "model.factory"),
        ({"loss": {"factory": HERE + "nothing"}}, "loss.factory"),
        ({"optimizer": {"factory": HERE + "nothing"}}, "optimizer.factory"),
        ({"step": {"function": HERE + "nothing"}}, "step.function"),
    ],
)
def test_code_is_imported_before_anything_runs(sections: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: .*has no attribute 'nothing'"):
        check_code(config(**sections))


def test_presets_need_no_code() -> None:
    preset = {"model": {"name": "mlp"}, "data": {"name": "mnist"}, "optimizer": {"name": "sgd"}}
    check_code(Config.model_validate(preset))


def test_torchvision_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, one that was built for another PyTorch."""
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(MachineError, match="torchvision does not load beside PyTorch") as caught:
        model_of("torchvision:resnet18", {})
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(MachineError, match="torchvision does not load beside PyTorch"):
        model_of("transformers:gpt2", {})
    assert "together" in caught.value.hint
