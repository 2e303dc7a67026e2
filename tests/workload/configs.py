"""Configs that name the code in `usercode.py`."""

from __future__ import annotations

from typing import Any

from vram_cli.config import Config

HERE = "tests.workload.usercode:"
PLAIN: dict[str, Any] = {
    "model": {"factory": HERE + "linear"},
    "data": {"inputs": {"x": {"shape": [4]}}, "targets": {"shape": [], "dtype": "int64", "high": 2}},
    "optimizer": {"name": "sgd"},
}


def config(**sections: Any) -> Config:
    """Return a config of a linear layer on declared data, with sections replaced."""
    return Config.model_validate({**PLAIN, **sections})
