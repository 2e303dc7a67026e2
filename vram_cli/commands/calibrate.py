"""`vram calibrate` as a function: run short real steps and predict them, and fit the difference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from vram_cli.config import Config
from vram_cli.errors import MachineError
from vram_cli.hardware.calibration import Calibration, Case, fit
from vram_cli.hardware.gpus import recognise_gpu
from vram_cli.probe import OpenProbe, Probe, open_probe
from vram_cli.progress import SILENT, Progress
from vram_cli.records import Breakdown, Category, Detail, Device, Measurement
from vram_cli.units import GIB, format_bytes

ELSEWHERE = (
    "run it on a machine with that GPU, `vram calibrate --export FILE` there and `vram calibrate --import FILE` here"
)

MOST_CONTEXT = 2 * GIB
"""More than any measured context (1.7 GB on an RTX 3090, without lazy loading) and a display together."""


@dataclass(frozen=True)
class Run:
    """A small training and two batch sizes of it: activations are most of the peak, and the total is under 1 GiB."""

    name: str
    config: dict[str, Any]
    sizes: tuple[int, int]
    convolutions: bool


_FAKE = {"engine": "fake-tensors"}
"""Workspaces are measured for fake tensors, which leave them out; the virtual GPU asks cuDNN for them."""

_SMALL_IMAGES = {"name": "synthetic", "shape": [3, 64, 64], "classes": 100}
_RESNET = {"model": {"name": "resnet18"}, "data": _SMALL_IMAGES}

# Half precision is float16 here: every GPU that PyTorch supports has kernels for it.
RUNS = (
    Run(
        "mlp, fp32",
        {"model": {"name": "mlp", "hidden": 4096}, "data": {"name": "mnist", "source": "synthetic"}},
        (4096, 12288),
        convolutions=False,
    ),
    Run("resnet18, fp32", _RESNET, (64, 192), convolutions=True),
    Run("resnet18, amp-fp16", {**_RESNET, "precision": "amp-fp16"}, (128, 384), convolutions=True),
)


def calibrate(device: str = "cuda", *, progress: Progress = SILENT, open_probe: OpenProbe = open_probe) -> Calibration:
    """Measure the error of predictions for a GPU, in worker processes. Takes about a minute, and writes no file.

    Args:
        device: cuda or cuda:N.
        progress: receives what happens meanwhile.
        open_probe: opens the probes that run the trials.

    Raises:
        MachineError: the GPU does not exist, other processes use it, or a run does not fit.
        ConfigError: the catalogue does not have the GPU, so that nothing can be predicted for it.
    """
    cases: list[Case] = []
    for run in RUNS:
        progress.status(f"{run.name}: real steps")
        with _on_the_gpu(run, device, open_probe) as probe:
            device_info, versions = probe.info.device, probe.info.versions
            gpu = recognise_gpu(device_info.name, device_info.capacity_bytes)
            measured = [_trial(probe, run, size) for size in run.sizes]
        progress.status(f"{run.name}: the same, predicted")
        with open_probe(config_of(run, _FAKE | {"gpu": gpu.name}), calibrated=False) as probe:
            predicted = [_trial(probe, run, size) for size in run.sizes]
        cases += map(partial(_case, run), predicted, measured)
    context, allowances = fit(cases)
    return Calibration(
        schema_version=1,
        product=device_info.name,
        memory_bytes=device_info.capacity_bytes,
        measured_on=date.today(),
        versions=versions,
        context_bytes=context,
        workspaces=allowances,
        cases=tuple(cases),
    )


def config_of(run: Run, device: dict[str, Any]) -> Config:
    """Return the config of a run on a real or simulated device."""
    return Config.model_validate({**run.config, "optimizer": {"name": "sgd", "momentum": 0.9}, "device": device})


@contextmanager
def _on_the_gpu(run: Run, device: str, open_probe: OpenProbe) -> Iterator[Probe]:
    with ExitStack() as stack:
        try:
            probe = stack.enter_context(open_probe(config_of(run, {"name": device})))
        except MachineError as error:
            message = error.message.removeprefix("device.name: ")  # this command reads no config
            raise MachineError(f"cannot calibrate: {message}", ELSEWHERE) from None
        _check_alone(probe.info.device)
        yield probe


def _check_alone(device: Device) -> None:
    """Refuse a GPU that other processes use: their memory would be counted as context, and it varies."""
    others = "; ".join(device.other_processes)
    if not others and device.outside_bytes > MOST_CONTEXT:
        others = f"processes that nvidia-smi does not list: {format_bytes(device.outside_bytes)} are in use"
    if others:
        raise MachineError(
            f"cannot calibrate: {device.name} is in use by {others}",
            "end that, or name an idle GPU with --device cuda:N; without a calibration, --overhead SIZE serves",
        )


def _trial(probe: Probe, run: Run, size: int) -> tuple[Measurement, Breakdown]:
    measured = probe.measure(size, Detail.ROWS)
    if not measured.fits or measured.breakdown is None:
        raise MachineError(
            f"cannot calibrate: {run.name} at batch {size:,} does not run on {probe.info.device.name}: "
            f"{measured.message}",
            "it takes less than 1 GiB: nvidia-smi shows what else is on the GPU",
        )
    return measured, measured.breakdown


def _case(run: Run, prediction: tuple[Measurement, Breakdown], trial: tuple[Measurement, Breakdown]) -> Case:
    (predicted, _), (measured, breakdown) = prediction, trial
    return Case(
        workload=run.name,
        batch_size=measured.batch_size,
        convolutions=run.convolutions,
        predicted_allocated_bytes=predicted.peak_allocated_bytes,
        measured_allocated_bytes=measured.peak_allocated_bytes,
        predicted_reserved_bytes=predicted.peak_reserved_bytes,
        measured_reserved_bytes=measured.peak_reserved_bytes,
        outside_bytes=breakdown.bytes_of(Category.CONTEXT),
    )
