"""The whole of `benchmarks.predicted`, with predictions in place of measurements."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vram_cli.config import Config, DeviceConfig
from vram_cli.errors import ProbeError
from vram_cli.hardware.gpus import find_gpu
from vram_cli.probe.messages import RunTrial
from vram_cli.probe.worker.trials import open_trials
from vram_cli.records import Device, FindBatchResult, Limit, Measurement, RunInfo
from vram_cli.search import find_largest
from vram_cli.units import GIB

pytestmark = pytest.mark.slow

predicted = pytest.importorskip("benchmarks.predicted")

ROOT = Path(__file__).parents[2]
GPU = Device(kind="real", name="Tesla T4", type="cuda:0", capacity_bytes=find_gpu("t4").memory_bytes)
CASES = (predicted.Case("mlp", "sgd"), predicted.Case("cnn", "adam, foreach: false", "amp-fp16"))


def describe_gpu() -> tuple[Device, dict[str, str]]:
    return GPU, {"torch": "2.14.1", "driver": "580.65"}


def measured_on(config: Config, gpu: str) -> FindBatchResult:
    """Return a prediction for a GPU, as if it were measured."""
    capacity = config.device.memory_limit or GPU.capacity_bytes
    target = config.model_copy(update={"device": DeviceConfig(gpu=gpu, memory_limit=capacity)})
    trials = open_trials(target, download=False, calibrated=False)

    def measure(n: int) -> Measurement:
        return trials.run(RunTrial(batch_size=n), lambda _: None).measurement

    report = find_largest(measure, capacity_bytes=trials.ready.device.allocator_bytes, multiple_of=1)
    return FindBatchResult(
        **vars(report),
        run=RunInfo(
            config_name="",
            config=config.model_dump(mode="json"),
            device=replace(GPU, capacity_bytes=capacity),
            data=None,
            versions={},
        ),
    )


def run(folder: Path, *, gpu: str = "t4", **options: object) -> dict[str, object]:
    """Run the benchmark and return its JSON file."""
    options = {"measure": lambda config: measured_on(config, gpu), "cases": CASES, **options}
    assert predicted.main(["--results", str(folder)], describe_gpu=describe_gpu, **options) == 0
    return json.loads(next(folder.glob("*.json")).read_text())


@pytest.fixture
def one_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicted, "MEMORY_LIMITS", (3 * GIB,))


@pytest.mark.usefixtures("one_memory_limit")
def test_perfect_predictions_have_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(tmp_path)
    rows = report["rows"]
    assert [(row["case"][:3], row["memory_limit_bytes"]) for row in rows] == [
        (case, limit) for case, limit in (("mlp", None), ("cnn", 3 * GIB), ("mlp", 3 * GIB), ("cnn", None))
    ]
    assert all(row["exact"] == row["predicted"] > 0 and row["problem"] == "" for row in rows)
    peaks = [peak for row in rows for peak in row["peaks"]]
    assert len(peaks) > 2 * len(rows)
    assert all(peak["measured_reserved"] == peak["predicted_reserved"] > 0 for peak in peaks)
    assert (
        f"largest batch: median 0.00%, p90 0.00%, worst 0.00%, of {len(rows)}; exact in {len(rows)}"
        in report["summary"]
    )
    assert all(row["predicted_context"] == find_gpu("t4").context_bytes for row in rows)
    assert report["versions"]["driver"] == "580.65"
    assert report["gpu"] == {"name": "Tesla T4", "capacity_bytes": GPU.capacity_bytes, "catalogue": "t4"}
    printed = capsys.readouterr().out
    assert all(line in printed for line in report["summary"])


@pytest.mark.usefixtures("one_memory_limit")
def test_errors_between_two_gpus(tmp_path: Path) -> None:
    """An H100 uses larger workspaces and a larger context than the predicted T4."""
    report = run(tmp_path, gpu="h100", cases=CASES[:1])
    for row in report["rows"]:
        assert row["predicted"] > row["exact"]
        assert row["error"] == row["predicted"] / row["exact"] - 1
    text = next(tmp_path.glob("*.md")).read_text()
    assert "# Predicted against measured on Tesla T4" in text
    assert f"{report['rows'][0]['exact']:,} | {report['rows'][0]['predicted']:,}" in text


@pytest.mark.usefixtures("one_memory_limit")
def test_a_failure_is_a_row_with_its_reason(tmp_path: Path) -> None:
    def measure(config: Config) -> FindBatchResult:
        if config.model.name == "cnn":
            raise ProbeError("the process was ended by SIGKILL")
        return replace(measured_on(config, "t4"), limited_by=Limit.TIME)

    report = run(tmp_path, measure=measure)
    problems = {row["case"][:3]: row["problem"] for row in report["rows"]}
    assert problems["cnn"] == "measuring failed: ProbeError: the process was ended by SIGKILL"
    assert problems["mlp"] == "no exact maximum: time ended the search"
    assert all(row["error"] is None for row in report["rows"])
    assert any(row["peaks"] for row in report["rows"])  # sizes that ran before are compared
    assert "largest batch: nothing to compare; exact in 0" in report["summary"]


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    arguments = ["--results", str(tmp_path), "--minutes", "0"]
    for _ in range(2):
        assert (
            predicted.main(
                arguments, describe_gpu=describe_gpu, measure=lambda _: pytest.fail("no time left"), cases=CASES
            )
            == 0
        )
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 4
    assert sum(name.endswith("-predicted-t4-2.json") for name in names) == 1
    assert json.loads((tmp_path / names[0]).read_text())["left"] == 8


def test_every_case_loads() -> None:
    configs = [case.config() for case in predicted.CASES]
    assert len({str(case) for case in predicted.CASES}) == len(configs) >= 12
    assert all(config.device.name == "cuda" and config.search.limit_to_dataset is False for config in configs)
    assert all(config.data.length is None or config.data.name == "cifar10" for config in configs)
    plan = list(predicted.rounds(predicted.CASES, 80 * GIB))
    assert len(set(plan)) == len(plan) == 4 * len(configs)
    first = {(case.model, limit) for case, limit in plan[: len(configs)]}
    for model in predicted.MODELS:
        assert sum(name == model for name, _ in first) >= 3


def test_exit_code_without_a_gpu() -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.predicted", "--quick"]
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 3
    assert answer.stderr.startswith("This benchmark needs a GPU")
    assert "Traceback" not in answer.stderr
