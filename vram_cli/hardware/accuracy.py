"""The accuracy of predictions against measurements, as shown with answers; the texts are in `accuracy.yaml`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml


@cache
def accuracy_of(vendor: str, engine: str) -> str:
    """Return one line for the GPUs of a vendor, "NVIDIA" or "AMD", and an engine, as in `Device.engine`."""
    text = files("vram_cli.hardware").joinpath("accuracy.yaml").read_text(encoding="utf-8")
    return " ".join(str(yaml.safe_load(text)[engine][vendor]).split())
