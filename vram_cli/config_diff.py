"""Differences between two configs, key by key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a nested config by dotted key, such as "optimizer.name"."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def differing_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, before, now) for each key whose values differ; a missing value is None."""
    for key in {**now, **before}:
        if before.get(key) != now.get(key):
            yield key, before.get(key), now.get(key)


def describe_change(key: str, before: Any, now: Any) -> str:
    """Return a description of a change, such as "model.hidden was null, is 256"."""
    return f"{key} was {_shown(before)}, is {_shown(now)}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
