"""`vram find-batch` and `vram breakdown`, with real steps and real out-of-memory errors."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.running import vram, vram_here
from tests.real_data import mnist_root
from vram_cli.search.trial_budget import bisection_trials

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces RLIMIT_DATA")

SMALL = ["--device", "cpu", "--memory-limit", "64MiB", "--set", "data.source=synthetic"]
MIB = 1024**2


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the JSON of a saved search that is limited by memory."""
    folder = tmp_path_factory.mktemp("search")
    answer = vram("find-batch", "--config", "mlp_mnist.yaml", *SMALL, "--json", "--save", "run.json", folder=folder)
    assert answer.code == 0, answer.stderr
    assert re.search(r"^ *1 +fits", answer.stderr, re.MULTILINE)  # the progress; stdout has the answer alone
    return folder, json.loads(answer.stdout)


def test_largest_size_ran_and_the_next_ran_out_of_memory(search: tuple[Path, dict[str, Any]]) -> None:
    _, result = search
    certificate, largest = result["certificate"], result["max_batch_size"]
    assert (certificate["largest_ok"], certificate["smallest_failed"]) == (largest, largest + 1)
    assert certificate["outcome"] == "out_of_memory"
    assert certificate["phase"] in ("forward", "backward")
    assert certificate["steps"] == 3
    assert "can't allocate memory" in certificate["message"]
    assert result["limited_by"] == "memory"
    outcomes = [(trial["batch_size"], trial["outcome"]) for trial in result["trials"]]
    assert (largest, "fits") in outcomes
    assert (largest + 1, "out_of_memory") in outcomes
    # The confirmation and the recommended size, near which memory moves too, cost some more than the maximum.
    assert len(outcomes) < bisection_trials(largest) + 10


def test_largest_size_agrees_with_arithmetic(search: tuple[Path, dict[str, Any]]) -> None:
    # At the peak a sample holds its image and label, ReLU's output, its gradient and that of ReLU's input.
    per_sample = 784 * 4 + 8 + 3 * 128 * 4
    ceiling = (64 * MIB - 2 * 4 * 101_770) // per_sample
    assert 0.9 * ceiling < search[1]["max_batch_size"] <= ceiling


def test_recommended_size_ran_and_leaves_the_margin(search: tuple[Path, dict[str, Any]]) -> None:
    _, result = search
    recommended = result["recommended_batch_size"]
    assert recommended % 8 == 0
    trial = next(trial for trial in result["trials"] if trial["batch_size"] == recommended)
    assert trial["outcome"] == "fits"
    assert trial["peak_reserved_bytes"] <= 0.95 * 64 * MIB


def test_breakdown_adds_up(search: tuple[Path, dict[str, Any]]) -> None:
    _, result = search
    breakdown = result["breakdown"]
    assert breakdown["batch_size"] == result["max_batch_size"]
    assert sum(row["bytes"] for row in breakdown["rows"]) == breakdown["total_bytes"] == 64 * MIB
    assert all(row["bytes"] >= 0 for row in breakdown["rows"])
    assert result["run"]["device"]["kind"] == "real"
    assert result["run"]["device"]["capacity_bytes"] == 64 * MIB
    assert {"vram", "torch", "python"} <= result["run"]["versions"].keys()


def test_show_saved_result(search: tuple[Path, dict[str, Any]]) -> None:
    folder, result = search
    again = vram_here("show", "run.json", "--json", folder=folder)
    assert json.loads(again.stdout) == result
    text = vram_here("show", "run.json", folder=folder).stdout
    assert text.startswith(f"Largest batch size: {result['max_batch_size']:,}")
    assert "\x1b" not in text
    rows = re.findall(r"(?:iB| B) +(-?[\d,]+) +-?[\d.]+ %", text)
    *parts, total = [int(row.replace(",", "")) for row in rows]
    assert len(parts) == 10
    assert sum(parts) == total == 64 * MIB


