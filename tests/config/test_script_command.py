"""A config with a script: from the words of a command line, from a file, or both."""

from __future__ import annotations

from pathlib import Path

import pytest

from vram_cli import load_config
from vram_cli.config import Config, with_overrides
from vram_cli.errors import ConfigError
from vram_cli.shell import command_name, shell_line

COMMAND = ("python3", "train.py", "--batch-size", "{n}")


def test_a_command_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(None, ["search.steps=5", "device.gpu=t4", "train.batch_size=8"], COMMAND)
    assert config.script is not None
    assert config.script.command == COMMAND
    assert (config.search.steps, config.device.gpu, config.train.batch_size) == (5, "t4", 8)
    assert (str(config.source), config.source.folder) == ("python3 train.py --batch-size {n}", tmp_path)
    assert config.user_code == ("script.command (python3 train.py --batch-size {n})",)


def test_a_dump_has_only_what_a_script_leaves_open() -> None:
    config = load_config(None, ["search.steps=5"], COMMAND)
    dump = config.model_dump(mode="json")
    assert dump.keys() == {"script", "train", "search", "device"}
    assert dump["train"] == {}
    assert Config.model_validate(dump) == config
    changed = with_overrides(config, ["device.expandable_segments=true"])
    assert (changed.script, changed.search, changed.device.expandable_segments) == (config.script, config.search, True)


def test_a_file_names_the_script_and_a_command_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("script: {command: python3 -m old, loader: 'a.py:3'}\nsearch: {steps: 4}\n")
    assert load_config(path).script.command == ("python3", "-m", "old")  # type: ignore[union-attr]
    config = load_config(path, (), COMMAND)
    assert (config.script.command, config.script.loader, config.search.steps) == (COMMAND, "a.py:3", 4)  # type: ignore[union-attr]
    assert config.source.path == path
    assert config.source.overrides == ("script.command=python3 train.py --batch-size {n}",)


@pytest.mark.parametrize(
    ("path", "overrides", "key"),
    [
        ("mlp_mnist.yaml", [], "model"),
        (None, ["optimizer.name=adam"], "optimizer"),
        (None, ["mode=eval"], "mode"),
        (None, ["precision=bf16"], "precision"),
        (None, ["train.learning_rate=0.1"], "train.learning_rate"),
    ],
)
def test_what_a_script_decides_is_refused_by_name(path: str | None, overrides: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=f": {key}: is decided by the training script") as caught:
        load_config(path, overrides, COMMAND)
    assert caught.value.message.startswith("mlp_mnist.yaml:" if path else "command line: ")
    assert "search, device and train.batch_size" in caught.value.hint


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["no-such-program", "train.py"], "check its spelling"),
        (["train.py"], "write python train.py"),
        (["python3 train.py --batch-size {n}"], "without quotes"),
        (["mine.yaml"], "--config mine.yaml"),
        (["./missing.sh"], "check its spelling"),
        ([""], "check its spelling"),
    ],
)
def test_a_program_that_does_not_exist_is_named(
    words: list[str], hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    with pytest.raises(ConfigError) as caught:
        load_config(None, (), words)
    assert caught.value.message == f"command line: script.command: there is no program {words[0]!r}"
    assert hint in caught.value.hint


def test_a_program_in_the_folder_of_the_config(tmp_path: Path) -> None:
    script, path = tmp_path / "run.sh", tmp_path / "train.yaml"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    path.write_text("script:\n  command: ./run.sh {n}\n")
    assert load_config(path).script is not None
    path.write_text("script:\n  command: ./walk.sh {n}\n")
    with pytest.raises(ConfigError, match=r"train.yaml:2: script.command: there is no program './walk.sh'"):
        load_config(path)


@pytest.mark.parametrize(
    ("words", "takes", "started"),
    [
        (("env", "BATCH={n}", "python", "a.py"), True, "env BATCH=7 python a.py"),
        (("python", "a.py", "--name", "{{n}}"), False, "python a.py --name {n}"),
        (("python", "a.py", "{n}-{{n}}-{n}"), True, "python a.py 7-{n}-7"),
    ],
)
def test_n_stands_for_the_batch_size_anywhere(words: tuple[str, ...], takes: bool, started: str) -> None:
    script = Config.model_validate({"script": {"command": list(words)}}).script
    assert script is not None
    assert (script.takes_batch_size, " ".join(script.words(7))) == (takes, started)


def test_a_command_as_a_shell_takes_it() -> None:
    assert shell_line(["python", "my train.py", "{n}", "--x={n}", "{{n}}", "{a,b}"]) == (
        "python 'my train.py' {n} --x={n} '{{n}}' '{a,b}'"
    )
    assert command_name(["python", "-c", "a\nb", "x" * 80]) == "python -c 'a b' " + "x" * 41 + "..."
