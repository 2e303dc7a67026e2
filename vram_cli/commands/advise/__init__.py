"""`vram advise`: which changes of a training let a larger batch fit, each tried like any other config."""

from __future__ import annotations

from vram_cli.commands.advise.run import advise

__all__ = ["advise"]
