"""The options that set config keys: their defaults, their overrides, and options of earlier versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.cli.running import vram_here
from vram_cli.cli import app
from vram_cli.cli.options import SETTINGS
from vram_cli.config.schema import SECTIONS, Config

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
KEYS = {name: setting.key.split(".") for name, setting in SETTINGS.items()}


def run_config(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return the config with which `vram breakdown` runs."""
    answer = vram_here("breakdown", *arguments, "--json", "--quiet", folder=folder)
    assert answer.code == 0, answer.stderr
    return dict(json.loads(answer.stdout)["run"]["config"])


@pytest.mark.parametrize("name", [name for name, (key, *_) in KEYS.items() if key in Config.model_fields])
def test_help_has_the_default_of_the_config(name: str) -> None:
    section, *keys = KEYS[name]
    fields = SECTIONS[section].model_fields if keys else Config.model_fields
    field = fields[keys[0] if keys else section]
    default = None if field.is_required() else field.get_default()
    text = str(default).lower() if isinstance(default, bool) else str(default)
    assert default is None or SETTINGS[name].default.split(",")[0] == text


@pytest.mark.parametrize("command", ["find-batch", "breakdown", "advise", "check", "inspect", "compare"])
def test_every_option_has_a_help_text(command: str) -> None:
    for parameter in COMMANDS[command].params:
        assert parameter.help, parameter.opts


def test_device_and_gpu_replace_both_keys_of_the_config(tmp_path: Path) -> None:
    starter = "model: {name: mlp}\ndata: {name: mnist, source: synthetic}\noptimizer: {name: sgd}\n"
    (tmp_path / "cpu.yaml").write_text(starter + "device: cpu\n")
    device = run_config(tmp_path, "--config", "cpu.yaml", "--gpu", "4090")["device"]
    assert (device["name"], device["gpu"]) == ("auto", "4090")


def test_flags_override_set_which_overrides_the_config(tmp_path: Path) -> None:
    config = run_config(tmp_path, "--gpu", "t4", "--set", "search.steps=7", "--set", "train.ema=true", "--steps", "2")
    assert (config["search"]["steps"], config["train"]["ema"]) == (2, True)


@pytest.mark.parametrize(
    ("command", "flag", "today"),
    [
        ("find-batch", "--budget", "--memory-limit"),
        ("breakdown", "--capacity", "--memory-limit"),
        ("find-batch", "--cap", "--no-dataset-limit"),
        ("find-batch", "--max", "--max-batch-size"),
        ("check", "--max", "--max-memory"),
        ("advise", "--try", "--also-try"),
        ("breakdown", "--timelin", "--timeline"),
    ],
)
def test_an_unknown_option_names_the_right_one(command: str, flag: str, today: str, tmp_path: Path) -> None:
    answer = vram_here(command, flag, "x", folder=tmp_path)
    assert (answer.code, answer.stdout) == (2, "")
    assert answer.stderr == (
        f"error: No such option: {flag}. Did you mean {today}?\nhint: `vram {command} --help` shows the usage\n"
    )
