"""`vram find-batch --objective throughput`, with real steps on the CPU."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.running import vram
from tests.cli.test_find_batch import await_trial, start
from vram_cli.commands.find_batch import find_batch
from vram_cli.config import load_config
from vram_cli.errors import ConfigError

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces RLIMIT_DATA")

SMALL = ["--device", "cpu", "--memory-limit", "64MiB", "--set", "data.source=synthetic", "--objective", "throughput"]


@linux
def test_sizes_up_to_the_largest_are_timed(tmp_path: Path) -> None:
    answer = vram("find-batch", *SMALL, "--max-batch-size", "6", "--save", "run.json", folder=tmp_path)
    assert answer.code == 0, answer.stderr
    assert answer.stderr.count(" samples/s (half of ") == 4
    assert "Fastest: " in answer.stdout
    assert "Knee: " in answer.stdout
    assert "Speed and memory by batch size (measured)" in answer.stdout
    result = json.loads((tmp_path / "run.json").read_text())
    assert (result["max_batch_size"], result["limited_by"]) == (6, "max_batch_size")
    assert result["run"]["config"]["search"]["objective"] == "throughput"
    paces = result["throughput"]["points"]
    assert [pace["batch_size"] for pace in paces] == [1, 2, 4, 6]
    assert all(pace["steps"] >= 20 for pace in paces)
    assert {pace["batch_size"] for pace in paces} <= {trial["batch_size"] for trial in result["trials"]}
    best = max(pace["samples_per_second"] for pace in paces)
    knee = next(pace for pace in paces if pace["batch_size"] == result["throughput"]["knee_batch_size"])
    assert knee["samples_per_second"] >= 0.95 * best
    assert vram("show", "run.json", folder=tmp_path).stdout == answer.stdout


@linux
def test_ctrl_c_reports_the_largest_and_the_timed_sizes(tmp_path: Path) -> None:
    process = start("find-batch", *SMALL, "--max-batch-size", "16", "--json", folder=tmp_path)
    await_trial(process, "samples/s")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    result = json.loads(stdout)
    assert result["interrupted"] is True
    assert (result["max_batch_size"], result["limited_by"]) == (16, "max_batch_size")
    assert result["throughput"]["points"][0]["batch_size"] == 1
    assert len(result["throughput"]["points"]) < result["throughput"]["sizes"] == 5
    assert "Traceback" not in stderr


def test_throughput_of_a_predicted_gpu_is_refused(tmp_path: Path) -> None:
    answer = vram("find-batch", "--gpu", "l4", "--objective", "throughput", folder=tmp_path)
    assert (answer.code, answer.stdout) == (2, "")
    assert (
        "error: command line: search.objective: throughput is measured, and cannot be predicted for l4" in answer.stderr
    )
    assert "--objective largest" in answer.stderr


def test_throughput_without_a_gpu_is_refused() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match=r"search\.objective: throughput .* cannot be predicted for Tesla T4"):
        find_batch(load_config(overrides=["search.objective=throughput"]))
