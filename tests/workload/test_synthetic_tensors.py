"""Declared tensors: a dtype that the config declares stays, another one follows the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.workload.configs import config
from vram_cli.config import Config
from vram_cli.workload import open_data

CPU = torch.device("cpu")


def dtype_of(declared: str | None, model: torch.dtype, **sections: Any) -> torch.dtype:
    tensor = {"shape": [4], **({"dtype": declared} if declared else {})}
    chosen = config(data={"inputs": {"x": tensor}}, **sections)
    # As the worker process gets it.
    sent = Config.model_validate(chosen.model_dump(mode="json"))
    return open_data(sent).make_batch(3, CPU, model)["x"].dtype


@pytest.mark.parametrize("model", [torch.float64, torch.bfloat16, torch.float32])
def test_dtype_follows_the_model_unless_it_is_declared(model: torch.dtype) -> None:
    assert dtype_of(None, model) is model
    assert dtype_of("float32", model) is torch.float32
    assert dtype_of("float16", model) is torch.float16


def test_bf16_converts_float32_even_if_it_is_declared() -> None:
    assert dtype_of("float32", torch.bfloat16, precision="bf16") is torch.bfloat16
    assert dtype_of(None, torch.bfloat16, precision="bf16") is torch.bfloat16
    assert dtype_of("float64", torch.bfloat16, precision="bf16") is torch.float64
