"""Find the largest batch that fits on a GPU, prove it by real training steps, and account for every byte of memory.

    from vram_cli import find_batch, breakdown, load_config

    result = find_batch(load_config("mlp_mnist.yaml"))
    print(result.max_batch_size, result.limited_by)

Every name is imported on first use: `import vram_cli` loads neither torch nor pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vram_cli.commands.advise import advise
    from vram_cli.commands.breakdown import breakdown
    from vram_cli.commands.calibrate import calibrate
    from vram_cli.commands.check import check
    from vram_cli.commands.find_batch import find_batch
    from vram_cli.commands.inspect import inspect
    from vram_cli.compare import CompareOptions, Comparison, compare_batch_sizes
    from vram_cli.config import Config, load_config
    from vram_cli.errors import Interrupted
    from vram_cli.records import (
        Advice,
        BreakdownResult,
        CheckLimits,
        CheckResult,
        FindBatchResult,
        Inspection,
        Measurement,
        SearchResult,
    )
    from vram_cli.search import find_largest

__version__ = "0.1.0"

__all__ = [
    "Advice",
    "BreakdownResult",
    "CheckLimits",
    "CheckResult",
    "CompareOptions",
    "Comparison",
    "Config",
    "FindBatchResult",
    "Inspection",
    "Interrupted",
    "Measurement",
    "SearchResult",
    "advise",
    "breakdown",
    "calibrate",
    "check",
    "compare_batch_sizes",
    "find_batch",
    "find_largest",
    "inspect",
    "load_config",
]

_MODULES = {
    "Advice": "records",
    "BreakdownResult": "records",
    "CheckLimits": "records",
    "CheckResult": "records",
    "CompareOptions": "compare",
    "Comparison": "compare",
    "Config": "config",
    "FindBatchResult": "records",
    "Inspection": "records",
    "Interrupted": "errors",
    "Measurement": "records",
    "SearchResult": "records",
    "advise": "commands.advise",
    "breakdown": "commands.breakdown",
    "calibrate": "commands.calibrate",
    "check": "commands.check",
    "compare_batch_sizes": "compare",
    "find_batch": "commands.find_batch",
    "find_largest": "search",
    "inspect": "commands.inspect",
    "load_config": "config",
}
"""The module that defines each public name."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"vram_cli.{_MODULES[name]}"), name)
