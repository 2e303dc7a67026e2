"""Bad input: one line that names it, a hint, the right exit code, and no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import Answer, vram, vram_here

GOOD = "model: {name: mlp}\ndata: {name: mnist, source: synthetic}\noptimizer: {name: sgd}\n"

# Content of the file (None: no file), more arguments, exit code, and words of the message.
CASES = {
    "missing file": (None, [], 2, ["bad.yaml"]),
    "YAML syntax error": ("model: {name: mlp\ndata: [", [], 2, ["bad.yaml:2"]),
    "unknown key": (GOOD + "optimiser: {name: sgd}\n", [], 2, ["bad.yaml:4", "optimiser", "optimizer"]),
    "wrong type": (GOOD + "train: {batch_size: many}\n", [], 2, ["bad.yaml:4", "train.batch_size", "'many'"]),
    "negative size": (GOOD + "train: {batch_size: -3}\n", [], 2, ["train.batch_size", "-3"]),
    "python tag": ("model: !!python/object/apply:os.system ['echo hacked']\n", [], 2, ["bad.yaml:1", "tag"]),
    "unknown model": (GOOD.replace("mlp", "resnet19"), [], 2, ["model.name", "resnet18"]),
    "a megabyte of comments": ("# " + "x" * 1_000_000, [], 2, ["bad.yaml", "empty"]),
    "no files": (GOOD.replace("synthetic", "files"), ["--set", "data.root=/nowhere"], 2, ["data.root", "/nowhere"]),
    "bad memory limit": (GOOD, ["--memory-limit", "8GB"], 2, ["8GB", "8GiB"]),
    "bad override": (GOOD, ["--set", "optimizer.nam=adam"], 2, ["optimizer.nam", "optimizer.name"]),
    "unwritable save": (GOOD, ["--save", "/proc/run.json"], 2, ["/proc/run.json"]),
    "save in a missing folder": (GOOD, ["--save", "nowhere/run.json"], 2, ["nowhere"]),
    "bad batch size": (GOOD, ["--max-batch-size", "0"], 2, ["search.max_batch_size", "0"]),
}


def check_message(answer: Answer, code: int, names: list[str]) -> None:
    assert answer.code == code, answer.stderr
    assert answer.stdout == "" or json.loads(answer.stdout)["error"]["exit_code"] == code
    assert "Traceback" not in answer.stderr
    lines = [line for line in answer.stderr.splitlines() if line.strip()]
    assert sum(line.startswith("error:") for line in lines) == 1, answer.stderr
    assert any(line.startswith("hint:") for line in lines), answer.stderr
    flat = " ".join(answer.stderr.split())
    for name in names:
        assert name in flat, answer.stderr


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: str, tmp_path: Path) -> None:
    text, arguments, code, names = CASES[case]
    if text is not None:
        (tmp_path / "bad.yaml").write_text(text)
    answer = vram_here("find-batch", "--config", "bad.yaml", "--device", "cpu", *arguments, folder=tmp_path)
    check_message(answer, code, names)


def test_folder_instead_of_file(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").mkdir()
    check_message(vram_here("breakdown", "--config", "bad.yaml", folder=tmp_path), 2, ["bad.yaml", "folder"])


def test_save_does_not_overwrite(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("precious")
    check_message(vram_here("find-batch", "--save", "run.json", folder=tmp_path), 2, ["run.json", "--force"])
    assert (tmp_path / "run.json").read_text() == "precious"


def test_memory_limit_below_the_model_reports_the_shortfall(tmp_path: Path) -> None:
    arguments = ["--device", "cpu", "--memory-limit", "16MiB", "--set", "model.hidden=40000", "--quiet"]
    answer = vram("find-batch", *arguments, folder=tmp_path)
    assert answer.code == 4
    assert "Not even a batch of 1 fits" in answer.stdout
    assert "short" in answer.stdout
    assert "Traceback" not in answer.stderr


def test_user_error_has_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(
        "model: {name: cnn}\ndata: {name: synthetic, shape: [1, 2, 2], classes: 10}\noptimizer: {name: sgd}\n"
    )
    arguments = ["--device", "cpu", "--memory-limit", "64MiB", "--quiet", "--json"]
    answer = vram("find-batch", "--config", "tiny.yaml", *arguments, folder=tmp_path)
    assert answer.code == 2
    assert "max_pool2d" in answer.stderr
    assert "Traceback" in answer.stderr
    assert "fails in forward, for a reason other than memory" in answer.stderr
    assert json.loads(answer.stdout)["error"]["kind"] == "WorkloadError"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["find-batch", "--nonsense"], ["find-batch", "--max-batch-size", "many"]]
)
def test_usage_errors(arguments: list[str], tmp_path: Path) -> None:
    answer = vram_here(*arguments, folder=tmp_path)
    assert answer.code == 2
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("text", [None, "{", '{"schema_version": 99}', "[]"])
def test_show_refuses_other_files(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    check_message(vram_here("show", "run.json", folder=tmp_path), 2, ["run.json"])


def test_init_never_overwrites(tmp_path: Path) -> None:
    assert vram_here("init", "mine.yaml", folder=tmp_path).code == 0
    written = (tmp_path / "mine.yaml").read_text()
    check_message(vram_here("init", "mine.yaml", folder=tmp_path), 2, ["mine.yaml", "--force"])
    assert (tmp_path / "mine.yaml").read_text() == written
    assert vram_here("init", "mine.yaml", "--force", folder=tmp_path).code == 0


def test_bug_has_its_traceback_and_exit_code_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import vram_cli.config
    from vram_cli.cli import run_command

    def broken() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(vram_cli.config, "json_schema", broken)
    assert run_command(["schema"]) == 70
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err
