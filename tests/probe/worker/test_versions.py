from __future__ import annotations

from importlib import metadata

import pytest

from vram_cli.probe.worker.versions import versions


def test_torchvision_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version

    def version(package: str) -> str:
        if package == "torchvision":
            raise metadata.PackageNotFoundError(package)
        return installed(package)

    monkeypatch.setattr(metadata, "version", version)
    assert versions()["torchvision"] == "not installed"
    assert versions()["torch"]
