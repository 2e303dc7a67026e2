"""`vram advise`: try changes of a training one by one, and report which let a larger batch fit."""

from __future__ import annotations

from vram_cli.commands.advise.run import advise

__all__ = ["advise"]
