"""`vram advise`: which changes of a training let a larger batch fit, each tried like any other config."""

from __future__ import annotations

from vram_cli.advising.advise import Interrupted, advise

__all__ = ["Interrupted", "advise"]
