"""Each change that `vram advise` tries, predicted and real: the largest batch under a budget of the CPU's memory.

    python -m benchmarks.optimizations [--only WORD]

The prediction runs the step on fake CPU tensors and takes the most that is alive at once; the real search runs real
steps under RLIMIT_DATA. Of the budget, some MiB are no tensors (heap, Python's objects): how many, the training as
it is tells, and the changes are predicted with that. Needs timm and transformers. An hour on two cores, most
of it for bfloat16, for which many CPUs have no instructions.
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
LEVERS: dict[str, tuple[str, ...]] = {
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
QUICKLY = ("search.margin=0", "search.steps=2", "search.tolerance=0.005")
"""Half a per cent is well below what is looked for, and saves a third of the real trials."""
FIRST = {
    "vit": "[patch_embed.*, 'blocks.[0-3].*', cls_token, pos_embed]",
    "gpt2": "[transformer.wte.*, transformer.wpe.*, 'transformer.h.[0-2].*']",
    "resnet18": "[conv1.*, bn1.*, layer1.*]",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows that have this word in them")
    only = parser.parse_args().only
    print("| model | change | predicted | real | error | gain, predicted | real | seconds |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    errors = []
    for case, (name, overrides, budget) in CASES.items():
        base, room = (0, 0), budget
        for lever, sets in LEVERS.items():
            if only not in f"{case} {lever}":
                continue
            changed = [text.format(first=FIRST[case]) for text in sets]
            config = load_config(name, [*overrides, "search.limit_to_dataset=false", *changed])
            began = time.perf_counter()
            predicted, real = predict(config, room), measure(config, budget)
            if not sets:
                base, room = (predicted, real), between(peak_of(config), real)
            errors.append(predicted / real - 1)
            print(
                f"| {case}, {format_bytes(budget)} | {lever} | {predicted:,} | {real:,} | {errors[-1]:+.1%} "
                f"| x{predicted / base[0]:.2f} | x{real / base[1]:.2f} | {time.perf_counter() - began:.0f} |",
                flush=True,
            )
    sizes = sorted(map(abs, errors))
    print(f"\nerror of the largest batch: median {median(sizes):.1%}, worst {sizes[-1]:.1%} of {len(sizes)}")


def predict(config: Config, room: int) -> int:
    """Return the largest batch whose tensors never take more than the room, on fake CPU tensors."""
    peak = peak_of(config)
    # A line through two sizes says where to look: batch norm refuses one sample, and each size takes a second or two.
    small, large = peak(8), peak(16)
    expected = 8 + max((room - small) * 8 // max(large - small, 1), 0)
    found = find_largest(lambda n: n < 2 or peak(n) <= room, multiple_of=1, initial_guess=lambda: expected)
    return found.max_batch_size or 0


def peak_of(config: Config) -> Callable[[int], int]:
    """Return what tells the most that is alive at once at a batch size, in bytes."""
    training, _ = training_from_config(config)
    simulation = Simulation(training, find_gpu("t4"), fused_attention=False, device=torch.device("cpu"))
    return lambda n: simulation.run(n).peak_bytes


def between(peak: Callable[[int], int], size: int) -> int:
    """Return the room that tensors have where a size fits and the next does not, give or take half a sample."""
    return (peak(size) + peak(size + 1)) // 2


def measure(config: Config, memory_limit: int) -> int:
    """Return the largest batch that runs under the budget."""
    found = find_batch(with_overrides(config, ["device.name=cpu", f"device.memory_limit={memory_limit}", *QUICKLY]))
    return found.max_batch_size or 0


if __name__ == "__main__":
    main()
