"""Probes, which run trials: the interface between the commands and a device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from vram_cli.config import Config
from vram_cli.probe.client import WorkerProbe
from vram_cli.probe.environment import predicts_ranks
from vram_cli.probe.ranks.launched_ranks import current_ranks
from vram_cli.probe.ranks.rank_probe import RankProbe
from vram_cli.records import Detail, Measurement, RunInfo

__all__ = ["OpenProbe", "Probe", "WorkerProbe", "open_probe"]


class Probe(Protocol):
    """Runs trials of one config: the seam between the commands and a device. Tests pass a fake."""

    @property
    def info(self) -> RunInfo:
        """The device, the data, the config and the versions: the heading of every answer."""
        ...

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        """Run a trial of a batch size; running out of memory is an outcome, not an error."""
        ...

    def confirm(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        """Run a trial from a clean state, to confirm that a batch size fits."""
        ...


class OpenProbe(Protocol):
    """The signature of `open_probe`. Pass your own function to run a command on another probe."""

    def __call__(
        self,
        config: Config,
        *,
        download: bool = False,
        calibrated: bool = True,
        deadline: float | None = None,
        snapshot: Path | None = None,
        reuse: Probe | None = None,
    ) -> AbstractContextManager[Probe]:
        """Return a context manager that yields a probe for a config; the arguments are those of `open_probe`."""
        ...


def open_probe(
    config: Config,
    *,
    download: bool = False,
    calibrated: bool = True,
    deadline: float | None = None,
    snapshot: Path | None = None,
    reuse: Probe | None = None,
) -> AbstractContextManager[Probe]:
    """Open a probe that runs a config in worker processes, one a rank: on the device it names, or as a prediction.

    Args:
        config: the training and its device.
        download: whether torchvision may download missing data files.
        calibrated: whether a prediction uses the calibration that `vram calibrate` saved for its GPU.
        deadline: `time.monotonic()` value at which a running trial is stopped.
        snapshot: file to which predictions with `Detail.ROWS` or more write a snapshot for PyTorch's memory_viz.
        reuse: an open probe that is no longer needed. A prediction continues in its worker process if possible, which
            saves the seconds that imports take.

    Returns:
        A context manager that yields the probe. Entering it raises:

        - ConfigError: the data or the GPU that the config names cannot be used.
        - MachineError: the device does not exist.
        - WorkloadError: the user's code ended the worker process.
        - ProbeError: the worker process did not start.
    """
    if config.parallel is not None and not predicts_ranks(config):
        if isinstance(reuse, RankProbe):
            reuse.end_group()  # its processes hold memory, and under torchrun no other ones would start
        return RankProbe(config, download=download, deadline=deadline, ranks=current_ranks())
    return WorkerProbe(
        config,
        download=download,
        calibrated=calibrated,
        deadline=deadline,
        snapshot=snapshot,
        reuse=reuse if isinstance(reuse, WorkerProbe) else None,
    )
