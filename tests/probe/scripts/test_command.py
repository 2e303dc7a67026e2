"""The words of a command: what a fork of this process can run, and what must start anew."""

from __future__ import annotations

import os
import shlex
import sys
import venv
from pathlib import Path

import pytest

from vram_cli.errors import ConfigError
from vram_cli.probe.scripts.command import Command, parse

HERE = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("print('hello')\n")
    return tmp_path


def parsed(line: str, folder: Path, **variables: str) -> Command:
    return parse(shlex.split(line), {**HERE, **variables}, folder)


@pytest.mark.parametrize("python", ["python", "python3", sys.executable, "python -u", "python -uB", "python -W ignore"])
def test_a_file(python: str, folder: Path) -> None:
    command = parsed(f"{python} train.py --batch-size 8 -x", folder)
    assert (command.kind, command.target) == ("file", "train.py")
    assert command.arguments == ("--batch-size", "8", "-x")
    assert shlex.join(command.words) == f"{python} train.py --batch-size 8 -x"


@pytest.mark.parametrize("option", ["-m", "-um", "-u -m"])
def test_a_module(option: str, folder: Path) -> None:
    command = parsed(f"python {option} pkg.train -m 8", folder)
    assert (command.kind, command.target, command.arguments) == ("module", "pkg.train", ("-m", "8"))
    assert parsed("python -mtrain", folder).target == "train"


@pytest.mark.parametrize("line", ["env A=1 B='x y' python train.py", "A=1 B='x y' python train.py"])
def test_variables(line: str, folder: Path) -> None:
    command = parsed(line, folder)
    assert (command.kind, command.environment) == ("file", {"A": "1", "B": "x y"})
    assert command.words == ("python", "train.py")


def test_variables_that_a_running_process_has_read_need_a_new_one(folder: Path) -> None:
    command = parsed("env OMP_NUM_THREADS=4 python train.py", folder, OMP_NUM_THREADS="1")
    assert (command.kind, command.target) == ("other", "python")
    assert command.reason == "OMP_NUM_THREADS is read as a process starts"
    assert parsed("env OMP_NUM_THREADS=4 python train.py", folder, OMP_NUM_THREADS="4").kind == "file"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("python -O train.py", "a fork cannot apply the option -O"),
        ("python -X dev train.py", "a fork cannot apply the option -X dev"),
        ("python -W error train.py", "a fork cannot apply the option -W error"),
        ("python -c 'import train' 8", "a fork cannot apply the option -c"),
        ("python -m torch.distributed.run train.py", "torch.distributed.run starts the script in another process"),
        ("sh run.sh 8", "sh is not Python"),
        ("env -u A python train.py", "env is not Python"),
    ],
)
def test_other_programs(line: str, reason: str, folder: Path) -> None:
    command = parsed(line, folder)
    assert (command.kind, command.reason) == ("other", reason)
    assert command.words == (command.target, *command.arguments) == tuple(shlex.split(line))


def test_a_console_script_of_this_environment(folder: Path) -> None:
    command = parsed("torchrun --nproc-per-node 1 train.py", folder)
    assert (command.kind, command.reason) == ("other", "torchrun is not Python")


def test_a_script_that_is_the_program(folder: Path) -> None:
    for name in ("train.py", "./train.py", str(folder / "train.py")):
        command = parsed(f"{name} --n 8", folder)
        assert (command.kind, command.target, command.arguments) == ("file", name, ("--n", "8"))
        assert command.words == (sys.executable, name, "--n", "8")


def test_a_script_with_another_interpreter(folder: Path) -> None:
    script = folder / "train.py"
    script.write_text("#!/usr/bin/env -S uv run\n")
    script.chmod(0o755)
    assert parse([str(script)], HERE, folder).kind == "other"
    script.write_text("#!/usr/bin/env python3\n")
    assert parse([str(script)], HERE, folder).kind == "file"


def test_another_environment_is_told_by_the_link_that_was_called(folder: Path) -> None:
    venv.create(folder / "other", symlinks=True, with_pip=False)
    python = folder / "other" / "bin" / "python"
    assert python.resolve() == Path(sys.executable).resolve()
    command = parsed(f"{python} train.py", folder)
    assert (command.kind, command.reason) == ("other", f"{python} is the Python of another environment")
    assert parsed("python train.py", folder, PATH=str(python.parent)).kind == "other"
    assert parsed(f"env PATH={python.parent} python train.py", folder).kind == "other"
    same = folder / "same"
    same.symlink_to(Path(sys.executable).parent)
    assert parsed(f"{same}/python train.py", folder).kind == "file"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pyton train.py", "the command's program 'pyton' does not exist"),
        ("./run.sh", "the command's program './run.sh' does not exist"),
        ("python trian.py", "the command's script 'trian.py' does not exist in "),
        ("./trian.py", "the command's script './trian.py' does not exist in "),
        ("python", "the command starts Python without a script"),
        ("python --version", "the command starts Python without a script"),
        ("python -u -", "the command starts Python without a script"),
        ("env A=1", "the command 'env A=1' starts no program"),
        ("python -I train.py", "the option -I of Python keeps vram from being attached"),
    ],
)
def test_errors_name_the_word(line: str, message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")) as caught:
        parsed(line, folder)
    assert caught.value.hint
