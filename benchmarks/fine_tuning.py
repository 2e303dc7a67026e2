"""Predict fine-tunings whose memory others have published.

    python -m benchmarks.fine_tuning

Llama 2 7B by LoRA: the table of resources in litgpt's documentation (1,304 tokens per sample, 4,194,304 trained
parameters, A100 40GB, bfloat16). T0_3B by LoRA: the table in peft's README (A100 80GB). Needs peft and transformers;
nothing is downloaded.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from vram_cli.commands.breakdown import breakdown
from vram_cli.config import Config
from vram_cli.errors import DoesNotFitError

CHUNK = 128
"""Tokens whose loss litgpt computes at once."""

PUBLISHED = (
    ("Llama 2 7B", "a100-40gb", 1, "21.30 GB"),
    ("Llama 2 7B", "a100-40gb", 2, "29.07 GB"),
    ("Llama 2 7B", "a100-40gb", 4, "out of memory"),
    ("T0_3B", "a100-80gb", 8, "14.4 GB"),
)


class Llama(nn.Module):
    """Llama 2 7B with adapters for queries and values, all in bfloat16, and the loss of litgpt, in chunks."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
        base = LlamaForCausalLM(LlamaConfig(use_cache=False, vocab_size=32000, **sizes)).to(torch.bfloat16)
        adapters = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"])
        self.model = get_peft_model(base, adapters, autocast_adapter_dtype=False)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = self.model(input_ids=input_ids).logits[:, :-1]
        chunks = zip(logits.flatten(0, 1).split(CHUNK), labels[:, 1:].flatten().split(CHUNK), strict=True)
        return torch.cat([functional.cross_entropy(*chunk, reduction="none") for chunk in chunks]).mean()


def t0_3b() -> nn.Module:
    """Return T0_3B in float32 with the adapters of peft's example."""
    sizes = {"d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_layers": 24, "num_decoder_layers": 24, "num_heads": 32}
    head = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0}
    adapters = LoraConfig(task_type=TaskType.SEQ_2_SEQ_LM, r=8, lora_alpha=32, lora_dropout=0.1)
    return get_peft_model(T5ForConditionalGeneration(T5Config(vocab_size=32128, **sizes, **head)), adapters)


def config_of(name: str, gpu: str) -> Config:
    """Return the config of a published training."""

    def words(length: int, high: int, low: int = 0) -> dict[str, Any]:
        return {"shape": [length], "dtype": "int64", "low": low, "high": high}

    llama = {"input_ids": words(1304, 32000), "labels": words(1304, 32000)}
    # 64 tokens, padded to the longest, and labels of 3: peft's example on RAFT's tweets.
    t0 = {"input_ids": words(64, 32128), "attention_mask": words(64, 2, 1), "labels": words(3, 32128)}
    factory, inputs = ("Llama", llama) if name == "Llama 2 7B" else ("t0_3b", t0)
    return Config.model_validate(
        {
            "model": {"factory": f"benchmarks.fine_tuning:{factory}"},
            "data": {"inputs": inputs},
            "loss": "model",
            "optimizer": {"name": "adamw"},
            "device": {"gpu": gpu},
        }
    )


def predicted(name: str, gpu: str, batch_size: int) -> str:
    """Return the predicted peaks of allocated and of reserved memory."""
    try:
        trial = breakdown(config_of(name, gpu), batch_size=batch_size).measurement
    except DoesNotFitError:
        return "out of memory"
    return f"{trial.peak_allocated_bytes / 1e9:.2f} GB allocated, {trial.peak_reserved_bytes / 1e9:.2f} GB reserved"


def main() -> None:
    """Print a table."""
    sys.stdout.write("| training | GPU | batch | published | predicted |\n|---|---|---:|---:|---:|\n")
    for name, gpu, batch_size, published in PUBLISHED:
        row = f"| {name}, LoRA | {gpu} | {batch_size} | {published} | {predicted(name, gpu, batch_size)} |\n"
        sys.stdout.write(row)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
