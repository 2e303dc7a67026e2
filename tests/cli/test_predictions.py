"""`--gpu`: predictions for a GPU that this machine does not have."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from tests.cli.running import vram, vram_here
from vram_cli.hardware.gpus import find_gpu

NO_GPU = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.torchvision
def test_predicted_search_has_a_certificate(tmp_path: Path) -> None:
    arguments = [
        "--config",
        "resnet18_cifar10.yaml",
        "--gpu",
        "rtx 4090",
        "--memory-limit",
        "2GiB",
        "--json",
        "--quiet",
    ]
    answer = vram_here("find-batch", *arguments, "--no-dataset-limit", folder=tmp_path)
    assert answer.code == 0, answer.stderr
    result = json.loads(answer.stdout)
    certificate = result["certificate"]
    assert result["run"]["device"]["kind"] == "simulated"
    assert result["run"]["device"]["capacity_bytes"] == 2 * 1024**3
    assert certificate["smallest_failed"] == certificate["largest_ok"] + 1
    assert certificate["outcome"] == "out_of_memory"
    assert "requesting" in certificate["message"]
    breakdown = result["breakdown"]
    assert sum(row["bytes"] for row in breakdown["rows"]) == breakdown["total_bytes"] == 2 * 1024**3
    assert "published" in result["run"]["device"]["accuracy"]
    assert answer.stderr == ""


def test_without_a_gpu_auto_predicts_for_a_t4(tmp_path: Path) -> None:
    answer = vram("breakdown", folder=tmp_path, env=NO_GPU)
    assert answer.code == 0, answer.stderr
    first = answer.stdout.splitlines()[0]
    assert "has no GPU" in first
    assert "T4" in first
    assert "--gpu NAME" in first
    assert "predicted for Tesla T4" in answer.stdout
    assert "measured" not in answer.stdout.split("accuracy")[0]


def test_modules_timeline_and_snapshot(tmp_path: Path) -> None:
    arguments = ["--gpu", "l4", "--batch-size", "64", "--by", "module", "--timeline", "--snapshot", "run.pickle"]
    answer = vram_here("breakdown", "--config", "cnn_cifar10.yaml", *arguments, folder=tmp_path)
    assert answer.code == 0, answer.stderr
    assert "Peak memory by module" in answer.stdout
    assert "Memory over one step" in answer.stdout
    snapshot = pickle.loads((tmp_path / "run.pickle").read_bytes())
    assert snapshot["segments"]
    assert snapshot["device_traces"][0]
    again = vram_here("breakdown", "--config", "cnn_cifar10.yaml", *arguments, folder=tmp_path)
    assert again.code == 2
    assert "--force" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--gpu", "rtx-4091"], 2, ["unknown GPU", "rtx-4090"]),
        (["--gpu", "t4", "--device", "cpu"], 2, ["device.gpu", "cpu"]),
        (["--gpu", "t4", "--memory-limit", "100MiB"], 2, ["leaves nothing"]),
        (["--by", "layer"], 2, ["--by", "module"]),
        (["--device", "cpu", "--snapshot", "run.pickle"], 2, ["--snapshot", "predictions"]),
    ],
)
def test_bad_input(arguments: list[str], code: int, words: list[str], tmp_path: Path) -> None:
    answer = vram_here("breakdown", *arguments, folder=tmp_path)
    assert answer.code == code, answer.stderr
    assert "Traceback" not in answer.stderr
    for word in words:
        assert word in answer.stderr


def test_device_replaces_the_gpu_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "model: {name: mlp}\ndata: {name: mnist, source: synthetic}\noptimizer: {name: sgd}\ndevice: {gpu: t4}\n"
    )
    arguments = ["--config", "mine.yaml", "--json", "--quiet"]
    predicted = json.loads(vram_here("breakdown", *arguments, folder=tmp_path).stdout)
    assert predicted["run"]["device"]["name"] == find_gpu("t4").product
    real = json.loads(vram("breakdown", *arguments, "--device", "cpu", folder=tmp_path).stdout)
    assert real["run"]["device"]["kind"] == "real"
