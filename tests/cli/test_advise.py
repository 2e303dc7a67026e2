"""`vram advise`, predicted for a GPU and by real steps under a memory limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.running import vram, vram_here
from tests.report.page import Page

PLACE = ["--gpu", "a10", "--memory-limit", "400MiB", "--overhead", "100MiB"]
WIDE = [*PLACE, "--set", "optimizer.name=adam", "--set", "model.hidden=4096"]
ALL = [
    *WIDE,
    "--fit-batch",
    "5000",
    "--effective-batch",
    "10000",
    "--gpus",
    "t4, l4",
    "--also-try",
    "model.hidden=2048",
]

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(64, 256)
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(256, 256), nn.GELU(), nn.Tanh()) for _ in range(8)))
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))

class Broken(Net):
    def forward(self, x):
        raise ValueError("not today")

class OneDtype(Net):
    def forward(self, x):
        y = super().forward(x)
        if y.dtype is not torch.float32:
            raise TypeError("float32 or nothing")
        return y

def step(model, batch, optimizer):
    inputs, targets = batch
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(**inputs), targets)
    loss.backward()
    optimizer.step()
    return loss
"""
CONFIG = """
model: {factory: "net:Net"}
data: {inputs: {x: {shape: [64]}}, targets: {shape: [], dtype: int64, high: 10}}
optimizer: {name: sgd, fused: true}
train: {channels_last: true}
"""


