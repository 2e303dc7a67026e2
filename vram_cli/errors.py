"""Errors that are meant for people; each class owns its exit code.

    VramError
    ├── ConfigError        2   the command line or a YAML file says something wrong
    │   └── WorkloadError  2   the user's own model, data or step raised; its traceback is carried
    ├── MachineError       3   no such device, a missing package, a probe that cannot run here
    │   └── CutShortError  3   a prediction ran out of time or RAM
    ├── DoesNotFitError    4   not even the smallest batch fits
    └── ProbeError        70   vram's own child process broke in an unforeseen way; of a prediction, however it ended

Exit code 1 is a *finding* of a gate and never an error; 130 is Ctrl-C or SIGTERM. Anything that is not a `VramError` is
a bug: its traceback is shown and the program exits with 70, because Python's own crash code, 1, would look like a
finding.
"""

from __future__ import annotations

from typing import Generic, TypeVar

PartialT = TypeVar("PartialT")


class Interrupted(KeyboardInterrupt, Generic[PartialT]):
    """Ctrl-C or SIGTERM ended a command early.

    Attributes:
        partial: the answer as far as it was known; a record of the type that the command returns.
    """

    def __init__(self, partial: PartialT) -> None:
        super().__init__("interrupted")
        self.partial = partial


class VramError(Exception):
    """An error with a one-line message and a hint that says what to do next.

    Attributes:
        message: what happened and where (file, key, value); one line.
        hint: the next step for the reader, or "".
    """

    exit_code = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(VramError):
    """The command line or a YAML file says something wrong."""

    exit_code = 2


class WorkloadError(ConfigError):
    """The user's own code raised at the smallest batch.

    Attributes:
        traceback: the formatted traceback of the original error.
    """

    def __init__(self, message: str, hint: str = "", traceback: str = "") -> None:
        super().__init__(message, hint)
        self.traceback = traceback


class MachineError(VramError):
    """This machine cannot do what was asked: no such device, a missing package, an unwritable disk."""

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
    """The child process that runs trials broke in an unforeseen way."""

    exit_code = 70
