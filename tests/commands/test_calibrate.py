"""Calibration: what runs, what is compared with what, and when it is refused. A fake probe stands for the fake_gpu."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import pytest

from tests.fakes import RecordingProgress
from vram_cli.commands.calibrate import RUNS, Run, calibrate, config_of
from vram_cli.config import Config
from vram_cli.errors import ConfigError, MachineError
from vram_cli.fake_tensors import FakeTensorProbe
from vram_cli.hardware.calibration import Calibration
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import (
    Breakdown,
    BreakdownRow,
    Category,
    Detail,
    Device,
    Measurement,
    Outcome,
    Phase,
    PhasePeak,
    RunInfo,
)
from vram_cli.units import GIB, MIB

T4 = find_gpu("t4")
DEVICE = Device(kind="real", name="Tesla T4", type="cuda:0", capacity_bytes=T4.memory_bytes - 50 * MIB)


@dataclass
class FakeGpu:
    """A GPU on which real steps take more than predicted: 8 MiB, with convolutions 24 MiB; its context grows."""

    device: Device = DEVICE
    busy_bytes: int = 100 * MIB
    outcome: Outcome = Outcome.FITS
    error: MachineError | None = None

    def __post_init__(self) -> None:
        self.opened: list[tuple[Config, bool]] = []

    @contextmanager
    def open(self, config: Config, *, calibrated: bool = True, **_: Any) -> Iterator[FakeProbe]:
        self.opened.append((config, calibrated))
        if self.error and config.device.gpu is None:
            raise self.error
        yield FakeProbe(self, config)

    def calibrate(self, device: str = "cuda", **options: Any) -> Calibration:
        return calibrate(device, open_probe=self.open, **options)


class FakeProbe:
    def __init__(self, fake_gpu: FakeGpu, config: Config) -> None:
        self._gpu, self._config = fake_gpu, config
        self._real = config.device.gpu is None
        self.info = RunInfo(
            config_name="a run",
            config=config.model_dump(mode="json"),
            device=replace(fake_gpu.device, outside_bytes=fake_gpu.busy_bytes),
            data=None,
            versions={"torch": "2.14.1+cu130", "driver": "580.82.07"} if self._real else {"torch": "2.14.1"},
        )

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        assert detail is Detail.ROWS
        lacking = (24 if self._config.model.name == "resnet18" else 8) * MIB if self._real else 0
        peak = batch_size * MIB + lacking
        context = self._gpu.busy_bytes + (batch_size * 1024 if self._real else 0)
        totals = {Category.CONTEXT: context, Category.FREE: self.info.device.capacity_bytes - context}
        return Measurement(
            batch_size=batch_size,
            outcome=self._gpu.outcome if self._real else Outcome.FITS,
            message="tried to allocate 20.00 MiB",
            peaks=(PhasePeak(phase=Phase.BACKWARD, allocated_bytes=peak, reserved_bytes=peak + MIB),),
            breakdown=Breakdown(
                batch_size=batch_size,
                rows=tuple(BreakdownRow(category=key, bytes=size) for key, size in totals.items()),
                total_bytes=self.info.device.capacity_bytes,
                peak_phase=Phase.BACKWARD,
            ),
        )

    confirm = measure


def test_each_run_is_measured_and_predicted_without_what_was_calibrated_before() -> None:
    progress = RecordingProgress()
    fake_gpu = FakeGpu()
    made = fake_gpu.calibrate("cuda:0", progress=progress)
    for run, (real, predicted) in zip(RUNS, zip(fake_gpu.opened[::2], fake_gpu.opened[1::2], strict=True), strict=True):
        assert real[0] == config_of(run, {"name": "cuda:0"})
        assert predicted == (config_of(run, {"engine": "fake-tensors", "gpu": "t4"}), False)
    assert [(each.workload, each.batch_size) for each in made.cases] == [
        (run.name, size) for run in RUNS for size in run.sizes
    ]
    assert len(progress.statuses) == 2 * len(RUNS)


def test_the_record_is_of_the_card_that_ran() -> None:
    made = FakeGpu().calibrate()
    assert (made.product, made.memory_bytes, made.gpu) == ("Tesla T4", DEVICE.capacity_bytes, T4)
    assert (made.measured_on, made.versions["driver"]) == (date.today(), "580.82.07")
    largest = max(size for run in RUNS for size in run.sizes)
    assert made.context_bytes == 100 * MIB + largest * 1024
    assert (made.workspaces.matrix_products, made.workspaces.convolutions) == (8 * MIB, 24 * MIB)
    assert {each.convolutions for each in made.cases} == {True, False}
    assert all(made.remaining_error(each) == 0 for each in made.cases)


@pytest.mark.parametrize(
    ("fake_gpu", "error", "message", "hint"),
    [
        (FakeGpu(error=MachineError("PyTorch sees no such device", "h")), MachineError, "sees no", "--import FILE"),
        (FakeGpu(replace(DEVICE, other_processes=("python (pid 7): 512 MiB",))), MachineError, "pid 7", "--device"),
        (FakeGpu(busy_bytes=5 * GIB), MachineError, "5.00 GiB", "--overhead"),
        (FakeGpu(outcome=Outcome.OUT_OF_MEMORY), MachineError, "mlp, fp32 at batch 4,096 does not", "nvidia-smi"),
        (FakeGpu(replace(DEVICE, name="NVIDIA Nothing")), ConfigError, "has no NVIDIA Nothing", "--overhead"),
    ],
    ids=["no GPU", "others named", "others unnamed", "does not fit", "not in the catalogue"],
)
def test_what_would_calibrate_something_else_is_refused(
    fake_gpu: FakeGpu, error: type[Exception], message: str, hint: str
) -> None:
    with pytest.raises(error, match=message) as refused:
        fake_gpu.calibrate()
    assert hint in refused.value.hint  # type: ignore[attr-defined]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_runs_are_small_and_peak_where_workspaces_are_taken(run: Run) -> None:
    simulated = FakeTensorProbe(config_of(run, {"gpu": "h200"}), find_gpu("h200"))
    for size in run.sizes:
        measured = simulated.measure(size)
        assert measured.fits
        assert measured.peak_reserved_bytes < GIB
        optimizer, backward = measured.peak_in(Phase.OPTIMIZER), measured.peak_in(Phase.BACKWARD)
        assert optimizer is not None
        assert backward is not None
        # Else a workspace in the backward pass would not show in the peak.
        assert measured.peak_allocated_bytes == backward.allocated_bytes > 1.2 * optimizer.allocated_bytes
