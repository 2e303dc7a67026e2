"""The number of trials that the search takes for random models and GPUs, against doubling and bisection.

    python benchmarks/search_trials.py [CASES]

Memory is a random formula: 8 to 80 GiB, N from 1 to 300,000, 0.05 to 80 % of the memory resident, and in half of the
cases an optimizer step that hides the batch. No GPU is involved.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import mean, quantiles

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fakes import MIB, FakeMemory
from vram_cli.search import find_largest
from vram_cli.search.trial_budget import bisection_trials

KINDS = ("smooth", "2 MiB lumps", "20 MiB lumps", "gradients hide the batch", "workspaces up to 2 %")


def random_memory(random: Random, kind: str) -> FakeMemory:
    capacity = int(random.choice([8, 11, 16, 24, 40, 80]) * 1024 * MIB * random.uniform(0.9, 1))
    resident = int(capacity * random.choice([random.uniform(0.0005, 0.02), random.uniform(0.02, 0.8)]))
    largest = 10 ** random.uniform(0, 5.48)
    memory = FakeMemory(
        capacity_bytes=capacity,
        resident_bytes=resident,
        sample_bytes=max(int((capacity - resident) / (largest + random.random())), 1),
        optimizer_bytes=int(resident + random.uniform(0, 0.95) * (capacity - resident)) * random.randrange(2),
        seed=random.randrange(10**9),
    )
    if kind in ("2 MiB lumps", "20 MiB lumps"):
        return replace(memory, granularity_bytes=int(kind.split(maxsplit=1)[0]) * MIB)
    if kind == "gradients hide the batch":
        return replace(memory, granularity_bytes=2 * MIB, gradient_bytes=int(resident * random.uniform(0.2, 0.5)))
    if kind == "workspaces up to 2 %":
        return replace(memory, granularity_bytes=2 * MIB, workspace_bytes=capacity // 50)
    return memory


def main() -> None:
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    print("| memory | mean | p50 | p95 | max | OOMs | for the recommended size | plain: mean | p95 | more than plain |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for kind in KINDS:
        random = Random(0)
        trials, failures, extra, plain = [], [], [], []
        for _ in range(cases):
            memory = random_memory(random, kind)
            result = find_largest(memory, capacity_bytes=memory.capacity_bytes, multiple_of=1)
            trials.append(len(memory.sizes))
            failures.append(sum(not trial.fits for trial in result.trials))
            plain.append(bisection_trials(result.max_batch_size or 0))
            fresh = replace(memory, sizes=[])
            find_largest(fresh, capacity_bytes=fresh.capacity_bytes, margin_bytes=fresh.capacity_bytes // 20)
            extra.append(len(fresh.sizes) - len(memory.sizes))
        over = sum(ours > theirs for ours, theirs in zip(trials, plain, strict=True))
        ours, theirs = quantiles(trials, n=20), quantiles(plain, n=20)
        print(
            f"| {kind} | {mean(trials):.1f} | {ours[9]:.0f} | {ours[18]:.0f} | {max(trials)} | {mean(failures):.1f} "
            f"| {mean(extra):.1f} | {mean(plain):.1f} | {theirs[18]:.0f} | {over} |"
        )


if __name__ == "__main__":
    main()