def test_mnist_files_limit_the_batch(tmp_path: Path) -> None:
    root = mnist_root()
    arguments = [
        "--set",
        "data.source=files",
        "--set",
        f"data.root={root}",
        "--device",
        "cpu",
        "--memory-limit",
        "1GiB",
        "--steps",
        "2",
    ]
    answer = vram("find-batch", *arguments, "--json", folder=tmp_path)
    assert answer.code == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert result["run"]["data"]["source"] == "files"
    assert result["run"]["data"]["num_samples"] == result["max_batch_size"] == 60_000
    assert result["limited_by"] == "dataset"
    assert result["extrapolated_batch_size"] > 60_000
    assert len(result["trials"]) <= 5


def test_breakdown_that_does_not_fit_names_phase_and_shortfall(tmp_path: Path) -> None:
    answer = vram("breakdown", *SMALL, "--batch-size", "100000", folder=tmp_path)
    assert (answer.code, answer.stdout) == (4, "")
    assert "100,000 does not run" in answer.stderr
    assert re.search(r" in batch: .*; at least .* short", answer.stderr)
    assert "find-batch" in answer.stderr


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vram_cli", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
    )


def await_trial(process: subprocess.Popen[str], words: str) -> None:
    """Read stderr up to the line of a trial that contains some words."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"no trial printed {words!r}")


def test_ctrl_c_reports_the_answer_so_far(tmp_path: Path) -> None:
    # Many steps a trial: the second one is running for long when the signal comes.
    process = start("find-batch", *SMALL, "--steps", "400", "--json", folder=tmp_path)
    await_trial(process, " fits")
    time.sleep(0.5)
    worker = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    result = json.loads(stdout)
    assert result["interrupted"] is True
    assert result["limited_by"] is None
    assert result["max_batch_size"] >= 1
    assert "Traceback" not in stderr
    assert not psutil.wait_procs(worker, timeout=10)[1]


def test_killed_worker_is_reported_and_replaced(tmp_path: Path) -> None:
    process = start("find-batch", *SMALL, "--max-batch-size", "300", "--steps", "30", "--json", folder=tmp_path)
    await_trial(process, " fits")
    (worker,) = psutil.Process(process.pid).children()
    worker.kill()
    stdout, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    result = json.loads(stdout)
    assert "killed" in [trial["outcome"] for trial in result["trials"]]
    assert (result["max_batch_size"], result["limited_by"]) == (300, "max_batch_size")


def test_batch_norm_error_at_one_sample_is_not_out_of_memory(tmp_path: Path) -> None:
    arguments = [
        "--config",
        "resnet18_cifar10.yaml",
        "--device",
        "cpu",
        "--memory-limit",
        "1GiB",
        "--max-batch-size",
        "2",
        "--steps",
        "2",
        "--json",
        "--set",
        "data={name: synthetic, shape: [3, 8, 8], classes: 10}",
    ]
    answer = vram("find-batch", *arguments, folder=tmp_path)
    assert answer.code == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert result["max_batch_size"] == 2
    assert result["trials"][0]["outcome"] == "error"
    assert any("1" in note for note in result["notes"])


def test_help_has_an_example(tmp_path: Path) -> None:
    for command in ("find-batch", "breakdown", "show", "gpus", "init", "schema"):
        answer = vram_here(command, "--help", folder=tmp_path)
        assert answer.code == 0
        assert re.search(rf"Example: .*vram {command}", answer.stdout)
    assert "Example: vram find-batch" in vram_here("--help", folder=tmp_path).stdout


def test_starter_config_runs(tmp_path: Path) -> None:
    assert vram_here("init", folder=tmp_path).code == 0
    answer = vram_here("breakdown", "--config", "vram.yaml", "--gpu", "t4", "--json", folder=tmp_path)
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["run"]["config_name"] == "vram.yaml"


def test_schema_is_json(tmp_path: Path) -> None:
    assert "properties" in json.loads(vram_here("schema", folder=tmp_path).stdout)
    assert "FindBatchResult" in json.loads(vram_here("schema", "--results", folder=tmp_path).stdout)["$defs"]
