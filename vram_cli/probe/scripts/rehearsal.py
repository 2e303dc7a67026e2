"""What a first run of a script tells about it: the loaders, the packages, and the sizes of its samples."""

from __future__ import annotations

import contextlib
import sys

from vram_cli.probe.devices.monitor import MemoryMonitor
from vram_cli.probe.scripts.loaders import Loader, Loaders
from vram_cli.probe.scripts.messages import Rehearsal
from vram_cli.probe.scripts.preload import is_installed
from vram_cli.probe.scripts.watch import Watch
from vram_cli.probe.worker.remarks import has_float32_convolutions
from vram_cli.probe.worker.versions import versions
from vram_cli.records import Device, LoaderInfo
from vram_cli.workload.sample_sizes import LargestSamples, largest_samples

_LARGEST = 4096
"""The most samples to remember."""


def rehearsal_of(loaders: Loaders, watch: Watch, device: Device, monitor: MemoryMonitor) -> Rehearsal:
    """Return what a run that has ended told; reads samples of the data set that trains, for seconds."""
    training = loaders.training()
    keys = tuple(loader.key for loader in training)
    largest = _largest(training)
    batches = max((loader.batches for loader in training), default=0)
    return Rehearsal(
        loaders=tuple(
            LoaderInfo(
                line=loader.line,
                batch_size=loader.batch_size,
                num_samples=loader.num_samples,
                trains=loader.key in keys,
            )
            for loader in loaders.all
        ),
        training=keys,
        obstacles=tuple(loader.obstacle for loader in training),
        micro_batches=max(1, round(batches / max(watch.steps, 1))),
        has_optimizer=bool(watch.optimizers),
        has_float32_convolutions=any(map(has_float32_convolutions, watch.models)) and not watch.uses_autocast,
        input_sizes=tuple(sorted(watch.input_sizes or ())),
        modules=_packages(),
        order=tuple(largest.order[:_LARGEST]) if largest is not None and largest.differ else (),
        data_name=type(training[0].dataset).__name__ if training else "",
        samples_measured=len(largest.sizes) if largest is not None and largest.differ else None,
        samples_total=training[0].num_samples if training else None,
        guard_bytes=monitor.guard_bytes,
        device=device,
        versions=versions() | monitor.versions(),
    )


def _largest(training: list[Loader]) -> LargestSamples | None:
    """Return the largest samples of the loader that trains; None if it has none to choose from."""
    if len(training) != 1 or training[0].obstacle or not training[0].num_samples:
        return None
    with contextlib.suppress(Exception):  # the data set may need more than its length and an index
        return largest_samples(training[0].dataset)
    return None


def _packages() -> tuple[str, ...]:
    """Return the modules that were imported from Python's own library and from packages, in order."""
    return tuple(
        name
        for name, module in list(sys.modules.items())
        if is_installed(str(getattr(module, "__file__", None) or "")) and not name.startswith("__")
    )
