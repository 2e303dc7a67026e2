"""A whole config, and its JSON Schema."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

from vram_cli.config.section import Section
from vram_cli.config.training_sections import DeviceConfig, OptimizerConfig, Precision, SearchConfig, TrainConfig
from vram_cli.config.value_types import invalid, is_from_a_library
from vram_cli.config.workload_sections import DataConfig, LossConfig, ModelConfig, StepConfig


@dataclass(frozen=True, kw_only=True)
class ConfigSource:
    """Where a config was read."""

    name: str = "config"
    """File name, for people."""
    path: Path | None = None
    """The file as the user named it; None for a bundled config, or one that was read from no file."""
    folder: Path = Path()
    """What relative paths in the config refer to."""
    is_bundled: bool = False
    is_default: bool = False
    """Whether nobody named it: it is what vram takes when no config is given."""
    overrides: tuple[str, ...] = ()
    """What the command line changed, such as "optimizer.name=adamw"."""

    def __str__(self) -> str:
        return f"{self.name} (bundled)" if self.is_bundled else str(self.path or self.name)


Mode = Literal["train", "eval"]


class Config(BaseModel):  # noqa: PLW1641 (pydantic makes __hash__ of a frozen model)
    """A whole config. `model_dump(mode="json")` gives keys that `Config.model_validate` makes the same config of."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    model: ModelConfig
    data: DataConfig
    loss: LossConfig | None = None
    """Left out: cross entropy where the data has targets, else the model's own loss."""
    step: StepConfig | None = None
    """A training step of one's own; left out: zero_grad, forward, loss, backward, optimizer step."""
    optimizer: OptimizerConfig
    mode: Mode = "train"
    """train: full training steps. eval: the forward pass of model.eval() in inference mode, with the loss if the data
    has targets; keys about training alone are ignored."""
    precision: Precision = "fp32"
    """amp-bf16 and amp-fp16 are autocast, fp16 with a gradient scaler; bf16 keeps everything in bfloat16."""
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()
    device: DeviceConfig = DeviceConfig()

    _source: ConfigSource = PrivateAttr(default=ConfigSource())

    @model_validator(mode="after")
    def _preset_models_take_images(self) -> Config:
        if self.model.name and not self.data.name:
            hint = "give data.name (synthetic takes any shape), or a model by model.factory"
            raise invalid(
                f"{self.model.name} follows the data, and data by {self.data.kind} says too little", hint, "model.name"
            )
        return self

    @model_validator(mode="after")
    def _in_backward_stands_alone(self) -> Config:
        others = {
            "precision": self.precision == "amp-fp16",
            "train.gradient_accumulation_steps": self.train.gradient_accumulation_steps > 1,
            "train.clip_grad_norm": self.train.clip_grad_norm is not None,
            "train.zero_grad_set_to_none": self.train.zero_grad_set_to_none is False,
        }
        if self.train.optimizer_in_backward and any(others.values()):
            key = next(key for key, used in others.items() if used)
            hint = "leave one of them out: gradients are gone before all of them are known"
            raise invalid("goes not with train.optimizer_in_backward", hint, key)
        return self

    @model_validator(mode="after")
    def _own_step_does_it_all(self) -> Config:
        train, hint = self.train, "do it in the step, and leave the key out"
        theirs = {
            "loss": self.loss is not None,
            "precision": self.precision.startswith("amp"),
            "train.optimizer_in_backward": self.train.optimizer_in_backward,
            "train.gradient_accumulation_steps": train.gradient_accumulation_steps > 1,
            "train.clip_grad_norm": train.clip_grad_norm is not None,
            "train.ema": train.ema,
            "train.zero_grad_set_to_none": train.zero_grad_set_to_none is False,
        }
        if self.step and any(theirs.values()):
            key = next(key for key, used in theirs.items() if used)
            raise invalid("means nothing for a step of your own", hint, key)
        return self

    @property
    def user_code(self) -> tuple[str, ...]:
        """The code of the user's own that the config names, such as "model.factory (mycode:build)".

        It is imported from the config's own folder too; the libraries that vram itself builds on are not.
        """
        sections = {"model": self.model, "data": self.data, "loss": self.loss, "optimizer": self.optimizer}
        named = {f"{name}.factory": getattr(section, "factory", None) for name, section in sections.items()}
        named["step.function"] = self.step.function if self.step else None
        named["data.collate_fn"] = self.data.collate_fn
        return tuple(
            f"{key} ({reference})" for key, reference in named.items() if reference and not is_from_a_library(reference)
        )

    @property
    def source(self) -> ConfigSource:
        """Where this config was read; no part of a dump."""
        return self._source

    def with_source(self, source: ConfigSource) -> Config:
        """Return the same config with another `source`."""
        copy = self.model_copy()
        copy._source = source
        return copy

    def __eq__(self, other: object) -> bool:
        # Two configs are the same when their keys are, wherever they were read.
        return isinstance(other, Config) and self.__dict__ == other.__dict__


SECTIONS: dict[str, type[Section]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "loss": LossConfig,
    "step": StepConfig,
    "optimizer": OptimizerConfig,
    "train": TrainConfig,
    "search": SearchConfig,
    "device": DeviceConfig,
}
"""The sections that hold keys; `precision` is a value by itself."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file, for completion and checks in an editor."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    bare: dict[str, list[Any]] = {
        "train": [],
        "search": [],
        "device": [definitions["DeviceConfig"]["properties"]["name"]],
        "loss": [{"enum": ["cross_entropy", "model"]}],
        "step": [definitions["StepConfig"]["properties"]["function"]],
    }
    for name, others in bare.items():
        section = {"$ref": f"#/$defs/{SECTIONS[name].__name__}"}
        schema["properties"][name] = {"anyOf": [section, *others, {"type": "null"}]}
    title = {"title": "vram config", "description": "What is trained, and how the largest batch is looked for."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, **title}
