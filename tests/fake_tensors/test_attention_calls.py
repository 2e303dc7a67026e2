"""Attention on an absent GPU: every way to call it runs the kernel of that GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from tests.fake_tensors.test_cuda import training
from vram_cli.config import Config
from vram_cli.fake_tensors import Simulation
from vram_cli.fake_tensors.simulated_training import training_from_config
from vram_cli.hardware.gpus import Gpu, find_gpu

A100, T4 = find_gpu("a100-80gb"), find_gpu("t4")
LENGTH = 64
MATH_ONLY = "aten._softmax_backward_data"
"""Only the math formula runs it, on the score matrix."""
CALLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "imported by name": lambda q: scaled_dot_product_attention(q, q, q),
    "by module": lambda q: nn.functional.scaled_dot_product_attention(q, q, q),
    "from torch._C": lambda q: torch._C._nn.scaled_dot_product_attention(q, q, q),
    "as an operator": lambda q: torch.ops.aten.scaled_dot_product_attention(q, q, q),
}


class Attention(nn.Module):
    def __init__(self, call: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.call, self.project = call, nn.Linear(32, 64)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        heads = self.project(words).unflatten(-1, (4, 16)).transpose(1, 2)
        return self.call(heads).mean((1, 2))


def operations(model: Callable[[], nn.Module], gpu: Gpu, precision: torch.dtype | None = torch.float16) -> set[str]:
    trace = Simulation(training(model, (LENGTH, 32), precision=precision), gpu).trace(2)
    return {storage.op.removeprefix("aten._scaled_dot_product_") for storage in trace.storages}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("gpu", "precision", "kernel"),
    [(A100, torch.float16, "flash_attention"), (A100, None, "efficient_attention"), (T4, None, "efficient_attention")],
)
def test_every_call_runs_the_kernel_of_the_gpu(call: str, gpu: Gpu, precision: torch.dtype | None, kernel: str) -> None:
    ran = operations(lambda: Attention(CALLS[call]), gpu, precision)
    assert {kernel, f"{kernel}_backward"} <= ran
    assert MATH_ONLY not in ran


def test_pytorch_layer_runs_the_kernel_of_the_gpu() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            return self.layer(words).mean(1)

    assert "flash_attention" in operations(Layer, A100)


def test_disabled_kernel_is_not_selected() -> None:
    def only(backend: SDPBackend) -> Callable[[], nn.Module]:
        def call(q: torch.Tensor) -> torch.Tensor:
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(q, q, q)

        return lambda: Attention(call)

    assert "efficient_attention" in operations(only(SDPBackend.EFFICIENT_ATTENTION), A100)
    assert MATH_ONLY in operations(only(SDPBackend.MATH), A100)
    with pytest.raises(RuntimeError, match="No available kernel"):
        operations(only(SDPBackend.FLASH_ATTENTION), T4)


def test_dispatcher_patch_is_undone() -> None:
    before = torch._C._dispatch_dump("aten::scaled_dot_product_attention")
    operations(lambda: Attention(CALLS["imported by name"]), A100)
    assert torch._C._dispatch_dump("aten::scaled_dot_product_attention") == before


HF: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 50},
    "llama": {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
    "bert": {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
}


@pytest.mark.torchvision  # which transformers imports where it is installed
@pytest.mark.parametrize("kind", HF)
def test_transformers_models_save_no_score_matrix(kind: str) -> None:
    tensor = {"shape": [LENGTH], "dtype": "int64", "high": 50}
    config = Config.model_validate(
        {
            "model": {"factory": f"transformers:{kind}", "kwargs": {"vocab_size": 50, **HF[kind]}},
            "data": {"inputs": {"input_ids": tensor, "labels": tensor}},
            "optimizer": {"name": "sgd"},
            "precision": "amp-bf16",
        }
    )
    trace = Simulation(training_from_config(config)[0], A100).trace(2)
    ran = {storage.op for storage in trace.storages}
    assert {"aten._scaled_dot_product_flash_attention", "aten._scaled_dot_product_flash_attention_backward"} <= ran
    assert MATH_ONLY not in ran
