"""Compare ranks predicted on the virtual GPU with real ones over gloo: `python -m benchmarks.ranks`, in two minutes.

The tensors of a training are the same on both grounds, but for workspaces of kernels. Adam's step counters, 4 bytes a
parameter, are on the CPU, so only there do they count as memory of the device.
"""

from __future__ import annotations

from tests.probe.ranks.bytes import NOT_TENSORS, SETTINGS, config, tensors
from tests.probe.ranks.bytes import SIZE as BATCH_SIZE
from vram_cli.config import Config, with_overrides
from vram_cli.probe import open_probe
from vram_cli.records import Category, Detail

GPU = ("parallel.memory_limits=null", "device.name=auto", "device.gpu=a100-80gb")
ONE_BY_ONE = "optimizer.foreach=false"  # the CPU's default, since foreach takes temporary memory


def main() -> None:
    """Print a row for each setting: the bytes of tensors at the peak, and the rows that differ."""
    print("| setting | 2 ranks over gloo | predicted | rows that differ |\n|---|---|---|---|")
    for name, overrides in SETTINGS.items():
        training = with_overrides(config(*overrides), [ONE_BY_ONE])
        measured, predicted = rows(training), rows(with_overrides(training, GPU))
        differ = {row for row in {*measured, *predicted} if measured.get(row, 0) != predicted.get(row, 0)}
        parts = [f"{row.value}: {predicted.get(row, 0) - measured.get(row, 0):+,}" for row in Category if row in differ]
        print(f"| {name} | {sum(measured.values()):,} | {sum(predicted.values()):,} | {', '.join(parts)} |", flush=True)


def rows(training: Config) -> dict[Category, int]:
    """Return the bytes of tensors at the peak of rank 0, by category."""
    with open_probe(training) as probe:
        found = probe.measure(BATCH_SIZE, Detail.ROWS).breakdown
    if found is None:
        raise RuntimeError("no breakdown")
    outside = (*NOT_TENSORS, Category.CONTEXT, Category.COMMUNICATION)
    return {row: size for row, size in tensors(found).items() if row not in outside}


if __name__ == "__main__":
    main()
