"""The time of whole commands that predict, as ratios to the imports that they cannot do without, paired in one run.

    python -m benchmarks.speed [--rounds R]

Run it on an idle machine without a GPU, in the environment that has `vram`.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

LLAMA = """
model:
  factory: transformers:LlamaForCausalLM
  kwargs: {hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 32, num_attention_heads: 32,
           num_key_value_heads: 8, vocab_size: 128256}
data:
  inputs:
    input_ids: {shape: [2048], dtype: int64, high: 128256}
    labels: {shape: [2048], dtype: int64, high: 128256}
optimizer: {name: adamw}
precision: bf16
train: {batch_size: 1, activation_checkpointing: full}
"""
PAIRS = {
    "find-batch, mlp_mnist": ("import torch", "find-batch --config mlp_mnist.yaml --gpu rtx-4090"),
    "find-batch, resnet50": ("import torch, torchvision", "find-batch --config resnet50_imagenet.yaml --gpu rtx-4090"),
}


def main() -> None:
    """Time the pairs, round by round, then the long commands once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        for name, (imports, command) in PAIRS.items():
            times = [(seconds([sys.executable, "-c", imports], folder), vram(command, folder)) for _ in range(rounds)]
            ratio = median(ours / theirs for theirs, ours in times)
            alone, whole = (median(pair[i] for pair in times) for i in (0, 1))
            print(f"{name}: {ratio:.2f} times `{imports}` ({whole:.2f} s, {alone:.2f} s)", flush=True)
        print(
            f"advise, resnet50: {vram('advise --config resnet50_imagenet.yaml --gpu rtx-4090', folder):.1f} s",
            flush=True,
        )
        Path(folder, "llama.yaml").write_text(LLAMA, encoding="utf-8")
        took = vram("breakdown --config llama.yaml --gpu h200", folder)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(f"breakdown, Llama-3-8B: {took:.1f} s; no process so far took more than {peak / 1024**2:.2f} GiB of RAM")


def vram(command: str, folder: str) -> float:
    """Return the seconds of a command."""
    return seconds([sys.executable, "-m", "vram_cli", *command.split(), "--quiet"], folder)


def seconds(words: list[str], folder: str) -> float:
    """Return the seconds of a process; it must succeed."""
    began = time.perf_counter()
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
