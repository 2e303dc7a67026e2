"""YAML -> `Config`: keys, defaults, presets, and suggestions for misspelled keys."""

from __future__ import annotations

from vram_cli.config.data_presets import DATA_PRESETS, DataPreset
from vram_cli.config.load import DEFAULT_CONFIG, bundled_configs, bundled_folder, load_config
from vram_cli.config.overrides import with_overrides
from vram_cli.config.schema import Config, ConfigSource, Mode, json_schema
from vram_cli.config.script_section import ScriptConfig
from vram_cli.config.starter import starter_yaml, write_starter
from vram_cli.config.training_sections import (
    DeviceConfig,
    OptimizerConfig,
    OptimizerName,
    Precision,
    SearchConfig,
    TrainConfig,
)
from vram_cli.config.workload_sections import (
    DataConfig,
    DataName,
    LossConfig,
    ModelConfig,
    ModelName,
    StepConfig,
    TensorConfig,
)

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
    "Mode",
    "ModelConfig",
    "ModelName",
    "OptimizerConfig",
    "OptimizerName",
    "Precision",
    "ScriptConfig",
    "SearchConfig",
    "StepConfig",
    "TensorConfig",
    "TrainConfig",
    "bundled_configs",
    "bundled_folder",
    "json_schema",
    "load_config",
    "starter_yaml",
    "with_overrides",
    "write_starter",
]
