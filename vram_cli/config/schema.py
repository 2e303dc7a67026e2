"""A whole config, and its JSON Schema."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from vram_cli.config.parallel_section import ParallelConfig
from vram_cli.config.script_section import ScriptConfig
from vram_cli.config.section import Section
from vram_cli.config.training_sections import DeviceConfig, OptimizerConfig, Precision, SearchConfig, TrainConfig
from vram_cli.config.value_types import MAX_ELEMENTS, invalid, is_from_a_library
from vram_cli.config.workload_sections import DataConfig, LossConfig, ModelConfig, StepConfig
from vram_cli.shell import shell_line


@dataclass(frozen=True, kw_only=True)
class ConfigSource:
    """The origin of a config."""

    name: str = "config"
    """File name, for display."""
    path: Path | None = None
    """The file as the user named it; None for a bundled config, or one that was not read from a file."""
    folder: Path = Path()
    """Base of relative paths in the config."""
    is_command: bool = False
    """Whether there is no file, but the command of a script."""
    is_bundled: bool = False
    is_default: bool = False
    """Whether the user named no config."""
    overrides: tuple[str, ...] = ()
    """Changes from the command line, such as "optimizer.name=adamw"."""
    places: Mapping[str, str] = field(default_factory=dict)
    """The place that sets each key, such as "train.yaml:7" or "command line"."""

    def located(self, message: str) -> str:
        """Return a message that begins with a key with the place of that key before it."""
        place = self.places.get(message.partition(": ")[0])
        return f"{place}: {message}" if place else message

    def __str__(self) -> str:
        return f"{self.name} (bundled)" if self.is_bundled else str(self.path or self.name)


Mode = Literal["train", "eval"]


_OF_A_SCRIPT: dict[str, Any] = {
    "model": {"name": "mlp"},
    "data": {"name": "mnist"},
    "optimizer": {"name": "sgd"},
}
"""What stands in sections about which a script decides; no dump shows it."""
_DECIDED_BY_A_SCRIPT = (*_OF_A_SCRIPT, "loss", "step", "mode", "precision", "parallel")
_DECIDED = "is decided by the training script"
_MAY_STAY = "remove it: beside a script, a config sets search, device and train.batch_size alone"


class Config(BaseModel):  # noqa: PLW1641 (pydantic makes __hash__ of a frozen model)
    """A whole config. `Config.model_validate` restores it from `model_dump(mode="json")`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    model: ModelConfig
    data: DataConfig
    loss: LossConfig | None = None
    """The default is cross entropy if the data has targets, else the model's own loss."""
    step: StepConfig | None = None
    """The default is zero_grad, forward, loss, backward, optimizer step."""
    optimizer: OptimizerConfig
    mode: Mode = "train"
    """train: full training steps. eval: the forward pass of model.eval() in inference mode, with the loss if the data
    has targets; keys about training alone are ignored."""
    precision: Precision = "fp32"
    """fp32 changes nothing: parameters keep the dtypes they are made with and PyTorch's settings hold, by which
    convolutions may use TensorFloat-32. tf32 also lets matrix products use it. amp-bf16 and amp-fp16 use autocast, the
    latter with a gradient scaler. bf16 converts all floating parameters to bfloat16. Data that are float32 follow the
    model's first floating parameter."""
    script: ScriptConfig | None = None
    """A training script to run in place of model, data, loss, step, optimizer, mode and precision."""
    parallel: ParallelConfig | None = None
    """Several GPUs that train together; null for one."""
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()
    device: DeviceConfig = DeviceConfig()

    _source: ConfigSource = PrivateAttr(default=ConfigSource())

    @model_validator(mode="before")
    @classmethod
    def _a_script_decides(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("script") is None:
            return values
        for key in _DECIDED_BY_A_SCRIPT:
            if values.get(key) is not None:
                raise invalid(_DECIDED, _MAY_STAY, key)
        others = sorted((values.get("train") or {}).keys() - {"batch_size"})
        if others:
            raise invalid(_DECIDED, _MAY_STAY, f"train.{others[0]}")
        return values | _OF_A_SCRIPT

    @model_serializer(mode="wrap")
    def _without_what_a_script_decides(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if self.parallel is None:
            values.pop("parallel", None)
        if self.script is None:
            values.pop("script", None)
            return values
        kept = {key: value for key, value in values.items() if key not in _DECIDED_BY_A_SCRIPT}
        return kept | {"train": {"batch_size": self.train.batch_size} if self.names_batch_size else {}}

    @model_validator(mode="after")
    def _preset_models_take_images(self) -> Config:
        if self.model.name and not self.data.name:
            hint = "set data.name (synthetic allows any shape), or name another model by model.factory"
            problem = f"{self.model.name} needs image data, which data.{self.data.kind} does not describe"
            raise invalid(problem, hint, "model.name")
        return self

    @model_validator(mode="after")
    def _sizes_can_be_counted(self) -> Config:
        """PyTorch counts the bytes of a tensor in 64 bits; the layers of presets have up to 4096 weights per input."""
        if self.data.name is None:
            return self
        sample, width = math.prod(self.data.sample_shape), self.model.hidden if self.model.name == "mlp" else 1
        elements = {
            "data.shape": sample * 4096,
            "data.classes": self.data.num_classes * 4096,
            "model.hidden": width * max(sample, self.data.num_classes),
            "train.batch_size": self.train.batch_size * max(sample, width, self.data.num_classes),
        }
        for key, count in elements.items():
            if count > MAX_ELEMENTS:
                raise invalid("is larger than PyTorch can count: a tensor would have 2**63 bytes or more", key=key)
        return self

    @model_validator(mode="after")
    def _optimizer_in_backward_is_compatible(self) -> Config:
        conflicts = {
            "precision": self.precision == "amp-fp16",
            "train.gradient_accumulation_steps": self.train.gradient_accumulation_steps > 1,
            "train.clip_grad_norm": self.train.clip_grad_norm is not None,
            "train.zero_grad_set_to_none": self.train.zero_grad_set_to_none is False,
        }
        if self.train.optimizer_in_backward and any(conflicts.values()):
            key = next(key for key, used in conflicts.items() if used)
            hint = "remove one of them: each gradient is freed before the next ones exist"
            raise invalid("cannot be combined with train.optimizer_in_backward", hint, key)
        return self

    @model_validator(mode="after")
    def _custom_step_is_compatible(self) -> Config:
        train, hint = self.train, "do it in the step function, and remove the key"
        conflicts = {
            "loss": self.loss is not None,
            "precision": self.precision.startswith("amp"),
            "train.optimizer_in_backward": self.train.optimizer_in_backward,
            "train.gradient_accumulation_steps": train.gradient_accumulation_steps > 1,
            "train.clip_grad_norm": train.clip_grad_norm is not None,
            "train.ema": train.ema,
            "train.zero_grad_set_to_none": train.zero_grad_set_to_none is False,
        }
        if self.step and any(conflicts.values()):
            key = next(key for key, used in conflicts.items() if used)
            raise invalid("does not apply to a custom step", hint, key)
        return self

    @model_validator(mode="after")
    def _parallel_is_compatible(self) -> Config:
        if self.parallel is None:
            return self
        shards, train = self.parallel.shards, self.train
        conflicts = {
            "train.compile": (train.compile, "compiled code under several ranks cannot be measured yet"),
            "train.optimizer_in_backward": (
                train.optimizer_in_backward,
                "gradients are reduced over ranks after parameters would be stepped",
            ),
            "train.channels_last": (train.channels_last and shards, "fully_shard takes contiguous parameters only"),
            "train.ema": (train.ema and shards, "PyTorch cannot average sharded parameters"),
            "optimizer.name": (
                self.optimizer.needs_gpu and shards,
                "8-bit and paged state cannot be sharded: bitsandbytes does not know sharded parameters",
            ),
        }
        if self.parallel.memory_limits is not None and self.device.memory_limit is not None:
            raise invalid("cannot be combined with device.memory_limit", "remove one of them", "parallel.memory_limits")
        for key, (used, reason) in conflicts.items():
            if used:
                raise invalid(f"cannot be combined with parallel.strategy: {self.parallel.strategy}", reason, key)
        return self

    @property
    def user_code(self) -> tuple[str, ...]:
        """The user's code that the config names, such as "model.factory (mycode:build)".

        It may be in the config's folder, unlike the libraries that vram itself builds on.
        """
        if self.script is not None:
            return (f"script.command ({shell_line(self.script.command)})",)
        sections = {"model": self.model, "data": self.data, "loss": self.loss, "optimizer": self.optimizer}
        references = {f"{name}.factory": getattr(section, "factory", None) for name, section in sections.items()}
        references["step.function"] = self.step.function if self.step else None
        references["data.collate_fn"] = self.data.collate_fn
        return tuple(
            f"{key} ({reference})"
            for key, reference in references.items()
            if reference and not is_from_a_library(reference)
        )

    @property
    def names_batch_size(self) -> bool:
        """Whether `train.batch_size` was set, so that it is not the default."""
        return "batch_size" in self.train.model_fields_set

    @property
    def micro_batches_per_step(self) -> int:
        """Batches per step: accumulated ones in training, one in evaluation."""
        return self.train.gradient_accumulation_steps if self.mode == "train" else 1

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return 1 if self.parallel is None else self.parallel.ranks

    @property
    def source(self) -> ConfigSource:
        """The origin of this config; not part of a dump."""
        return self._source

    def with_source(self, source: ConfigSource) -> Config:
        """Return the same config with another `source`."""
        copy = self.model_copy()
        copy._source = source
        return copy

    def __eq__(self, other: object) -> bool:
        # Two configs with the same keys are equal, wherever they come from.
        return isinstance(other, Config) and self.__dict__ == other.__dict__


SECTIONS: dict[str, type[Section]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "loss": LossConfig,
    "step": StepConfig,
    "optimizer": OptimizerConfig,
    "script": ScriptConfig,
    "parallel": ParallelConfig,
    "train": TrainConfig,
    "search": SearchConfig,
    "device": DeviceConfig,
}
"""The sections with keys; `mode` and `precision` are single values."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file, for completion and checks in an editor."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    bare: dict[str, list[Any]] = {
        "train": [],
        "search": [],
        "script": [],
        "device": [definitions["DeviceConfig"]["properties"]["name"]],
        "loss": [{"enum": ["cross_entropy", "model"]}],
        "step": [definitions["StepConfig"]["properties"]["function"]],
    }
    for name, others in bare.items():
        section = {"$ref": f"#/$defs/{SECTIONS[name].__name__}"}
        schema["properties"][name] = {"anyOf": [section, *others, {"type": "null"}]}
    title = {"title": "vram config", "description": "The workload, and the search for its largest batch."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, **title}