@pytest.fixture(scope="module")
def advised(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the JSON of an advice with every question at once, saved and as a page."""
    folder = tmp_path_factory.mktemp("advised")
    answer = vram_here("advise", *ALL, "--json", "--save", "a.json", "--report", "a.html", "--quiet", folder=folder)
    assert answer.code == 0, answer.stderr
    assert answer.stderr == "saved to a.json\nsaved to a.html\n"
    return folder, json.loads(answer.stdout)


@pytest.fixture
def user_project(tmp_path: Path) -> Path:
    """Return a folder with a user's model, and a config that names it."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "net.yaml").write_text(CONFIG)
    return tmp_path


def optimizations(advice: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {result["name"]: result for result in advice["optimizations"]}


def test_each_change_and_the_best_combination(advised: tuple[Path, dict[str, Any]]) -> None:
    _, advice = advised
    tried = optimizations(advice)
    assert {"fused optimizer", "expandable segments", "channels last", "model.hidden=2048"} <= tried.keys()
    assert tried["autocast to bfloat16"]["max_batch_size"] > 1.5 * advice["max_batch_size"]
    assert tried["autocast to bfloat16"]["saved_from"] in ("activations", "temporaries", "allocator_slack")
    assert tried["model.hidden=2048"]["flops_ratio"] == pytest.approx(0.5, abs=0.01)
    best = max(result["max_batch_size"] or 0 for result in tried.values() if result["helps"])
    assert advice["best"]["max_batch_size"] >= best
    assert sum(row["bytes"] for row in advice["breakdown"]["rows"]) == 400 * 1024**2
    assert advice["at_batch_size"] < advice["max_batch_size"]
    assert advice["run"]["device"]["kind"] == "simulated"


def test_refused_change_has_a_reason(advised: tuple[Path, dict[str, Any]]) -> None:
    refused = optimizations(advised[1])["checkpoint every block"]
    assert refused["max_batch_size"] is None
    assert refused["reason"] == "train.activation_checkpointing: full finds no repeated blocks in the model"


def test_answers_to_fit_batch_effective_batch_and_gpus(advised: tuple[Path, dict[str, Any]]) -> None:
    _, advice = advised
    assert advice["fit_batch"]["micro_batch_size"] == 5000
    assert advice["fit_batch"]["overrides"] == ["precision=amp-bf16"]  # cheaper than a smaller model
    effective = advice["effective_batch"]
    assert effective["micro_batch_size"] * effective["gradient_accumulation_steps"] == 10_000
    assert effective["micro_batch_size"] <= advice["max_batch_size"]
    assert advice["learning_rate"]["learning_rate"] == pytest.approx(0.01 * (10_000 / 128) ** 0.5)
    t4, l4 = advice["gpus"]
    assert (t4["name"], l4["name"]) == ("t4", "l4")
    assert t4["capacity_bytes"] < l4["capacity_bytes"]
    assert t4["max_batch_size"] < l4["max_batch_size"]


def test_changes_for_fit_batch_make_it_fit(advised: tuple[Path, dict[str, Any]]) -> None:
    folder, advice = advised
    sets = [word for text in advice["fit_batch"]["overrides"] for word in ("--set", text)]
    assert vram_here("breakdown", *WIDE, *sets, "--batch-size", "5000", folder=folder).code == 0


def test_show_saved_advice(advised: tuple[Path, dict[str, Any]]) -> None:
    folder, advice = advised
    assert json.loads(vram_here("show", "a.json", "--json", folder=folder).stdout) == advice
    text = vram_here("show", "a.json", folder=folder).stdout
    assert f"Without changes:      {advice['max_batch_size']:,} on NVIDIA A10, 400 MiB (predicted)" in text
    refused = "checkpoint every block      train.activation_checkpointing: full finds no repeated blocks in the model"
    assert refused in text
    assert "On other GPUs (predicted)" in text
    assert "Next: see where the memory goes at 5,000" in text
    markdown = vram_here("show", "a.json", "--format", "markdown", folder=folder).stdout
    assert markdown.startswith("### Best together: ")
    answer = vram_here("show", "a.json", "--timeline", folder=folder)
    assert answer.code == 2
    assert "without modules, timeline" in answer.stderr
    page = Page((folder / "a.html").read_text(encoding="utf-8"))
    assert f"Best together: {advice['best']['max_batch_size']:,}" in page.text


def test_model_that_fits_only_with_a_change(tmp_path: Path) -> None:
    """Adam on 12.7 million weights: 48.5 MiB, four times; three times fit."""
    arguments = ["--set", "model.hidden=16000", "--set", "optimizer.name=adam", "--json", "--quiet"]
    place = ["--gpu", "t4", "--memory-limit", "290MiB", "--overhead", "100MiB"]
    answer = vram_here("advise", *place, *arguments, folder=tmp_path)
    assert answer.code == 0, answer.stderr
    advice = json.loads(answer.stdout)
    assert advice["max_batch_size"] is None
    assert advice["best"]["max_batch_size"] >= 1
    assert optimizations(advice)["SGD with momentum"]["helps"]


def test_nothing_fits_with_any_change(tmp_path: Path) -> None:
    answer = vram_here("advise", *PLACE, "--set", "model.hidden=200000", "--fit-batch", "8", folder=tmp_path)
    assert answer.code == 4
    assert "Without changes: nothing fits on NVIDIA A10" in answer.stdout
    assert "To train with 8: not possible: " in answer.stdout
    assert "nothing fits with it either" in answer.stdout
    assert answer.stderr.splitlines()[:4] == [
        "no --config option: using the bundled mlp_mnist.yaml",
        "starting the worker process",
        "trying the training without changes",
        "trying fused optimizer",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--also-try", "train.checkpoint=full"], ["train.checkpoint", "did you mean train.activation_checkpointing"]),
        (["--also-try", "precision=half"], ["precision", "amp-fp16"]),
        (["--gpus", "t4,rtx-4091"], ["unknown GPU 'rtx-4091'", "rtx-4090"]),
        (["--fit-batch", "0"], ["--fit-batch"]),
        (["--mode", "eval", "--effective-batch", "64"], ["--effective-batch", "mode is eval", "set mode to train"]),
        (["--json", "--format", "markdown"], ["two formats"]),
        (["--report", "advice.md"], ["an HTML page"]),
        (["--save", "there.json"], ["already exists", "--force"]),
    ],
)
def test_bad_input_fails_before_any_trial(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("mine")
    answer = vram_here("advise", *PLACE, *arguments, folder=tmp_path)
    assert answer.code == 2
    assert answer.stdout == "" or "error" in json.loads(answer.stdout)
    assert "starting the worker process" not in answer.stderr
    for word in words:
        assert word in answer.stderr
    assert (tmp_path / "there.json").read_text() == "mine"


def test_user_code_raises(user_project: Path) -> None:
    broken = ["--set", "model.factory=net:Broken"]
    answer = vram_here("advise", "--config", "net.yaml", *PLACE, *broken, folder=user_project)
    assert answer.code == 2
    assert 'raise ValueError("not today")' in answer.stderr
    assert "ValueError: not today" in answer.stderr.splitlines()[-2]
    assert answer.stdout == ""


def test_change_breaks_user_code(user_project: Path) -> None:
    target = ["--set", "model.factory=net:OneDtype"]
    options = ["--set", "device.expandable_segments=true", "--fit-batch", "1000000", "--json", "--quiet"]
    answer = vram_here("advise", "--config", "net.yaml", *PLACE, *target, *options, folder=user_project)
    assert (answer.code, answer.stderr) == (0, "")
    advice = json.loads(answer.stdout)
    tried, fit = optimizations(advice), advice["fit_batch"]
    assert fit["gradient_accumulation_steps"] > 1
    assert fit["micro_batch_size"] * fit["gradient_accumulation_steps"] == 1_000_000
    assert "TypeError: float32 or nothing" in tried["autocast to bfloat16"]["reason"]
    assert tried["checkpoint every block"]["helps"]


def test_ctrl_c_reports_the_answer_so_far(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vram_cli", "advise", *WIDE, "--json", "--save", "a.json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "channels last" in line:
            break
    workers = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    advice = json.loads(stdout)
    assert advice["interrupted"]
    assert list(optimizations(advice))[:2] == ["fused optimizer", "optimizer without foreach"]
    assert advice["max_batch_size"] > 1000
    assert "Traceback" not in stderr
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert "Interrupted:" in vram_here("show", "a.json", folder=tmp_path).stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces RLIMIT_DATA")
def test_real_steps_under_a_memory_limit(user_project: Path) -> None:
    """With a custom step and every second block checkpointed, only --also-try is left to try."""
    place = ["--config", "net.yaml", "--device", "cpu", "--memory-limit", "32MiB", "--steps", "2"]
    sets = [
        "--set",
        "step=net:step",
        "--set",
        "train.activation_checkpointing=every-2",
        "--also-try",
        "train.activation_checkpointing=full",
    ]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # more threads wait for each other on few cores
    options = ["--fit-batch", "8", "--save", "a.json", "--quiet"]
    answer = vram("advise", *place, *sets, *options, folder=user_project, env=one_thread)
    assert answer.code == 0, answer.stderr
    advice = json.loads((user_project / "a.json").read_text())
    assert (advice["run"]["device"]["kind"], advice["run"]["device"]["capacity_bytes"]) == ("real", 32 * 1024**2)
    (full,) = advice["optimizations"]
    assert (full["name"], full["helps"]) == ("train.activation_checkpointing=full", True)
    assert (full["saved_from"], full["saved_bytes"] > 2 * 1024**2) == ("activations", True)
    assert full["step_time_ratio"] > 0
    assert full["flops_ratio"] is None
    assert advice["best"]["max_batch_size"] == full["max_batch_size"] > advice["max_batch_size"]
    assert "(measured)" in answer.stdout
    assert "To train with 8: fits without changes" in answer.stdout
    assert "real searches stop within 2 % below the largest size" in answer.stdout
