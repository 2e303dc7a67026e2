"""A whole config, and its JSON Schema."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr

from vram_cli.config.section import Section
from vram_cli.config.sections import (
    DataConfig,
    DeviceConfig,
    ModelConfig,
    OptimizerConfig,
    Precision,
    SearchConfig,
    TrainConfig,
)


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


class Config(BaseModel):  # noqa: PLW1641 (pydantic makes __hash__ of a frozen model)
    """A whole config. `model_dump(mode="json")` gives keys that `Config.model_validate` makes the same config of."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig
    precision: Precision = "fp32"
    """amp-bf16 and amp-fp16 are autocast, fp16 with a gradient scaler; bf16 keeps everything in bfloat16."""
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()
    device: DeviceConfig = DeviceConfig()

    _source: ConfigSource = PrivateAttr(default=ConfigSource())

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
    "optimizer": OptimizerConfig,
    "train": TrainConfig,
    "search": SearchConfig,
    "device": DeviceConfig,
}
"""The sections that hold keys; `precision` is a value by itself."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file, for completion and checks in an editor."""
    schema = Config.model_json_schema()
    bare_name = schema["$defs"]["DeviceConfig"]["properties"]["name"]
    for name, others in (("train", []), ("search", []), ("device", [bare_name])):
        section = {"$ref": f"#/$defs/{SECTIONS[name].__name__}"}
        schema["properties"][name] = {"anyOf": [section, *others, {"type": "null"}]}
    title = {"title": "vram config", "description": "What is trained, and how the largest batch is looked for."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, **title}
