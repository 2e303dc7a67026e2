"""Errors that are reported to people as one line with a hint; each class owns its exit code.

    VramError
    ├── ConfigError        2   the command line or a YAML file says something wrong
    │   └── WorkloadError  2   the user's own model, data or step raised; its traceback is carried
    ├── MachineError       3   no such device, a missing package, a probe that cannot run here
    │   └── CutShortError  3   a prediction ran out of time or RAM
    ├── DoesNotFitError    4   not even the smallest batch fits
    └── ProbeError        70   vram's own child process broke in an unforeseen way; of a prediction, however it ended

Exit code 1 is a finding of `vram check` and never an error; 130 is Ctrl-C or SIGTERM. Any exception that is not a
`VramError` is a bug: its traceback is printed and the exit code is 70, because Python's own exit code for an uncaught
exception, 1, would look like a finding.
"""

from __future__ import annotations

from typing import Generic, TypeVar

PartialT = TypeVar("PartialT")


class Interrupted(KeyboardInterrupt, Generic[PartialT]):
    """Ctrl-C or SIGTERM ended a command early.

    Attributes:
        partial: the answer so far, a record of the type that the command returns.
    """

    exit_code = 130

    def __init__(self, partial: PartialT) -> None:
        super().__init__("interrupted")
        self.partial = partial


class VramError(Exception):
    """An error with a one-line message, and a hint that names the next step.

    Attributes:
        message: the problem and its place (file, key, value), in one line.
        hint: the next step for the reader, or "".
    """

    exit_code = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(VramError):
    """The command line or a config is invalid."""

    exit_code = 2


class WorkloadError(ConfigError):
    """The user's own code raised an exception at the smallest batch.

    Attributes:
        traceback: the formatted traceback of that exception.
    """

    def __init__(self, message: str, hint: str = "", traceback: str = "") -> None:
        super().__init__(message, hint)
        self.traceback = traceback


class MachineError(VramError):
    """This machine lacks something that the command needs: a device, a package, a folder that can be written."""

    exit_code = 3


class CutShortError(MachineError):
    """A prediction was stopped before it said anything: it ran out of time, or the computer out of RAM."""


class DoesNotFitError(VramError):
    """The batch does not fit, or not even the smallest one does.

    Attributes:
        result: the answer as a record, if there is one; `--json` prints it.
    """

    exit_code = 4

    def __init__(self, message: str, hint: str = "", result: object = None) -> None:
        super().__init__(message, hint)
        self.result = result


class ProbeError(VramError):
    """The worker process that runs trials failed unexpectedly."""

    exit_code = 70
