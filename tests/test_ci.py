"""The GitHub action, the pre-commit hook, and the commands and workflows of docs/ci.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from vram_cli.cli import app

from .documented import agree

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
ACTION_ONLY = {"args", "version"}
WINDOWS = os.name == "nt"


def flags() -> set[str]:
    command = typer.main.get_command(app).commands["check"]  # type: ignore[attr-defined]
    return {flag for parameter in command.params for flag in parameter.opts}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)


def step_named(name: str) -> dict[str, Any]:
    return next(step for step in ACTION["runs"]["steps"] if step["name"] == name)


def test_action_inputs_are_flags_passed_by_environment() -> None:
    assert {f"--{name}" for name in ACTION["inputs"]} - {f"--{name}" for name in ACTION_ONLY} <= flags()
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"], "an expression in a script would run the input as code"
        assert step["shell"] == "bash"
    inputs = {value for step in ACTION["runs"]["steps"] for value in step["env"].values()}
    assert {f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"]} <= inputs


def run_step(folder: Path, name: str, inputs: dict[str, str], code: int = 0) -> tuple[int, list[str]]:
    """Run a step as the runner does, with fake programs that log their arguments; return exit code and arguments."""
    for program in ("vram", "python"):
        fake = folder / program
        fake.write_text(f"#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done > {folder}/words\nexit {code}\n")
        fake.chmod(0o755)
    texts = {f"${{{{ inputs.{key} }}}}": inputs.get(key, "") for key in ACTION["inputs"]}
    texts["${{ github.action_path }}"] = "/action"
    step = step_named(name)
    env = {key: texts[value] for key, value in step["env"].items()}
    env |= {"PATH": f"{folder}:{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": "/summary.md"}
    script = folder / "step.sh"
    script.write_text(step["run"])
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.returncode, (folder / "words").read_text().splitlines()


@pytest.mark.skipif(WINDOWS, reason="the fake programs are shell scripts")
def test_action_passes_inputs_to_vram_check(tmp_path: Path) -> None:
    inputs = {"config": "my train.yaml", "batch-size": "128", "max-memory": "8GiB", "tolerance": "2%"}
    further = {"args": "--set precision=bf16\n--set model.kwargs={a:*}", "baseline": "$(touch hacked)"}
    code, words = run_step(tmp_path, "vram check", inputs | further, code=1)
    assert code == 1
    assert words[:2] == ["check", "--config"]
    assert words[2:] == [
        *("my train.yaml", "--format", "github", "--summary", "/summary.md", "--quiet"),
        *("--batch-size", "128", "--max-memory", "8GiB", "--baseline", "$(touch hacked)", "--tolerance", "2%"),
        *("--set", "precision=bf16", "--set", "model.kwargs={a:*}"),
    ]
    assert not (tmp_path / "hacked").exists()
    assert {word for word in words if word.startswith("--")} <= flags()


@pytest.mark.skipif(WINDOWS, reason="the fake programs are shell scripts")
def test_action_exit_code_and_version(tmp_path: Path) -> None:
    assert run_step(tmp_path, "vram check", {"config": "t.yaml"})[0] == 0
    assert run_step(tmp_path, "vram check", {"config": "t.yaml"}, code=70)[0] == 70
    assert run_step(tmp_path, "Install vram", {})[1][-1] == "/action"
    assert run_step(tmp_path, "Install vram", {"version": "vram-cli==0.1.0"})[1][-1] == "vram-cli==0.1.0"
    assert step_named("Install vram")["if"] == "inputs.version != 'installed'"


def test_hook_runs_vram_check_without_files() -> None:
    (hook,) = HOOKS
    program, command, *words = hook["entry"].split()
    assert (hook["id"], program, command) == ("vram-check", "vram", "check")
    assert set(words) <= flags()
    assert hook["pass_filenames"] is False
    assert all(re.search(hook["files"], name) for name in ("net.py", "train.yaml", "a/train.yml", "vram-baseline.json"))


def test_docs_workflows_use_existing_inputs() -> None:
    documents = [yaml.safe_load(text) for text in blocks("yaml")]
    jobs = [job for document in documents for job in document.get("jobs", {}).values()]
    uses = [step for job in jobs for step in job["steps"] if "vram@" in step.get("uses", "")]
    assert len(uses) == 2
    for step in uses:
        assert set(step["with"]) <= set(ACTION["inputs"])
        assert ACTION["inputs"].keys() & {"config"} <= set(step["with"])
        assert {word for word in step["with"].get("args", "").split() if word.startswith("--")} <= flags()
    (hooks,) = (document["repos"][0]["hooks"] for document in documents if "repos" in document)
    assert hooks[0]["id"] == HOOKS[0]["id"]
    assert {word for word in hooks[0]["args"] if word.startswith("--")} <= flags()


def test_docs_use_existing_flags() -> None:
    other_commands = {"--by"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", DOCS.replace("pip install", ""))) - other_commands <= flags()


@pytest.mark.skipif(WINDOWS or shutil.which("git") is None, reason="runs the commands with a shell, and git")
def test_docs_example_output(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(blocks("python")[0])
    (tmp_path / "train.yaml").write_text(blocks("yaml")[0])
    (tmp_path / "commit.diff").write_text(blocks("diff")[0])
    before, after = blocks("console")
    assert example(tmp_path, before) == 0
    subprocess.run(["git", "apply", "commit.diff"], cwd=tmp_path, check=True)
    assert example(tmp_path, after) == 1


def example(folder: Path, block: str) -> int:
    """Run the command of an example, compare what it prints, and return its exit code."""
    command, expected = re.fullmatch(r"\$ vram (.*?)\n(.*)", block, re.DOTALL).groups()  # type: ignore[union-attr]
    words = [sys.executable, "-m", "vram_cli", *command.split()]
    env = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert agree(expected, done.stdout), done.stdout + done.stderr
    return done.returncode
