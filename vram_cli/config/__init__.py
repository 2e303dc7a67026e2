"""YAML -> `Config`: keys, defaults, presets, and what was meant where something is misspelt."""

from __future__ import annotations

from vram_cli.config.load import DEFAULT_CONFIG, bundled_configs, bundled_folder, load_config
from vram_cli.config.presets import DATA_PRESETS, DataPreset
from vram_cli.config.schema import Config, ConfigSource, json_schema
from vram_cli.config.sections import (
    DeviceConfig,
    OptimizerConfig,
    OptimizerName,
    Precision,
    SearchConfig,
    TrainConfig,
)
from vram_cli.config.starter import starter_yaml, write_starter
from vram_cli.config.subject import (
    DataConfig,
    DataName,
    LossConfig,
    ModelConfig,
    ModelName,
    StepConfig,
    TensorConfig,
)
from vram_cli.config.suggest import nearest

__all__ = [
    "DATA_PRESETS",
    "DEFAULT_CONFIG",
    "Config",
    "ConfigSource",
    "DataConfig",
    "DataName",
    "DataPreset",
    "DeviceConfig",
    "LossConfig",
    "ModelConfig",
    "ModelName",
    "OptimizerConfig",
    "OptimizerName",
    "Precision",
    "SearchConfig",
    "StepConfig",
    "TensorConfig",
    "TrainConfig",
    "bundled_configs",
    "bundled_folder",
    "json_schema",
    "load_config",
    "nearest",
    "starter_yaml",
    "write_starter",
]
