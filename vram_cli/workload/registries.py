"""Models by their names in torchvision, timm and transformers: built from their configs, with nothing downloaded."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from vram_cli.errors import ConfigError
from vram_cli.workload.code import resolve


def registered(target: str) -> Callable[..., nn.Module] | None:
    """Return what builds "torchvision:NAME", "timm:NAME" or "transformers:NAME"; None for any other target."""
    package, _, name = target.partition(":")
    build = {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}.get(package)
    return None if build is None else build(name)


def _torchvision(name: str) -> Callable[..., nn.Module]:
    from torchvision import models

    try:
        builder = models.get_model_builder(name)
    except ValueError as error:
        hint = "torchvision.models.list_models() lists all"
        raise ConfigError(f"model.target: torchvision has no model {name!r}", hint) from error
    # Detection and segmentation models would download the weights of their backbone.
    untrained = {key: None for key in ("weights", "weights_backbone") if key in inspect.signature(builder).parameters}
    return lambda **kwargs: builder(**{**untrained, **kwargs})


def _timm(name: str) -> Callable[..., nn.Module]:
    create = resolve("timm:create_model", "model.target")
    if not resolve("timm:is_model", "model.target")(name):
        raise ConfigError(f"model.target: timm has no model {name!r}", "timm.list_models() lists all")
    return lambda **kwargs: create(name, **{"pretrained": False, **kwargs})


def _transformers(name: str) -> Callable[..., nn.Module]:
    """A class such as GPT2LMHeadModel, or a model type such as gpt2, with the head that pre-training gives it."""
    auto = resolve("transformers:AutoConfig", "model.target")
    package = sys.modules["transformers"]
    if name in package.CONFIG_MAPPING:
        return lambda **kwargs: _from_type(package, auto.for_model(name, **kwargs))
    model = getattr(package, name, None)
    if model is None or getattr(model, "config_class", None) is None:
        hint = "name a model type such as gpt2, or a class such as BertForSequenceClassification"
        raise ConfigError(f"model.target: transformers has no model {name!r}", hint)
    return lambda **kwargs: model(model.config_class(**kwargs))


def _from_type(package: Any, config: Any) -> nn.Module:
    for head in ("CausalLM", "MaskedLM", "ImageClassification", "Seq2SeqLM"):
        if type(config) in getattr(package, f"MODEL_FOR_{_MAPPINGS[head]}_MAPPING", {}):
            return getattr(package, f"AutoModelFor{head}").from_config(config)  # type: ignore[no-any-return]
    return package.AutoModel.from_config(config)  # type: ignore[no-any-return]


_MAPPINGS = {
    "CausalLM": "CAUSAL_LM",
    "MaskedLM": "MASKED_LM",
    "ImageClassification": "IMAGE_CLASSIFICATION",
    "Seq2SeqLM": "SEQ_TO_SEQ_CAUSAL_LM",
}
