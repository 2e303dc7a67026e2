"""The stand-in for torch._dynamo: it is not replaced by those who only look at all modules."""

from __future__ import annotations

import sys

import pytest

from vram_cli.probe.worker.lazy_dynamo import _LazyDynamo


def test_a_search_for_files_of_modules_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr("vram_cli.probe.worker.lazy_dynamo.import_module", imported.append)
    lazy = _LazyDynamo("torch._dynamo")
    monkeypatch.setitem(sys.modules, "torch._dynamo", lazy)
    assert not hasattr(lazy, "__file__")  # as inspect.getmodule asks, in the middle of torch's own imports
    assert imported == []
