"""Imports ahead of the trials, and whether forks work after them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from tests.probe.scripts.children import in_child
from vram_cli.probe.scripts.preload import packages_of, preload

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def preloaded(folder: Path, text: str) -> str:
    """Return the reason against forks after the import of a module, in a process with two threads for OpenMP."""
    (folder / "package_of_user.py").write_text(text)

    def work() -> str:
        torch.set_num_threads(2)
        torch.cuda._is_in_bad_fork = lambda: False  # other tests of this process may have asked the driver
        sys.path.insert(0, str(folder))
        arguments, path = list(sys.argv), list(sys.path)
        reason = preload(["package_of_user"])
        assert "package_of_user" in sys.modules
        assert (sys.argv, sys.path) == (arguments, path)
        return reason

    return in_child(work)


def test_a_quiet_package_allows_forks(tmp_path: Path) -> None:
    assert preloaded(tmp_path, "import sys\nsys.argv.append('a')\nsys.path.append('b')\n") == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have another OpenMP")
def test_a_package_that_computes_in_parallel_does_not(tmp_path: Path) -> None:
    reason = preloaded(tmp_path, "import torch\ntorch.ones(1 << 22).exp().sum()\n")
    assert reason == "an import computes in parallel, and forks would wait for its threads"


def test_a_package_that_starts_a_thread_does_not(tmp_path: Path) -> None:
    reason = preloaded(
        tmp_path,
        "import threading\nthreading.Thread(target=threading.Event().wait, name='beat', daemon=True).start()\n",
    )
    assert reason == "an import starts threads (beat)"


def test_packages_are_those_outside_the_folder_of_the_script(tmp_path: Path) -> None:
    (tmp_path / "own.py").touch()
    file = tmp_path / "train.py"
    file.write_text("import numpy as np, own\nfrom torch.utils import data\nfrom . import x\nimport nowhere_at_all\n")
    assert packages_of(file) == ["numpy", "torch.utils"]
    file.write_text("no Python")
    assert packages_of(file) == []
