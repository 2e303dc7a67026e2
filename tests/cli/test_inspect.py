"""`vram inspect`, for bundled models, user code, real files and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import vram, vram_here
from tests.cli.test_bad_input import check_message
from tests.real_data import mnist_root

PROJECT = """
model: {factory: "mine:Tagger", kwargs: {width: 8}}
data: {factory: "mine:Words", collate_fn: "mine:padded"}
optimizer: {name: sgd}
train: {batch_size: 3, freeze: "embed.*"}
"""
CODE = """
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

class Words(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, i):
        return torch.arange(1 + i % 7), torch.zeros(1 + i % 7, dtype=torch.int64)

def padded(samples):
    words, tags = zip(*samples)
    return pad_sequence(words, batch_first=True), pad_sequence(tags, batch_first=True)

class Tagger(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed, self.head = nn.Embedding(10, width), nn.Linear(width, 4)

    def forward(self, words):
        return self.head(self.embed(words)).transpose(1, 2)

def broken():
    raise ZeroDivisionError("no model today")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "train.yaml").write_text(PROJECT)
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path


def test_default_config(tmp_path: Path) -> None:
    answer = vram("inspect", folder=tmp_path)
    assert (answer.code, answer.stderr) == (0, "no --config option: using the bundled mlp_mnist.yaml\n")
    lines = answer.stdout.splitlines()
    assert lines[0] == "mlp_mnist.yaml: mlp (101,770 parameters) on mnist (60,000 samples)"
    assert any(line.split() == ["Sequential", "128x10", "101,770", "398", "KiB"] for line in lines)
    assert any(line.split() == ["images", "1x28x28", "float32", "3.06", "KiB", "392", "KiB"] for line in lines)
    assert "▀" not in answer.stdout  # a pipe is not a color terminal
    assert not any(tmp_path.iterdir())


def test_real_files_have_counts_preview_and_picture(tmp_path: Path) -> None:
    arguments = ["--set", f"data.root={mnist_root()}", "--save", "samples.png", "--quiet"]
    answer = vram_here("inspect", *arguments, "--preview", folder=tmp_path)
    assert (answer.code, answer.stderr) == (0, "saved to samples.png\n")
    assert "5 (5,421)" in answer.stdout
    assert ".+@@@%*@*:" in answer.stdout
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")
    check_message(vram_here("inspect", *arguments, folder=tmp_path), 2, ["samples.png", "--force"])


def test_user_project_as_json(project: Path) -> None:
    answer = vram_here("inspect", "--config", "train.yaml", "--json", folder=project)
    assert answer.code == 0, answer.stderr
    inspection = json.loads(answer.stdout)
    layers = {layer["path"]: layer for layer in inspection["model"]["layers"]}
    assert layers[""]["output_shape"] == [3, 4, 7]
    assert (layers["embed"]["trainable_parameters"], layers["embed"]["parameters"]) == (0, 80)
    assert inspection["model"]["trainable_parameters"] == 8 * 4 + 4
    assert "largest" in inspection["data"]["info"]["detail"]
    assert [tensor["batch_bytes"] for tensor in inspection["data"]["tensors"]] == [3 * 7 * 8] * 2


# Arguments, and words of the message.
CASES = {
    "no such module": (["--set", "model={factory: 'nowhere:Net'}"], ["model.factory", "nowhere"]),
    "no picture": (["--save", "run.json"], ["run.json", ".png"]),
    "two formats": (["--json", "--preview"], ["--preview", "json"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: str, project: Path) -> None:
    arguments, names = CASES[case]
    check_message(vram_here("inspect", "--config", "train.yaml", *arguments, folder=project), 2, names)
    assert not list(project.glob("*.png"))


def test_answer_is_printed_if_there_are_no_images_to_save(project: Path) -> None:
    answer = vram_here("inspect", "--config", "train.yaml", "--save", "samples.png", folder=project)
    assert answer.code == 2
    assert "embed" in answer.stdout
    assert "error: --save samples.png: the data set has no image files" in answer.stderr
    assert not list(project.glob("*.png"))


def test_factory_that_raises_has_its_traceback(project: Path) -> None:
    answer = vram_here("inspect", "--config", "train.yaml", "--set", "model={factory: 'mine:broken'}", folder=project)
    assert (answer.code, answer.stdout) == (2, "")
    assert 'mine.py", line' in answer.stderr
    assert "error: model.factory (mine:broken): ZeroDivisionError: no model today" in answer.stderr


def test_user_code_that_exits_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import os\n\ndef build():\n    os._exit(7)\n")
    (tmp_path / "mine.yaml").write_text(
        "model: {factory: 'mine:build'}\ndata: {inputs: {x: {shape: [2]}}}\noptimizer: {name: sgd}\n"
    )
    answer = vram("inspect", "--config", "mine.yaml", folder=tmp_path)
    assert answer.code == 2
    assert "error: model.factory (mine:build): the process that runs this code ended with exit code 7" in answer.stderr


def test_report_and_markdown(project: Path) -> None:
    arguments = ["--config", "train.yaml", "--report", "out.html", "--format", "markdown"]
    answer = vram_here("inspect", *arguments, folder=project)
    assert (answer.code, answer.stderr) == (0, "saved to out.html\n")
    assert answer.stdout.startswith("### train.yaml: mine:Tagger")
    assert "Tagger" in (project / "out.html").read_text(encoding="utf-8")
