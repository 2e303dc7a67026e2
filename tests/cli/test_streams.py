"""Streams and signals as a shell sees them: no answer is lost, and exit code 1 is for findings only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.examples import MEMORY, detailed
from vram_cli.report.saved import save

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shells of Unix")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `$VRAM` is the command."""
    env = {**os.environ, "VRAM": f"{sys.executable} -W error -m vram_cli"}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(MEMORY, tmp_path / "run.json")
    save(detailed(), tmp_path / "detailed.json")
    return tmp_path


@pytest.mark.parametrize("command", ["--version", "--help", "show run.json --json", "check --bogus --json"])
def test_full_stdout_is_exit_code_3(command: str, saved: Path) -> None:
    done = shell(f"$VRAM {command} >/dev/full", saved)
    assert (done.returncode, done.stdout) == (3, "")
    assert "error: stdout: cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-", ">/dev/full 2>&1"])
def test_closed_streams_are_exit_code_3(streams: str, tmp_path: Path) -> None:
    done = shell(f"$VRAM gpus t4 {streams}", tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["--help", "show run.json"])
def test_reader_who_leaves_is_exit_code_141(command: str, saved: Path) -> None:
    done = shell(f"{{ sleep 0.1; $VRAM {command}; echo $? >code; }} | true; exit $(cat code)", saved)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", "<&- 2>&-", "2> >(true)"])
def test_answer_does_not_need_stderr(streams: str, saved: Path) -> None:
    done = shell(f"$VRAM show run.json --report out.html {streams}", saved)
    assert done.returncode == 0
    assert done.stdout.startswith("Largest batch size: 1,536")
    assert (saved / "out.html").exists()


def test_error_does_not_need_stderr(tmp_path: Path) -> None:
    assert shell("$VRAM check -c nope.yaml --max-memory 1GiB 2>/dev/full", tmp_path).returncode == 2


def test_file_is_written_although_the_reader_of_stdout_has_gone(saved: Path) -> None:
    line = "{ sleep 0.1; $VRAM show run.json --report out.html; echo $? >code; } | true; exit $(cat code)"
    assert shell(line, saved).returncode == 141
    assert (saved / "out.html").exists()


def test_answer_is_printed_before_a_file_that_cannot_be_written(saved: Path) -> None:
    """The file is there as soon as the answer is printed, as if another process had written it."""
    (saved / "sitecustomize.py").write_text(
        "import json, os, vram_cli.cli.output as output\n"
        "first = output.print_record\n"
        "def print_record(*arguments):\n"
        "    first(*arguments)\n"
        "    open('out.html', 'w').write('of another process')\n"
        "output.print_record = print_record\n"
    )
    done = shell("PYTHONPATH=$PWD:$PYTHONPATH $VRAM show detailed.json --report out.html --json", saved)
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["command"] == "breakdown"  # one object, and not a second one for the error
    assert "error: out.html already exists" in done.stderr
    assert (saved / "out.html").read_text() == "of another process"


@pytest.mark.parametrize(
    ("command", "code", "kind"),
    [
        ("find-batch -c nope.yaml --json", 2, "ConfigError"),
        ("check --bogus --format json", 2, "ConfigError"),
        ("nonsense --json", 2, "ConfigError"),
        ("breakdown --gpu '' --json", 2, "ConfigError"),
        ("show run.json --plot a.bmp --json", 2, "ConfigError"),
    ],
)
def test_json_is_one_object_without_an_answer_too(command: str, code: int, kind: str, saved: Path) -> None:
    done = shell(f"$VRAM {command}", saved)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["exit_code"], error["kind"]) == (code, code, kind)
    assert f"error: {error['message']}\n" in done.stderr


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_signal_during_the_start_is_quiet(name: str, tmp_path: Path) -> None:
    """The signal comes as soon as the first module of the command line is imported."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, module, *_):\n"
        f"        if module == 'vram_cli.streams': os.kill(os.getpid(), signal.SIG{name})\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    done = shell("PYTHONPATH=$PWD:$PYTHONPATH $VRAM gpus", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_deleted_folder_is_named(tmp_path: Path) -> None:
    done = shell("mkdir x; cd x; rmdir ../x; $VRAM find-batch", tmp_path)
    assert done.returncode == 3
    assert "error: the current folder does not exist any more" in done.stderr


def test_pipe_that_nobody_writes_to_does_not_block(tmp_path: Path) -> None:
    done = shell("mkfifo p; timeout 20 $VRAM show p", tmp_path)
    assert done.returncode == 2, done.stderr
    assert "error: p: " in done.stderr


def test_pipe_is_read(saved: Path) -> None:
    assert shell("$VRAM show <(sleep 0.1; cat run.json)", saved).stdout.startswith("Largest batch size: 1,536")
