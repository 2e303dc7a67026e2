"""A training script that was run in place of a config's workload."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoaderInfo:
    """A DataLoader that the script made."""

    line: str
    """"file:line" of the user's code that made it, such as "train.py:87"."""
    batch_size: int | None
    """The script's own; None if its batch sampler has none."""
    num_samples: int | None
    """Length of the data set; None if it has none."""
    trains: bool
    """Whether its batches were trained on."""


@dataclass(frozen=True, kw_only=True)
class ScriptInfo:
    """What a rehearsal, which is a first run at a small batch size, found out about a script."""

    command: tuple[str, ...]
    """As the user wrote it, with {n} for the batch size."""
    batch_size: int | None
    """The batch size with which the script trains by itself, or that of the rehearsal if the command names it."""
    set_in: str = ""
    """The DataLoader that is given the batch size, such as "train.py:87"; "" if the command takes it."""
    loaders: tuple[LoaderInfo, ...] = ()
    micro_batches: int = 1
    """Batches per step of the optimizer."""
    isolation: str = "none"
    """"overlay" if what the script writes into its working folder is discarded, "none" if it is kept."""
    starts: str = ""
    """How each trial starts, such as "a fork of a process that has imported torch", and why, if that is slow."""
