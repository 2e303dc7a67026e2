"""The workflows of this repository: what they may do, and that their commands exist."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / ".github/workflows").glob("*.yml")}
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def steps_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def step_using(steps: list[dict[str, Any]], action: str) -> dict[str, Any]:
    return next(step for step in steps if step.get("uses", "").startswith(f"{action}@"))


@pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)
def test_a_workflow_may_only_read_and_names_the_version_of_each_action(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 30 for job in workflow["jobs"].values())
    for step in steps_of(workflow):
        assert re.search(r"^[\w-]+/[\w-]+@(release/)?v\d+$", step.get("uses", "some/action@v1")), step
        # An expression in a script runs its text as code; the matrix is written in the workflow itself.
        assert not re.search(r"\$\{\{(?! matrix\.)", step.get("run", "")), step


@pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)
def test_make_targets_exist(workflow: dict[str, Any]) -> None:
    targets = [match[1] for step in steps_of(workflow) if (match := re.match(r"make ([a-z-]+)", step.get("run", "")))]
    assert targets
    assert set(targets) <= set(TARGETS)


def test_only_a_tag_publishes_and_only_that_job_has_the_right() -> None:
    release = WORKFLOWS["release"]
    assert release[True] == {"push": {"tags": ["v*"]}, "workflow_dispatch": None}  # YAML 1.1 reads `on` as a bool
    publish = release["jobs"]["publish"]
    assert (publish["needs"], publish["if"]) == ("build", "github.event_name == 'push'")
    assert publish["environment"] == "pypi"
    assert publish["permissions"] == {"id-token": "write"}
    others = [job for workflow in WORKFLOWS.values() for job in workflow["jobs"].values() if job is not publish]
    assert not any("permissions" in job or "secrets." in str(job) for job in others)
    assert not any("run" in step for step in publish["steps"])  # code of the repository runs without the right


def test_the_release_publishes_the_files_that_it_built() -> None:
    build, publish = (WORKFLOWS["release"]["jobs"][name]["steps"] for name in ("build", "publish"))
    assert [step["run"] for step in build if "name" not in step and "run" in step] == ["make dist"]
    saved = step_using(build, "actions/upload-artifact")["with"]
    assert saved.pop("if-no-files-found") == "error"
    assert saved == step_using(publish, "actions/download-artifact")["with"] == {"name": "dist", "path": "dist/"}
    assert publish[-1]["uses"].startswith("pypa/gh-action-pypi-publish@")


@pytest.mark.skipif(os.name == "nt", reason="the step is a shell script")
@pytest.mark.parametrize(("tag", "passes"), [("v1.2.0", True), ("v1.2", False), ("v1.2.00", False), ("v1x2.0", False)])
def test_a_tag_that_is_not_the_version_fails(tag: str, passes: bool, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('name = "vram-cli"\nversion = "1.2.0"\n')
    (step,) = (step for step in WORKFLOWS["release"]["jobs"]["build"]["steps"] if "run" in step and "name" in step)
    assert step["if"] == WORKFLOWS["release"]["jobs"]["publish"]["if"]
    script = ["bash", "--noprofile", "--norc", "-e", "-c", step["run"]]
    done = subprocess.run(script, cwd=tmp_path, env=os.environ | {"GITHUB_REF_NAME": tag}, check=False)
    assert (done.returncode == 0) is passes
