"""How far predictions were from measurements, in the words that answers show; kept in `accuracy.yaml`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml


@cache
def accuracy_of(vendor: str) -> str:
    """Return one line for the cards of a vendor, "NVIDIA" or "AMD"."""
    text = files("vram_cli.hardware").joinpath("accuracy.yaml").read_text(encoding="utf-8")
    return " ".join(str(yaml.safe_load(text)[vendor]).split())
