"""`vram check`: whether a training still fits, and whether its peak memory has grown since the baseline."""

from __future__ import annotations

from vram_cli.commands.check.run import check

__all__ = ["check"]
