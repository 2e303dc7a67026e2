"""`vram compare` as its user runs it: real trainings of a small model, cut short and gone on with."""

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
SHORT = ("--config", "train.yaml", "--epochs", "2", "--results", "kept.jsonl")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.yaml").write_text(CONFIG)
    (tmp_path / "blobs.py").write_text(CODE)
    return tmp_path


def compare(folder: Path, *arguments: str) -> Answer:
    return vram("compare", *SHORT, *arguments, folder=folder)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "kept.jsonl").read_text().splitlines()]


def finished(folder: Path) -> list[tuple[int, int, int]]:
    runs = [line["run"] for line in lines(folder) if line["kind"] == "run"]
    return [(run["batch_size"], run["repeat"], run["fold"]) for run in runs]


def test_a_killed_comparison_goes_on_where_it_was_with_more_sizes(folder: Path) -> None:
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
    kept = (folder / "kept.jsonl").read_bytes()
    done = finished(folder)
    assert done[:2] == [(4, 0, 0), (8, 0, 0)]
    assert len(done) < 4
    # As if it had been killed in the middle of a line.
    (folder / "kept.jsonl").write_bytes(kept + b'{"kind": "run", "run": {"batch_si')

    again = vram("compare", *slow, "--batch-sizes", "4,8,full", "--json", "--plot", "sizes.png", folder=folder)
    assert again.code == 0, again.stderr
    assert (folder / "kept.jsonl").read_bytes().startswith(kept)
    assert sorted(finished(folder)) == [(size, repeat, 0) for size in (4, 8, 320) for repeat in range(2)]
    assert f"{len(done)} of 6 trainings are in the file already" in again.stderr
    answer = json.loads(again.stdout)
    _, small, full = answer["sizes"]
    assert (small["batch_size"], full["batch_size"], full["is_full"]) == (8, 320, True)
    assert (small["learning_rate"], full["learning_rate"]) == (pytest.approx(0.1), pytest.approx(4.0))
    assert {run["images"] for run in answer["runs"]} == {640}
    assert small["accuracy"]["mean"] > 0.9
    assert 0 < small["fit"]["peak_bytes"] <= full["fit"]["peak_bytes"]
    assert full["loss_noise"] is None
    assert (folder / "sizes.png").stat().st_size > 10_000


def test_where_the_system_asks_it_to_end_it_tells_what_is_finished(folder: Path) -> None:
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
    assert "the same command goes on from there" in stdout
    assert "Traceback" not in stderr


def wait_for_runs(folder: Path, number: int) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if (folder / "kept.jsonl").exists() and len(finished(folder)) >= number:
            return
        time.sleep(0.05)
    pytest.fail("no training was finished")


def test_a_size_that_does_not_fit_is_told_and_trained_in_parts(folder: Path) -> None:
    wide = ("--memory-limit", "24MiB", "--set", "model.kwargs.width=8000")
    answer = compare(folder, "--batch-sizes", "full", "--repeats", "1", "--accumulate", *wide)
    assert answer.code == 0, answer.stderr
    told = " ".join(answer.stdout.split())
    assert "Batch size 320 does not run (out of memory in" in told
    assert "it was trained in 2 parts of 160, gradients added up" in told
    (fit,) = (line["fit"] for line in lines(folder) if line["kind"] == "fit")
    assert (fit["fits"], fit["part"], fit["parts"]) == (False, 160, 2)
    assert finished(folder) == [(320, 0, 0)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--batch-sizes", "8,many"), "'many' is neither a number nor full"),
        (("--samples", "few"), "--samples: 'few'"),
        (("--set", "device={gpu: t4}"), "device.gpu"),
        (("--set", "step=blobs:step"), "step.function"),
        (("--set", "data={name: synthetic, shape: [1, 2, 2], classes: 2}"), "nothing to learn"),
    ],
)
def test_what_cannot_be_compared_is_named_and_nothing_is_written(
    folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    answer = vram_here("compare", *SHORT, *arguments, folder=folder)
    assert answer.code == 2
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert {path.name for path in folder.iterdir()} <= {"__pycache__", "blobs.py", "train.yaml"}
