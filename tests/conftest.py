"""Golden texts: what is printed is compared with `tests/golden/NAME.txt`; look at what differs, then `pytest
--overwrite` rewrites them.

And no test, nor any process that one starts, sees the calibrations of the user who runs it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("vram", deadline=None)  # a machine under load is no failure
settings.load_profile("vram")

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--overwrite", action="store_true", help="write golden files anew instead of comparing with them")
    parser.addoption(
        "--overwrite-measured", action="store_true", help="also measure the outputs in README and docs again"
    )


def pytest_configure(config: pytest.Config) -> None:
    # Before test modules are imported: some copy the environment as they are.
    folder = os.environ["VRAM_CONFIG_DIR"] = tempfile.mkdtemp(prefix="vram-tests-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], str]:
    """Return a function that takes a name and what is printed, and returns what the golden file of that name has."""

    def read(name: str, printed: str) -> str:
        path = GOLDEN / (name if name.endswith((".html", ".md")) else f"{name}.txt")
        if request.config.getoption("--overwrite"):
            path.write_text(printed, encoding="utf-8")
        return path.read_text(encoding="utf-8")

    return read
