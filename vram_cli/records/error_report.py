"""An error as `--json` prints it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ErrorReport:
    """The reason for which a command has no answer."""

    kind: str
    """The class of the error, such as "ConfigError", "WorkloadError", "MachineError" or "Interrupted"; for a bug in
    vram, the Python exception."""
    message: str
    """The problem and its place, in one line."""
    hint: str
    """The next step; "" for none."""
    exit_code: int
    """The exit code of the command."""
