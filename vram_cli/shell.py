"""Command lines as a shell takes them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_NAME_LIMIT = 60


def shell_word(word: str) -> str:
    """Return a word quoted for a shell; {n} alone needs no quotes, since no shell expands braces around one word."""
    bare = word.replace("{n}", "n")
    return word if shlex.quote(bare) == bare else shlex.quote(word)


def shell_line(words: Sequence[str]) -> str:
    """Return a command as one line of a shell."""
    return " ".join(map(shell_word, words))


def command_name(words: Sequence[str]) -> str:
    """Return a command as a short name without line breaks."""
    line = " ".join(shell_line(words).split())
    return line if len(line) <= _NAME_LIMIT else f"{line[: _NAME_LIMIT - 3].rstrip()}..."
