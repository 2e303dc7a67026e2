"""`vram compare`: the effect of the batch size on training, measured by training."""

from __future__ import annotations

from vram_cli.compare.compare import DEFAULT_FILE, compare_batch_sizes
from vram_cli.compare.options import CompareOptions
from vram_cli.compare.records import Comparison

__all__ = ["DEFAULT_FILE", "CompareOptions", "Comparison", "compare_batch_sizes"]
