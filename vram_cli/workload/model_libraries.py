"""Models by their names in torchvision, timm and transformers: built from their configs, without a download."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from torch import nn

from vram_cli.errors import ConfigError
from vram_cli.suggest import nearest
from vram_cli.workload.user_code import errors_from, import_torchvision, resolve


def library_builder(reference: str) -> Callable[..., nn.Module] | None:
    """Return the builder of "torchvision:NAME", "timm:NAME" or "transformers:NAME"; None for any other reference."""
    package, _, name = reference.partition(":")
    build = {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}.get(package)
    return None if build is None else build(name)


def _torchvision(name: str) -> Callable[..., nn.Module]:
    models = import_torchvision("models")
    try:
        builder = models.get_model_builder(name)
    except ValueError as error:
        hint = "torchvision.models.list_models() lists all"
        raise ConfigError(f"model.factory: torchvision has no model {name!r}", hint) from error
    # Detection and segmentation models would download the weights of their backbone.
    untrained = {key: None for key in ("weights", "weights_backbone") if key in inspect.signature(builder).parameters}
    return lambda **kwargs: builder(**{**untrained, **kwargs})


def _timm(name: str) -> Callable[..., nn.Module]:
    create = resolve("timm:create_model", "model.factory")
    if not resolve("timm:is_model", "model.factory")(name):
        raise ConfigError(f"model.factory: timm has no model {name!r}", "timm.list_models() lists all")
    return lambda **kwargs: create(name, **{"pretrained": False, **kwargs})


def _transformers(name: str) -> Callable[..., nn.Module]:
    """Build a class such as GPT2LMHeadModel, or a model type such as gpt2 with its head for pre-training."""
    auto = resolve("transformers:AutoConfig", "model.factory")
    if find_spec("torchvision") is not None:  # models import it too, and report only that they cannot be imported
        import_torchvision("transforms")
    package = sys.modules["transformers"]
    if name in package.CONFIG_MAPPING:
        return lambda **kwargs: _with_head(package, _checked_config(package, partial(auto.for_model, name), kwargs))
    with errors_from("model.factory"):  # transformers reports missing dependencies when the class is looked up
        model = getattr(package, name, None)
    if getattr(model, "config_class", None) is None:
        hint = "name a model type such as gpt2, or a class such as BertForSequenceClassification"
        raise ConfigError(f"model.factory: transformers has no model {name!r}", hint)
    return lambda **kwargs: model(_checked_config(package, model.config_class, kwargs))  # type: ignore[misc,union-attr]


def _checked_config(package: Any, make: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    """Make a config, and refuse settings that look misspelled: transformers would store them unused."""
    config = make(**kwargs)
    try:
        defaults = [make(), package.GenerationConfig()]
    except Exception:  # noqa: BLE001 - a config of several models has no defaults to compare with
        return config
    names = {name.removeprefix("_") for config in defaults for name in vars(config)}
    for key in kwargs:
        match = nearest(key, names)
        if match is not None and not any(hasattr(config, name) for config in defaults for name in (key, f"_{key}")):
            message = f"model.kwargs: {type(config).__name__} has no setting {key!r}"
            raise ConfigError(message, f"did you mean {match}?")
    return config


def _with_head(package: Any, config: Any) -> nn.Module:
    for head, mapping in _HEADS.items():
        if type(config) in getattr(package, mapping, {}):
            return getattr(package, head).from_config(config)  # type: ignore[no-any-return]
    return package.AutoModel.from_config(config)  # type: ignore[no-any-return]


# In this order: encoders such as BERT are among the decoders too, and models with both, such as BART, among all three.
_HEADS = {
    "AutoModelForSpeechSeq2Seq": "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING",
    "AutoModelForSeq2SeqLM": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "AutoModelForMaskedLM": "MODEL_FOR_MASKED_LM_MAPPING",
    "AutoModelForCausalLM": "MODEL_FOR_CAUSAL_LM_MAPPING",
    "AutoModelForImageClassification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
}
