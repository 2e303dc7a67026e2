from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    environment: dict
    kind: str
    target: str
    arguments: tuple
    words: tuple


def parse_command(words: Sequence[str]) -> Command:
    words = list(words)
    if words[0].startswith("python"):
        words = words[1:]
    if words[0] == "-m":
        return Command({}, "module", words[1], tuple(words[2:]), tuple(words))
    return Command({}, "file", words[0], tuple(words[1:]), tuple(words))
