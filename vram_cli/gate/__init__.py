"""Whether a training's peak memory breaks a limit: records in, a verdict out."""

from __future__ import annotations

from vram_cli.gate.comparable import config_changes, require_comparable
from vram_cli.gate.judge import judge, peak_of

__all__ = ["config_changes", "judge", "peak_of", "require_comparable"]
