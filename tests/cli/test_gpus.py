"""`vram gpus`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import vram_here


def test_filter(tmp_path: Path) -> None:
    answer = vram_here("gpus", "ada", "24gb", folder=tmp_path)
    assert (answer.code, answer.stderr) == (0, "")
    assert answer.stdout.startswith("2 GPUs")
    assert "rtx-4090" in answer.stdout
    assert "rtx-3090" not in answer.stdout


def test_single_match_has_sources(tmp_path: Path) -> None:
    assert "deviceQuery" in vram_here("gpus", "rtx-4090", folder=tmp_path).stdout
    # A full name selects its GPU, although longer names contain it.
    assert vram_here("gpus", "rtx-3080", folder=tmp_path).stdout.startswith("rtx-3080\n")
    assert vram_here("gpus", "GeForce RTX 3080 10 GB", folder=tmp_path).stdout.startswith("rtx-3080\n")


def test_json(tmp_path: Path) -> None:
    (gpu,) = json.loads(vram_here("gpus", "b200", "--json", folder=tmp_path).stdout)["gpus"]
    assert (gpu["name"], gpu["memory"]["status"]) == ("b200", "measured")


@pytest.mark.parametrize(("words", "hint"), [(["rtx-4900"], "did you mean rtx-4090"), (["toaster"], "`vram gpus`")])
def test_no_match(words: list[str], hint: str, tmp_path: Path) -> None:
    answer = vram_here("gpus", *words, folder=tmp_path)
    assert (answer.code, answer.stdout) == (2, "")
    assert f"error: no GPU matches '{words[0]}'" in answer.stderr
    assert hint in answer.stderr


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, runpy\nsys.argv = ['vram', 'gpus']\n"
        "try:\n    runpy.run_module('vram_cli', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "sys.stderr.write(str({'torch', 'numpy'} & {name.split('.')[0] for name in sys.modules}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stderr == "set()"
