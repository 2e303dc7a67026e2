"""Predictions are the same for every build of PyTorch: these also run on a build without CUDA.

The golden figures are from PyTorch 2.13 and 2.14 with CUDA, which agree; since 2.15 each product has its own workspace.
`make test-cpu-build` runs them with a build without CUDA, and `make test` one of them with the one that is installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.running import vram
from vram_cli.fake_tensors.cuda_workspaces import PER_GEMM_SINCE
from vram_cli.fake_tensors.simulation import running_version

CONFIGS = ("mlp_mnist",) if torch.backends.cuda.is_built() else ("cnn_cifar10",)

of_this_torch = pytest.mark.skipif(
    running_version() >= PER_GEMM_SINCE, reason="the golden files have the workspaces of PyTorch 2.14"
)


@of_this_torch
@pytest.mark.parametrize("name", CONFIGS)
def test_figures_are_the_same_to_the_byte(name: str, tmp_path: Path, golden: Callable[[str, str], str]) -> None:
    lines = [
        *search_lines(predict("find-batch", name, tmp_path, "--no-dataset-limit")),
        *breakdown_lines(predict("breakdown", name, tmp_path)),
        *advice_lines(predict("advise", name, tmp_path)),
    ]
    output = "\n".join(lines) + "\n"
    assert output == golden(f"predicted-{name.replace('_', '-')}", output)


def predict(command: str, name: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Return the answer of a command for a T4."""
    place = ["--gpu", "t4", "--set", "device.engine=fake-tensors"]
    answer = vram(command, "--config", f"{name}.yaml", *place, *arguments, "--json", "--quiet", folder=folder)
    assert (answer.code, answer.stderr) == (0, "")
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def search_lines(result: dict[str, Any]) -> list[str]:
    certificate = result["certificate"]
    largest = next(trial for trial in result["trials"] if trial["batch_size"] == certificate["largest_ok"])
    peaks = [f"{peak['phase']} {peak['allocated_bytes']} {peak['reserved_bytes']}" for peak in largest["peaks"]]
    ends = [f"{key} {certificate[key]}" for key in ("largest_ok", "smallest_failed", "message")]
    return ["find-batch", f"recommended {result['recommended_batch_size']}", *ends, *peaks]


def breakdown_lines(result: dict[str, Any]) -> list[str]:
    rows = [f"{row['category']} {row['bytes']}" for row in result["breakdown"]["rows"]]
    return ["", f"breakdown at {result['breakdown']['batch_size']}", *rows]


def advice_lines(result: dict[str, Any]) -> list[str]:
    lines = [f"{one['name']}: {one['max_batch_size']}, saves {one['saved_bytes']}" for one in result["optimizations"]]
    return ["", f"advise: {result['max_batch_size']} without changes", *lines]
