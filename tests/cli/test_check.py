"""`vram check` in a project: a baseline, commits that change memory, and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import Answer, vram, vram_here
from tests.cli.test_bad_input import check_message

NET = """\
from torch import nn


class Net(nn.Module):
    def __init__(self, width=32, depth=1):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth)))
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))
"""
MORE = "        self.more = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.Tanh())\n"
CONFIG = """\
model: {factory: "net:Net", kwargs: {depth: 1}}
data: {name: synthetic, shape: [3, 32, 32], classes: 10}
optimizer: {name: sgd}
train: {batch_size: 128}
"""
NO_GPU = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with a baseline."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "net.py").write_text(NET)
    (folder / "train.yaml").write_text(CONFIG)
    answer = check(folder, "--update-baseline")
    assert answer.code == 0, answer.stderr
    assert "wrote the baseline to base.json" in answer.stderr
    assert json.loads((folder / "base.json").read_text())["measurement"]["batch_size"] == 128
    return folder


@pytest.fixture
def clone(project: Path, tmp_path: Path) -> Path:
    """Return a copy of the project to modify."""
    for name in ("net.py", "train.yaml", "base.json"):
        (tmp_path / name).write_bytes((project / name).read_bytes())
    return tmp_path


def check(folder: Path, *arguments: str, gpu: str = "t4", run: Callable[..., Answer] = vram_here) -> Answer:
    return run("check", "-c", "train.yaml", "--gpu", gpu, "--baseline", "base.json", *arguments, folder=folder)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_added_layer_is_a_finding_with_row_and_module(clone: Path) -> None:
    edit(clone / "net.py", "        self.head", f"{MORE}        self.head")
    edit(clone / "net.py", "self.blocks(self.stem(images))", "self.more(self.blocks(self.stem(images)))")
    baseline = (clone / "base.json").read_bytes()
    (clone / "summary.md").write_text("output of other steps\n")
    answer = check(clone, "--format", "github", "--summary", "summary.md", "--tolerance", "2%")
    assert answer.code == 1, answer.stderr
    stop, *lines = answer.stdout.splitlines()
    assert lines[0].startswith("Fails: train.yaml at batch size 128: peak memory grew (predicted for Tesla T4)")
    annotation = next(line for line in lines if line.startswith("::error"))
    assert f"::{stop.removeprefix('::stop-commands::')}::" in lines[: lines.index(annotation)]  # none is in the text
    assert "Grew most: activations +" in annotation
    assert "in more (new) +" in annotation
    summary = (clone / "summary.md").read_text()
    assert summary.startswith("output of other steps\n### ")
    assert "| more (new) | - |" in summary
    assert (clone / "base.json").read_bytes() == baseline


def test_changed_config_is_a_finding_with_the_key(clone: Path) -> None:
    edit(clone / "train.yaml", "depth: 1", "depth: 4")
    answer = check(clone, "--json")
    assert answer.code == 1, answer.stderr
    verdict = json.loads(answer.stdout)
    assert verdict["passed"] is False
    assert [finding["kind"] for finding in verdict["findings"]] == ["grew"]
    assert verdict["rows"][0]["category"] == "activations"
    assert verdict["modules"][0]["path"].startswith("blocks.")
    assert verdict["modules"][0]["new"] is True
    assert any("model.kwargs.depth was 1, is 4" in remark for remark in verdict["remarks"])


def test_report(clone: Path) -> None:
    answer = check(clone, "--report", "out.html")
    assert answer.code == 0, answer.stderr
    assert "saved to out.html" in answer.stderr
    assert "Passes" in (clone / "out.html").read_text(encoding="utf-8")


def test_change_within_tolerance_passes(clone: Path) -> None:
    edit(clone / "net.py", "nn.Linear(width, 10)", "nn.Sequential(nn.Linear(width, 64), nn.Linear(64, 10))")
    edit(clone / "train.yaml", "name: sgd", "name: sgd, weight_decay: 0")
    answer = check(clone)
    assert answer.code == 0, answer.stdout
    assert answer.stdout.startswith("Passes:")


@pytest.mark.parametrize(
    ("arguments", "gpu", "words"),
    [
        (["--batch-size", "64"], "t4", ["train.batch_size was 128, is 64"]),
        ([], "l4", ["Tesla T4", "NVIDIA L4"]),
    ],
)
def test_baseline_of_another_batch_size_or_gpu(arguments: list[str], gpu: str, words: list[str], project: Path) -> None:
    check_message(check(project, *arguments, gpu=gpu), 2, ["base.json", "--update-baseline", *words])


def test_baseline_of_another_version_on_github(clone: Path) -> None:
    edit(clone / "base.json", '"vram": "', '"vram": "0.0.1+')
    answer = check(clone, "--format", "github", "--summary", "summary.md")
    assert answer.code == 2
    assert answer.stdout.startswith("::error title=vram check could not run::base.json is not comparable: vram was ")
    assert "not comparable" in (clone / "summary.md").read_text()


def test_batch_that_does_not_fit_is_a_finding(clone: Path) -> None:
    baseline = (clone / "base.json").read_bytes()
    answer = check(clone, "--update-baseline", "--batch-size", "100000", "--json")
    assert answer.code == 1, answer.stderr
    verdict = json.loads(answer.stdout)
    assert [finding["kind"] for finding in verdict["findings"]] == ["does_not_fit"]
    assert "in forward on Tesla T4: fails in blocks.0 forward" in verdict["findings"][0]["message"]
    rows = verdict["result"]["breakdown"]["rows"]
    assert sum(row["bytes"] for row in rows) > verdict["result"]["run"]["device"]["capacity_bytes"]
    assert "did not write base.json" in answer.stderr
    assert (clone / "base.json").read_bytes() == baseline


def test_real_steps_above_max_memory(clone: Path) -> None:
    arguments = ["--device", "cpu", "--max-memory", "1MiB", "--quiet", "--steps", "2", "--batch-size", "16"]
    answer = vram("check", "-c", "train.yaml", *arguments, folder=clone)
    assert answer.code == 1, answer.stderr
    assert "above --max-memory 1.00 MiB" in " ".join(answer.stdout.split())
    assert "(measured)" in answer.stdout


def test_user_exception_is_an_error(clone: Path) -> None:
    edit(clone / "net.py", "        return", "        raise ZeroDivisionError('mine')\n        return")
    answer = check(clone)
    assert (answer.code, answer.stdout) == (2, ""), answer.stderr
    assert "ZeroDivisionError: mine" in answer.stderr


@pytest.mark.parametrize("line", ["from torch import nn", "        return self.head"])
def test_user_code_that_exits_is_an_error(line: str, clone: Path) -> None:
    indent = line[: len(line) - len(line.lstrip())]
    edit(clone / "net.py", line, f"{indent}import os; os._exit(1)\n{line}")
    answer = vram("check", "-c", "train.yaml", "--gpu", "t4", "--max-memory", "1GiB", folder=clone)
    assert (answer.code, answer.stdout) == (2, ""), answer.stderr
    assert "ended with exit code 1" in answer.stderr


@pytest.mark.parametrize("device", [["--device", "cuda"], []])
def test_missing_gpu_is_an_error(device: list[str], clone: Path) -> None:
    arguments = ["-c", "train.yaml", "--max-memory", "1MiB", *device]
    answer = vram("check", *arguments, folder=clone, env=NO_GPU)
    check_message(answer, 3, ["cuda" if device else "--gpu NAME"])


BAD = {
    "no such config": (["-c", "nothing.yaml", "--max-memory", "1GiB"], ["nothing.yaml"]),
    "nothing to check against": ([], ["--max-memory", "--baseline"]),
    "no such baseline": (["--baseline", "no.json"], ["no.json", "--update-baseline writes it"]),
    "a baseline that is no JSON": (["--baseline", "train.yaml"], ["train.yaml", "not JSON"]),
    "a baseline that is a folder": (["--baseline", "."], ["folder"]),
    "a baseline in no folder": (["--baseline", "no/b.json", "--update-baseline"], ["no"]),
    "a baseline that would replace the config": (["--baseline", "train.yaml", "--update-baseline"], ["not a result"]),
    "an update of nothing": (["--max-memory", "1GiB", "--update-baseline"], ["--update-baseline", "--baseline"]),
    "a tolerance of nothing": (["--max-memory", "1GiB", "--tolerance", "2%"], ["--tolerance", "--baseline"]),
    "a bad size": (["--max-memory", "8GB"], ["--max-memory", "8GB", "8GiB"]),
    "a bad share": (["--baseline", "base.json", "--tolerance", "2"], ["--tolerance", "2%"]),
    "a negative share": (["--baseline", "base.json", "--tolerance=-2%"], ["--tolerance", "2%"]),
    "two formats": (["--max-memory", "1GiB", "--json", "--format", "github"], ["--json", "github"]),
    "a report that is no page": (["--max-memory", "1GiB", "--report", "r.pdf"], ["--report r.pdf", ".html"]),
    "a summary in no folder": (["--max-memory", "1GiB", "--summary", "no/s.md"], ["no/s.md"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, words = BAD[case]
    before = {path.name: path.read_bytes() for path in clone.iterdir()}
    monkeypatch.chdir(clone)
    config = [] if "-c" in arguments else ["-c", "train.yaml"]
    code = run("check", *config, "--gpu", "t4", *arguments)
    printed = capsys.readouterr()
    text = " ".join((printed.out + printed.err).split())
    assert code == 2, text
    assert all(word in text for word in words), text
    assert {path.name: path.read_bytes() for path in clone.iterdir()} == before


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), SystemError("odd"), RecursionError()])
def test_bug_is_exit_code_70(
    error: Exception, clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.chdir(clone)
    monkeypatch.setattr("vram_cli.probe.client.WorkerProcess", broken)
    assert run("check", "-c", "train.yaml", "--gpu", "t4", "--baseline", "base.json") == 70
    assert type(error).__name__ in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(24, "Too many open files"), RuntimeError("can't start new thread")]
)
def test_limit_of_the_machine_is_exit_code_3(
    error: Exception, clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def limited(*_: object, **__: object) -> None:
        raise error

    monkeypatch.chdir(clone)
    monkeypatch.setattr("vram_cli.probe.client.WorkerProcess", limited)
    assert run("check", "-c", "train.yaml", "--gpu", "t4", "--max-memory", "1GiB", "--json") == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["kind"] == "MachineError"
    assert "Traceback" not in printed.err


def test_incomplete_installation_is_exit_code_3() -> None:
    code = (
        "import sys; sys.modules['typer'] = None; sys.argv = ['vram', 'check']; import vram_cli.__main__ as m; m.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "typer" in done.stderr


def test_github_environment_changes_nothing(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(clone / "summary.md"))
    assert run("check", "-c", "train.yaml", "--gpu", "t4", "--baseline", "no.json") == 2
    assert capsys.readouterr().out == ""
    assert not (clone / "summary.md").exists()


def run(*arguments: str) -> int:
    """Run a command in this process; return its exit code."""
    from vram_cli.cli import run_command
    from vram_cli.report.console import stderr_console

    stderr_console.cache_clear()
    try:
        return run_command(arguments)
    finally:
        stderr_console.cache_clear()
