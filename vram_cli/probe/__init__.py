"""Probes: the parent's side of a trial. A probe measures one batch size; why it was asked for is not its business."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from vram_cli.config import Config
from vram_cli.probe.client import WorkerProbe
from vram_cli.records import Detail, Measurement, RunInfo

__all__ = ["OpenProbe", "Probe", "WorkerProbe", "open_probe"]


class Probe(Protocol):
    """Measures batch sizes of one config: the seam between the commands and the world. Tests hand in a fake."""

    @property
    def info(self) -> RunInfo:
        """The device, the data, the config and the versions: the heading of every answer."""
        ...

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        """Run a batch size and return how it went; running out of memory is an outcome, not an error."""
        ...

    def confirm(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        """Run a batch size again from a clean state, to confirm that it really fits."""
        ...


class OpenProbe(Protocol):
    """How a command opens a probe; pass your own to run a command on something else."""

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
    """Open a probe that runs a config in a worker process: on the device it names, or as a prediction.

    Args:
        config: what to train, and where.
        download: whether torchvision may download missing data files.
        calibrated: whether a prediction uses the calibration that `vram calibrate` saved for its GPU.
        deadline: `time.monotonic()` value at which a running trial is stopped.
        snapshot: file to which predictions with `Detail.ROWS` or more write a snapshot for PyTorch's memory_viz.
        reuse: an open probe that is no longer needed. A prediction goes on in its worker process if it can, which
            saves the seconds of importing everything again.

    Returns:
        A context manager that yields the probe. Entering it raises:

        - ConfigError: the data or the GPU that the config names cannot be used.
        - MachineError: the device does not exist.
        - WorkloadError: the user's code ended the worker process.
        - ProbeError: the worker process did not start.
    """
    return WorkerProbe(
        config,
        download=download,
        calibrated=calibrated,
        deadline=deadline,
        snapshot=snapshot,
        reuse=reuse if isinstance(reuse, WorkerProbe) else None,
    )
