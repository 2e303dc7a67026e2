"""`vram compare` from the shell: real trainings of a small model, interrupted and resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Answer, vram, vram_here

CONFIG = """
model: {factory: "blobs:model"}
data: {factory: "blobs:Blobs"}
optimizer: {name: sgd}
device: cpu
train: {batch_size: 8, learning_rate: 0.1}
"""
CODE = """
import time
import torch

class Blobs(torch.utils.data.Dataset):
    def __len__(self):
        return 400

    def __getitem__(self, i):
        noise = torch.randn(4, generator=torch.Generator().manual_seed(i))
        return noise + (1.0 if i % 2 else -1.0), i % 2

def model(width=8, pause=0.0):
    class Slow(torch.nn.Module):
        def forward(self, x):
            time.sleep(pause)
            return x
    return torch.nn.Sequential(Slow(), torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))
"""
FILES = ("--plot", "sizes.png", "--report", "sizes.html")
SHORT = ("--config", "train.yaml", "--epochs", "2", "--results", "results.jsonl")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.yaml").write_text(CONFIG)
    (tmp_path / "blobs.py").write_text(CODE)
    return tmp_path


def compare(folder: Path, *arguments: str) -> Answer:
    return vram("compare", *SHORT, *arguments, folder=folder)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def finished(folder: Path) -> list[tuple[int, int, int]]:
    runs = [line["run"] for line in lines(folder) if line["kind"] == "run"]
    return [(run["batch_size"], run["repeat"], run["fold"]) for run in runs]


def test_killed_comparison_resumes(folder: Path) -> None:
    slow = (*SHORT, "--repeats", "2", "--set", "model.kwargs.pause=0.002")
    process = subprocess.Popen(
        [sys.executable, "-m", "vram_cli", "compare", *slow, "--batch-sizes", "4,8"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_runs(folder, 2)
    process.kill()
    process.wait()
    before = (folder / "results.jsonl").read_bytes()
    completed = finished(folder)
    assert completed[:2] == [(4, 0, 0), (8, 0, 0)]
    assert len(completed) < 4
    # As if killed while writing a line.
    (folder / "results.jsonl").write_bytes(before + b'{"kind": "run", "run": {"batch_si')

    resumed = vram("compare", *slow, "--batch-sizes", "4,8,full", "--json", *FILES, folder=folder)
    assert resumed.code == 0, resumed.stderr
    assert (folder / "results.jsonl").read_bytes().startswith(before)
    assert sorted(finished(folder)) == [(size, repeat, 0) for size in (4, 8, 320) for repeat in range(2)]
    assert f"{len(completed)} of 6 runs are already in the results file" in resumed.stderr
    answer = json.loads(resumed.stdout)
    _, small, full = answer["sizes"]
    assert (small["batch_size"], full["batch_size"], full["is_full"]) == (8, 320, True)
    assert (small["learning_rate"], full["learning_rate"]) == (pytest.approx(0.1), pytest.approx(4.0))
    assert {run["samples"] for run in answer["runs"]} == {640}
    assert small["accuracy"]["mean"] > 0.9
    assert 0 < small["memory_check"]["peak_bytes"] <= full["memory_check"]["peak_bytes"]
    assert full["loss_noise"] is None
    assert (folder / "sizes.png").stat().st_size > 10_000
    assert "Best validation:" in (folder / "sizes.html").read_text()


def test_sigterm_prints_the_finished_runs(folder: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "vram_cli", "compare", *SHORT, "--batch-sizes", "4,8", "--repeats", "9"),
            *("--set", "model.kwargs.pause=0.002"),
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_runs(folder, 2)
    process.send_signal(signal.SIGTERM)  # Ctrl-C: tests/cli/test_find_batch.py
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted:" in stdout
    assert "run the same command to resume" in stdout
    assert "Traceback" not in stderr


def wait_for_runs(folder: Path, number: int) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if (folder / "results.jsonl").exists() and len(finished(folder)) >= number:
            return
        time.sleep(0.05)
    pytest.fail("no run finished")


def test_size_that_does_not_fit_uses_micro_batches(folder: Path) -> None:
    wide = ("--memory-limit", "24MiB", "--set", "model.kwargs.width=8000")
    answer = compare(folder, "--batch-sizes", "full", "--repeats", "1", "--accumulate", *wide)
    assert answer.code == 0, answer.stderr
    text = " ".join(answer.stdout.split())
    assert "Batch size 320 does not fit (out of memory in" in text
    assert "it was trained as 2 micro-batches of 160" in text
    (check,) = (line["memory_check"] for line in lines(folder) if line["kind"] == "memory_check")
    assert (check["fits"], check["micro_batch_size"], check["micro_batches"]) == (False, 160, 2)
    assert finished(folder) == [(320, 0, 0)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--batch-sizes", "8,many"), "'many' is neither a number nor full"),
        (("--samples", "few"), "--samples: "),
        (("--set", "device={gpu: t4}"), "device.gpu"),
        (("--set", "mode=eval"), "mode: eval"),
        (("--set", "step=blobs:step"), "step.function"),
        (("--set", "data={name: synthetic, shape: [1, 2, 2], classes: 2}"), "nothing to learn"),
    ],
)
def test_invalid_input_writes_no_file(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    answer = vram_here("compare", *SHORT, *arguments, folder=folder)
    assert answer.code == 2
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert {path.name for path in folder.iterdir()} <= {"__pycache__", "blobs.py", "train.yaml"}
