"""What `vram check` makes of each way in which a trial may end."""

from __future__ import annotations

from dataclasses import replace

import pytest

import vram_cli.commands.check.run
from tests.report.examples import CIFAR, CPU, GPU, VERSIONS, failed, ran
from vram_cli.commands.check.run import check
from vram_cli.config import load_config
from vram_cli.errors import DoesNotFitError, MachineError, VramError, WorkloadError
from vram_cli.records import CheckLimits, Device, FindingKind, Measurement, Outcome, RunInfo

REAL = load_config("mlp_mnist.yaml", ["train.batch_size=64"])


class FakeProbe:
    """Stands for the child process: a device, and one measurement."""

    answer: Measurement
    device: Device = GPU
    data, versions, remark, capacity_bytes = CIFAR, VERSIONS, "", GPU.capacity_bytes
    asked: list[int]

    def __init__(self, config: object, **settings: object) -> None:
        assert settings["calibrated"] is False, "a gate's prediction is the same on every runner"

    def __enter__(self) -> FakeProbe:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def info(self) -> RunInfo:
        return RunInfo(
            config_name="mlp_mnist.yaml",
            config=REAL.model_dump(mode="json"),
            device=self.device,
            data=self.data,
            versions=self.versions,
        )

    def measure(self, batch_size: int, *, explain: bool, detail: bool) -> Measurement:
        self.asked.append(batch_size)
        return self.answer


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> type[FakeProbe]:
    fake = type("Fake", (FakeProbe,), {"asked": []})
    monkeypatch.setattr(vram_cli.commands.check.run, "WorkerProbe", fake)
    return fake


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
def test_only_running_out_of_memory_is_a_finding(
    outcome: Outcome, kind: type[VramError], code: int, probe: type[FakeProbe]
) -> None:
    probe.answer = replace(failed(64), outcome=outcome, message="its own words")
    with pytest.raises(kind, match="its own words") as caught:
        check(REAL, CheckLimits(max_memory_bytes=1))
    assert caught.value.exit_code == code


def test_running_out_of_memory_on_a_real_device_is_a_finding_with_what_was_missing(probe: type[FakeProbe]) -> None:
    probe.answer = failed(64)
    verdict = check(REAL, CheckLimits(max_memory_bytes=1))
    assert [finding.kind for finding in verdict.findings] == [FindingKind.DOES_NOT_FIT]
    assert verdict.findings[0].excess_bytes == verdict.result.shortfall_bytes
    assert probe.asked == [64]


def test_a_result_of_the_config_s_batch_size_can_be_a_baseline_and_needs_no_breakdown(probe: type[FakeProbe]) -> None:
    probe.answer = ran(64)
    first = check(REAL, CheckLimits())
    assert first.passed
    assert first.result.run.config["train"]["batch_size"] == first.result.trials[-1].batch_size == 64
    probe.answer = ran(128)
    verdict = check(REAL, CheckLimits(tolerance=0.02), baseline=first.result, baseline_name="b.json")
    assert [finding.kind for finding in verdict.findings] == [FindingKind.GREW]
    assert verdict.rows == verdict.modules == ()
    assert any("no rows" in remark for remark in verdict.remarks)


def test_a_gpu_that_is_not_there_is_no_prediction_for_some_other(probe: type[FakeProbe]) -> None:
    probe.device = replace(GPU, kind="simulated")
    with pytest.raises(MachineError, match="no GPU here"):
        check(REAL, CheckLimits(max_memory_bytes=1))
    assert probe.asked == []


def test_another_device_is_refused_before_anything_is_run(probe: type[FakeProbe]) -> None:
    probe.answer = ran(64)
    first = check(REAL, CheckLimits()).result
    probe.device = CPU
    with pytest.raises(VramError, match="not comparable"):
        check(REAL, CheckLimits(), baseline=first, baseline_name="b.json")
    assert probe.asked == [64]
