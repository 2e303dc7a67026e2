"""The section about a training script: the command that starts it, and the batch size in it."""

from __future__ import annotations

import shlex
from typing import Any, Literal

from pydantic import Field, field_validator

from vram_cli.config.section import Section

PLACEHOLDER = "{n}"
"""Stands for the batch size in a command; "{{n}}" is a literal "{n}"."""


class ScriptConfig(Section):
    """A training script, which decides about model, data, loss, optimizer and precision itself."""

    command: tuple[str, ...] = Field(min_length=1)
    """The command that starts the training, as words or as one line; {n} stands for the batch size. Without {n}, the
    DataLoader that trains is given another batch size."""
    loader: str | None = Field(default=None, min_length=1)
    """Line that makes the DataLoader to set, such as "train.py:87"; null finds the one that trains."""
    isolation: Literal["auto", "overlay", "none"] = "auto"
    """overlay: files that the script writes into its working folder are discarded, by a mount that Linux may allow.
    auto: that where it works, else none."""

    @field_validator("command", mode="before")
    @classmethod
    def _one_line_is_words(cls, value: Any) -> Any:
        return (
            tuple(shlex.split(value)) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
        )

    @property
    def takes_batch_size(self) -> bool:
        """Whether the command names the batch size."""
        return any(PLACEHOLDER in word.replace("{{n}}", "") for word in self.command)

    def words(self, batch_size: int) -> tuple[str, ...]:
        """Return the command for a batch size."""
        marked = (word.replace("{{n}}", "\0") for word in self.command)
        return tuple(word.replace(PLACEHOLDER, str(batch_size)).replace("\0", PLACEHOLDER) for word in marked)
