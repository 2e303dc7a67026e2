"""Tests of how results look depend on no setting of the shell they are started from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vram_cli.report.console import stderr_console


@pytest.fixture(autouse=True)
def _no_wishes_about_colours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    stderr_console.cache_clear()
    yield
    stderr_console.cache_clear()
