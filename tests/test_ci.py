"""The action, the hook, and the workflows of docs/ci.md; tests/test_docs.py runs its commands."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from vram_cli.cli import app

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
NOT_FLAGS = {"args", "version"}
"""Inputs of the action that are no flags of the command."""
WINDOWS = os.name == "nt"


def flags() -> set[str]:
    command = typer.main.get_command(app).commands["check"]  # type: ignore[attr-defined]
    return {flag for parameter in command.params for flag in parameter.opts}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)


def step(name: str) -> dict[str, Any]:
    return next(each for each in ACTION["runs"]["steps"] if each["name"] == name)


def test_inputs_of_the_action_are_flags_passed_through_the_environment() -> None:
    assert {f"--{name}" for name in ACTION["inputs"]} - {f"--{name}" for name in NOT_FLAGS} <= flags()
    for each in ACTION["runs"]["steps"]:
        assert "${{" not in each["run"], "an expression in a script runs its input as code"
        assert each["shell"] == "bash"
    values = {value for each in ACTION["runs"]["steps"] for value in each["env"].values()}
    assert {f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"]} <= values


def run_step(folder: Path, name: str, inputs: dict[str, str], code: int = 0) -> tuple[int, list[str]]:
    """Run a step as the runner does, with programs that record their arguments; return the exit code and arguments."""
    for program in ("vram", "python"):
        fake = folder / program
        fake.write_text(f"#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done > {folder}/words\nexit {code}\n")
        fake.chmod(0o755)
    texts = {f"${{{{ inputs.{key} }}}}": inputs.get(key, "") for key in ACTION["inputs"]}
    texts["${{ github.action_path }}"] = "/action"
    definition = step(name)
    env = {key: texts[value] for key, value in definition["env"].items()}
    env |= {"PATH": f"{folder}:{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": "/summary.md"}
    script = folder / "step.sh"
    script.write_text(definition["run"])
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.returncode, (folder / "words").read_text().splitlines()


@pytest.mark.skipif(WINDOWS, reason="the fake programs are shell scripts")
def test_the_action_passes_its_inputs_to_vram_check(tmp_path: Path) -> None:
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
def test_exit_codes_and_versions_of_the_action(tmp_path: Path) -> None:
    assert run_step(tmp_path, "vram check", {"config": "t.yaml"})[0] == 0
    assert run_step(tmp_path, "vram check", {"config": "t.yaml"}, code=70)[0] == 70
    assert run_step(tmp_path, "Install vram", {})[1][-1] == "/action"
    assert run_step(tmp_path, "Install vram", {"version": "vram-cli==0.1.0"})[1][-1] == "vram-cli==0.1.0"
    assert step("Install vram")["if"] == "inputs.version != 'installed'"


def test_the_hook_runs_vram_check_without_file_names() -> None:
    (hook,) = HOOKS
    program, command, *words = hook["entry"].split()
    assert (hook["id"], program, command) == ("vram-check", "vram", "check")
    assert set(words) <= flags()
    assert hook["pass_filenames"] is False
    assert all(re.search(hook["files"], name) for name in ("net.py", "train.yaml", "a/train.yml", "vram-baseline.json"))


def test_workflows_of_the_docs_use_existing_inputs() -> None:
    documents = [yaml.safe_load(text) for text in blocks("yaml")]
    jobs = [job for document in documents for job in document.get("jobs", {}).values()]
    uses = [each for job in jobs for each in job["steps"] if "vram@" in each.get("uses", "")]
    assert len(uses) == 2
    for each in uses:
        assert set(each["with"]) <= set(ACTION["inputs"])
        assert ACTION["inputs"].keys() & {"config"} <= set(each["with"])
        assert {word for word in each["with"].get("args", "").split() if word.startswith("--")} <= flags()
    (hooks,) = (document["repos"][0]["hooks"] for document in documents if "repos" in document)
    assert hooks[0]["id"] == HOOKS[0]["id"]
    assert {word for word in hooks[0]["args"] if word.startswith("--")} <= flags()
