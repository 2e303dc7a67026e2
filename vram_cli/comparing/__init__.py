"""`vram compare`: what the batch size does to training, by training."""

from __future__ import annotations

from vram_cli.comparing.asked import Asked
from vram_cli.comparing.compare import DEFAULT_FILE, Interrupted, compare

__all__ = ["DEFAULT_FILE", "Asked", "Interrupted", "compare"]
