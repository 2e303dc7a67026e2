"""`vram check` with each outcome of a trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.report.drawing import text
from tests.report.examples import CIFAR, CPU, GPU, VERSIONS, failed, ran
from vram_cli.commands.breakdown import breakdown
from vram_cli.commands.check import check
from vram_cli.config import Config, load_config
from vram_cli.errors import DoesNotFitError, MachineError, VramError, WorkloadError
from vram_cli.records import (
    Category,
    CheckLimits,
    CheckResult,
    Detail,
    Device,
    FindingKind,
    Measurement,
    Outcome,
    RunInfo,
)

REAL = load_config("mlp_mnist.yaml", ["train.batch_size=64"])


class FakeProbe:
    """A device and one measurement."""

    def __init__(self, measurement: Measurement, device: Device = GPU) -> None:
        self.measurement, self.batch_sizes = measurement, list[int]()
        self.info = RunInfo(
            config_name="mlp_mnist.yaml",
            config=REAL.model_dump(mode="json"),
            device=device,
            data=CIFAR,
            versions=VERSIONS,
        )

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        assert detail is Detail.MODULES
        self.batch_sizes.append(batch_size)
        return self.measurement

    confirm = measure

    def check(self, limits: CheckLimits, **options: Any) -> CheckResult:
        return check(REAL, limits, open_probe=self.open, **options)

    @contextmanager
    def open(self, config: Config, *, calibrated: bool = True, **_: Any) -> Iterator[FakeProbe]:
        assert not calibrated, "the prediction of a check is the same on every runner"
        yield self


@pytest.mark.parametrize(
    ("outcome", "kind", "code"),
    [
        (Outcome.ERROR, WorkloadError, 2),
        (Outcome.KILLED, MachineError, 3),
        (Outcome.TIMED_OUT, MachineError, 3),
        (Outcome.HOST_MEMORY, MachineError, 3),
        (Outcome.KERNEL_LIMIT, DoesNotFitError, 4),
    ],
)
def test_only_running_out_of_memory_is_a_finding(outcome: Outcome, kind: type[VramError], code: int) -> None:
    probe = FakeProbe(replace(failed(64), outcome=outcome, message="its own words"))
    with pytest.raises(kind, match="its own words") as caught:
        probe.check(CheckLimits(max_memory_bytes=1))
    assert caught.value.exit_code == code


def test_out_of_memory_on_a_real_device_reports_the_shortfall() -> None:
    probe = FakeProbe(failed(64))
    verdict = probe.check(CheckLimits(max_memory_bytes=1))
    assert [finding.kind for finding in verdict.findings] == [FindingKind.DOES_NOT_FIT]
    assert verdict.findings[0].excess_bytes == verdict.result.shortfall_bytes
    assert probe.batch_sizes == [64]


def test_evaluation_says_nothing_of_training() -> None:
    config = load_config("mlp_mnist.yaml", ["train.batch_size=64", "mode=eval", "device.gpu=t4"])
    verdict = check(config, CheckLimits(max_memory_bytes=2**30))
    assert verdict.passed
    assert verdict.result.run.config["mode"] == "eval"
    assert "training step" not in text(verdict)
    answer = breakdown(config, batch_size=64)
    assert answer.breakdown is not None
    assert answer.breakdown.bytes_of(Category.GRADIENTS) == 0
    assert "training step" not in text(answer)


def test_baseline_needs_the_batch_size_and_no_breakdown() -> None:
    first = FakeProbe(ran(64)).check(CheckLimits())
    assert first.passed
    assert first.result.run.config["train"]["batch_size"] == first.result.measurement.batch_size == 64
    verdict = FakeProbe(ran(128)).check(CheckLimits(tolerance=0.02), baseline=first.result, baseline_name="b.json")
    assert [finding.kind for finding in verdict.findings] == [FindingKind.GREW]
    assert verdict.rows == verdict.modules == ()
    assert any("only the peaks" in remark for remark in verdict.remarks)


def test_a_missing_gpu_is_not_replaced_by_a_prediction_for_another() -> None:
    probe = FakeProbe(ran(64), replace(GPU, kind="simulated"))
    with pytest.raises(MachineError, match="has no GPU"):
        probe.check(CheckLimits(max_memory_bytes=1))
    assert probe.batch_sizes == []


def test_another_device_is_refused_before_anything_runs() -> None:
    first = FakeProbe(ran(64)).check(CheckLimits()).result
    probe = FakeProbe(ran(64), CPU)
    with pytest.raises(VramError, match="not comparable"):
        probe.check(CheckLimits(), baseline=first, baseline_name="b.json")
    assert probe.batch_sizes == []
