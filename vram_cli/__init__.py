"""The largest batch that fits on a GPU, proved by real steps, and where every byte of its memory goes.

    from vram_cli import find_batch, breakdown, load_config

    result = find_batch(load_config("mlp_mnist.yaml"))
    print(result.max_batch_size, result.limited_by)

Everything is imported when it is first used: `import vram_cli` loads neither torch nor pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vram_cli.advising import advise
    from vram_cli.api import Interrupted, breakdown, find_batch
    from vram_cli.calibrating import calibrate
    from vram_cli.checking import check
    from vram_cli.comparing import Asked, compare
    from vram_cli.config import Config, load_config
    from vram_cli.inspecting import inspect
    from vram_cli.results import (
        Advice,
        Comparison,
        GateLimits,
        Inspection,
        Measurement,
        Result,
        SearchResult,
        Verdict,
    )
    from vram_cli.search import find_largest

__version__ = "0.1.0"

__all__ = [
    "Advice",
    "Asked",
    "Comparison",
    "Config",
    "GateLimits",
    "Inspection",
    "Interrupted",
    "Measurement",
    "Result",
    "SearchResult",
    "Verdict",
    "advise",
    "breakdown",
    "calibrate",
    "check",
    "compare",
    "find_batch",
    "find_largest",
    "inspect",
    "load_config",
]

_ROOMS = {
    "Advice": "results",
    "Asked": "comparing",
    "Comparison": "results",
    "Config": "config",
    "GateLimits": "results",
    "Inspection": "results",
    "Interrupted": "api",
    "Measurement": "results",
    "Result": "results",
    "SearchResult": "results",
    "Verdict": "results",
    "advise": "advising",
    "breakdown": "api",
    "calibrate": "calibrating",
    "check": "checking",
    "compare": "comparing",
    "find_batch": "api",
    "find_largest": "search",
    "inspect": "inspecting",
    "load_config": "config",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its room on first use (PEP 562)."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"vram_cli.{_ROOMS[name]}"), name)
