"""The changes that `vram advise` tries: the largest batch on a CPU under a memory limit, predicted and measured.

    python -m benchmarks.advise_changes [--only WORD]

The prediction runs the step on fake CPU tensors and takes the highest sum of living tensors; the search runs real steps
under RLIMIT_DATA. Some MiB of the limit are not tensors (heap, Python objects). The training without changes shows how
many, and the predictions with changes use that figure. Needs timm and transformers. Takes an hour on two cores, most of
it for bfloat16, for which many CPUs have no instructions.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from vram_cli import find_batch
from vram_cli.config import Config, load_config, with_overrides
from vram_cli.fake_tensors import Simulation
from vram_cli.fake_tensors.simulated_training import training_from_config
from vram_cli.hardware.gpus import find_gpu
from vram_cli.search import find_largest
from vram_cli.units import MIB, format_bytes

TOKENS = "{shape: [32], dtype: int64, high: 500}"
CASES: dict[str, tuple[str, tuple[str, ...], int]] = {
    "vit": (
        "resnet18_cifar10.yaml",
        (
            "model.factory=timm:vit_tiny_patch16_224",
            "model.kwargs={img_size: 64, num_classes: 10, depth: 8}",
            "data={name: synthetic, shape: [3, 64, 64], classes: 10}",
            "optimizer.name=adamw",
        ),
        200 * MIB,
    ),
    "gpt2": (
        "resnet18_cifar10.yaml",
        (
            "model.factory=transformers:gpt2",
            "model.kwargs={n_layer: 6, n_embd: 128, n_head: 4, vocab_size: 500, n_positions: 32}",
            f"data={{inputs: {{input_ids: {TOKENS}, labels: {TOKENS}}}}}",
            "optimizer.name=adamw",
        ),
        200 * MIB,
    ),
    "resnet18": ("resnet18_cifar10.yaml", ("data.source=synthetic", "optimizer.name=adamw"), 320 * MIB),
}
CHANGES: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "checkpoint every 2nd block": ("train.activation_checkpointing=every-2",),
    "checkpoint every block": ("train.activation_checkpointing=full",),
    "accumulate 2 batches": ("train.gradient_accumulation_steps=2",),
    "SGD with momentum": ("optimizer.name=sgd", "optimizer.momentum=0.9"),
    "SGD without momentum": ("optimizer.name=sgd",),
    "autocast to bfloat16": ("precision=amp-bf16",),
    "optimizer in backward": ("train.optimizer_in_backward=true",),
    "frozen first layers": ("train.freeze={first}",),
}
QUICK_SEARCH = ("search.margin=0", "search.steps=2", "search.tolerance=0.005")
"""Half a percent is well below the gains of interest, and saves a third of the real trials."""
FIRST = {
    "vit": "[patch_embed.*, 'blocks.[0-3].*', cls_token, pos_embed]",
    "gpt2": "[transformer.wte.*, transformer.wpe.*, 'transformer.h.[0-2].*']",
    "resnet18": "[conv1.*, bn1.*, layer1.*]",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only rows that contain this word")
    only = parser.parse_args().only
    print("| model | change | predicted | real | error | gain, predicted | real | seconds |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    errors = []
    for case, (name, overrides, memory_limit) in CASES.items():
        base, tensor_bytes = (0, 0), memory_limit
        for change, overrides_of_change in CHANGES.items():
            if only not in f"{case} {change}":
                continue
            changes = [text.format(first=FIRST[case]) for text in overrides_of_change]
            config = load_config(name, [*overrides, "search.limit_to_dataset=false", *changes])
            began = time.perf_counter()
            predicted, real = predict(config, tensor_bytes), measure(config, memory_limit)
            if not overrides_of_change:
                base, tensor_bytes = (predicted, real), limit_between(peak_of(config), real)
            errors.append(predicted / real - 1)
            print(
                f"| {case}, {format_bytes(memory_limit)} | {change} | {predicted:,} | {real:,} | {errors[-1]:+.1%} "
                f"| x{predicted / base[0]:.2f} | x{real / base[1]:.2f} | {time.perf_counter() - began:.0f} |",
                flush=True,
            )
    sizes = sorted(map(abs, errors))
    print(f"\nerror of the largest batch: median {median(sizes):.1%}, worst {sizes[-1]:.1%} of {len(sizes)}")


def predict(config: Config, tensor_bytes: int) -> int:
    """Return the largest batch whose fake CPU tensors never exceed a size."""
    peak = peak_of(config)
    # A line through two sizes gives the first guess; each size takes a second or two. Batch norm refuses one sample.
    small, large = peak(8), peak(16)
    guess = 8 + max((tensor_bytes - small) * 8 // max(large - small, 1), 0)
    result = find_largest(lambda n: n < 2 or peak(n) <= tensor_bytes, multiple_of=1, initial_guess=lambda: guess)
    return result.max_batch_size or 0


def peak_of(config: Config) -> Callable[[int], int]:
    """Return a function from batch size to the highest sum of living tensors in a step, in bytes."""
    training, _ = training_from_config(config)
    simulation = Simulation(training, find_gpu("t4"), fused_attention=False, device=torch.device("cpu"))
    return lambda n: simulation.run(n).peak_bytes


def limit_between(peak: Callable[[int], int], size: int) -> int:
    """Return the bytes available to tensors if a size fits and the next one does not, within half a sample."""
    return (peak(size) + peak(size + 1)) // 2


def measure(config: Config, memory_limit: int) -> int:
    """Return the largest batch that runs under a memory limit."""
    result = find_batch(
        with_overrides(config, ["device.name=cpu", f"device.memory_limit={memory_limit}", *QUICK_SEARCH])
    )
    return result.max_batch_size or 0


if __name__ == "__main__":
    main()
