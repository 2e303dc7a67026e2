"""A user's model, data and step: code beside the config is importable from any current folder, and no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import vram, vram_here
from vram_cli.config import load_config
from vram_cli.probe import WorkerProbe
from vram_cli.records import Category, Detail

EXAMPLES = Path(__file__).parents[2] / "examples"
NO_GPU = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}

CONFIG = """
model: {factory: "model:build", kwargs: {width: 16}}
data: {factory: "data:Numbers"}
step: "train:step"
optimizer: {name: adam}
train: {batch_size: 32}
"""
MODEL = """
from torch import nn

print("this module talks")

def build(width):
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))
"""
DATA = """
import torch

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, i):
        return torch.full((8,), float(i)), i % 2
"""
TRAIN = """
from torch.nn import functional

def step(model, batch, optimizer):
    numbers, classes = batch
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(numbers), classes)
    loss.backward()
    optimizer.step()
    print("a step")
    return loss
"""


def project(folder: Path, **changes: str) -> Path:
    """Write a project, and return its config."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"mine.yaml": CONFIG, "model.py": MODEL, "data.py": DATA, "train.py": TRAIN, **changes}
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder / "mine.yaml"


def test_user_code_may_print_and_its_data_is_described(tmp_path: Path) -> None:
    config, elsewhere = project(tmp_path / "project"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    place = ["--device", "cpu", "--memory-limit", "64MiB", "--steps", "2"]
    answer = vram("find-batch", "--config", str(config), *place, "--json", "--quiet", folder=elsewhere)
    assert answer.code == 0, answer.stderr
    check_described(json.loads(answer.stdout))  # nothing but JSON, whatever the code prints
    assert answer.stderr == ""
    assert list(elsewhere.iterdir()) == []


def test_data_is_described_in_a_prediction(tmp_path: Path) -> None:
    config = project(tmp_path / "project")
    arguments = ["--config", str(config), "--gpu", "t4", "--save", "run.json", "--quiet"]
    answer = vram_here("find-batch", *arguments, folder=tmp_path)
    assert answer.code == 0, answer.stderr
    check_described(json.loads((tmp_path / "run.json").read_text()))


def check_described(result: dict[str, Any]) -> None:
    assert (result["max_batch_size"], result["limited_by"]) == (40, "dataset")
    assert result["run"]["data"]["detail"] == "all 40 samples are of one size"
    assert [tensor["shape"] for tensor in result["run"]["data"]["tensors"]] == [[8], []]


def test_modules_of_the_same_name_in_two_folders(tmp_path: Path) -> None:
    small = load_config(project(tmp_path / "small"), ["device.gpu=t4"])
    wide = MODEL.replace("return nn.Sequential(", "width *= 10; return nn.Sequential(")
    large = load_config(project(tmp_path / "large", **{"model.py": wide}), ["device.gpu=t4"])
    weights = []
    with WorkerProbe(small) as first, WorkerProbe(large, reuse=first) as second:
        for probe in (first, second):
            breakdown = probe.measure(4, Detail.ROWS).breakdown
            assert breakdown is not None
            weights.append(breakdown.bytes_of(Category.PARAMETERS))
    assert weights == [4 * (8 * width + width + 2 * width + 2) for width in (16, 160)]


def test_files_in_the_current_folder_are_not_imported(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("vram")
    if not program.exists():
        pytest.skip("vram is not installed beside this Python")
    for name in ("random", "yaml", "tempfile", "typing", "numpy", "torch", "triton", "timm", "vram_cli"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    small = ["--set", "model.kwargs.depth=1", "--quiet"]
    arguments = ["breakdown", "--config", str(EXAMPLES / "vit_timm.yaml"), "--gpu", "t4", *small]
    run = subprocess.run([program, *arguments], cwd=tmp_path, env=NO_GPU, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "timm:vit_small_patch16_224" in run.stdout
    assert "Batch size 64 is predicted to use" in run.stdout


@pytest.mark.parametrize(
    ("build", "place", "names"),
    [
        ("import os; os._exit(3)", ["--device", "cpu", "--memory-limit", "64MiB"], ["ended with exit code 3"]),
        ("import ctypes; ctypes.string_at(0)", ["--gpu", "t4"], ["ended by SIGSEGV", "Segmentation fault", "model.py"]),
        ("return input('how wide? ')", ["--gpu", "t4"], ["model.factory (model:build)", "EOFError"]),
    ],
)
def test_user_code_that_exits_crashes_or_reads_input(
    build: str, place: list[str], names: list[str], tmp_path: Path
) -> None:
    config = project(tmp_path, **{"model.py": f"def build(width):\n    {build}\n"})
    answer = vram("breakdown", "--config", str(config), *place, "--quiet", folder=tmp_path, env=NO_GPU)
    assert (answer.code, answer.stdout) == (2, ""), answer.stderr
    assert sum(line.startswith("error:") for line in answer.stderr.splitlines()) == 1
    flat = " ".join(answer.stderr.split())
    for name in ("model:build", "hint:", *names):
        assert name in flat, answer.stderr


def test_import_error_of_user_code(tmp_path: Path) -> None:
    config = project(tmp_path, **{"model.py": "import no_such_package\n"})
    answer = vram_here("find-batch", "--config", str(config), "--gpu", "t4", "--quiet", folder=tmp_path)
    assert (answer.code, answer.stdout) == (2, "")
    lines = answer.stderr.splitlines()
    message = "model.factory: model:build: ModuleNotFoundError: No module named 'no_such_package'"
    assert lines[0] == f"error: {config}:2: {message}"
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2


def test_shape_error_has_the_traceback_and_the_key(tmp_path: Path) -> None:
    config = project(tmp_path, **{"data.py": DATA.replace("(8,)", "(9,)")})
    answer = vram_here("breakdown", "--config", str(config), "--gpu", "t4", "--quiet", folder=tmp_path)
    assert answer.code == 2
    assert "Traceback" in answer.stderr
    assert "step.function: RuntimeError: " in answer.stderr


STREAM = """
import torch
from torch.utils.data import DataLoader, IterableDataset

class Texts(IterableDataset):
    def __init__(self, length):
        self.length = length

    def __iter__(self):
        for i in range(self.length):
            yield torch.ones(40 if i == self.length - 3 else 8), i % 2

def padded(samples):
    numbers, classes = zip(*samples)
    return torch.nn.utils.rnn.pad_sequence(numbers, batch_first=True)[:, :8], torch.tensor(classes)

def loader(length):
    return DataLoader(Texts(length), batch_size=4, collate_fn=padded)
"""


STREAM_CONFIG = """
model: {factory: "model:build", kwargs: {width: 16}}
data: {factory: "data:loader", kwargs: {length: 300}}
optimizer: {name: adam}
"""


def test_stream_ends_the_search(tmp_path: Path) -> None:
    project(tmp_path, **{"data.py": STREAM, "mine.yaml": STREAM_CONFIG, "model.py": MODEL.replace("print", "str")})
    search = ("find-batch", "-c", "mine.yaml", "--gpu", "t4")
    answer = vram_here(*search, "--json", folder=tmp_path)
    found = json.loads(answer.stdout)
    assert (answer.code, found["max_batch_size"], found["limited_by"]) == (0, 300, "dataset")
    assert found["run"]["data"]["samples_measured"] == found["run"]["data"]["samples_total"] == 300
    assert "a DataLoader's stream and collate_fn" in found["run"]["data"]["detail"]
    more = vram_here(*search, "--no-dataset-limit", "--set", "search.max_batch_size=400", folder=tmp_path)
    assert "Largest batch size: 400" in more.stdout


def test_stream_that_goes_on_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vram_cli.workload.streams.MAX_STREAM_SAMPLES", 200)
    project(tmp_path, **{"data.py": STREAM, "mine.yaml": STREAM_CONFIG, "model.py": MODEL.replace("print", "str")})
    answer = vram_here("breakdown", "-c", "mine.yaml", "--gpu", "t4", folder=tmp_path)
    first = " ".join(answer.stdout.partition("Peak memory")[0].split())
    assert first.endswith("Worst batch: of the 200 samples looked at; the stream goes on, and later ones may be larger")
