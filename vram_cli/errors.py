"""Errors for the user: a one-line message and a hint. Each class has its own exit code.

    VramError
    ├── ConfigError        2   an invalid command line or YAML file
    │   └── WorkloadError  2   the user's model, data or step raised an exception
    ├── MachineError       3   a missing device or package
    │   └── CutShortError  3   out of time or RAM, or a signal from outside
    ├── DoesNotFitError    4   the batch does not fit, or not even the smallest one
    └── ProbeError        70   the worker process crashed, or failed unexpectedly

Exit code 1 is a finding of `vram check` and never an error; 130 is Ctrl-C or SIGTERM. Any exception that is not a
`VramError` is a bug: its traceback is printed and the exit code is 70, because Python's own exit code for an uncaught
exception, 1, would look like a finding.
"""

from __future__ import annotations

import sys
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
        hint: the next step for the user, or "".
    """

    exit_code = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self._show_uncaught(hint)

    def _show_uncaught(self, text: str) -> None:
        """Let Python, 3.11 or later, show a text below the message where nobody catches the error, as in a notebook."""
        if text and sys.version_info >= (3, 11):
            self.add_note(text)


class ConfigError(VramError):
    """The command line or a config is invalid."""

    exit_code = 2


REAL_TRIALS = "run real trials: on a GPU, or with --device cpu and a --memory-limit"
"""The way out of a prediction that cannot be made."""


class UnsupportedError(ConfigError):
    """The memory of the training cannot be predicted; it can be measured."""


class WorkloadError(ConfigError):
    """The user's own code raised an exception at the smallest batch.

    Attributes:
        traceback: the formatted traceback of that exception.
    """

    def __init__(self, message: str, hint: str = "", traceback: str = "") -> None:
        super().__init__(message, hint)
        self.traceback = traceback
        self._show_uncaught(traceback)


class MachineError(VramError):
    """This machine lacks something that the command needs: a device, a package, a writable folder."""

    exit_code = 3


class CutShortError(MachineError):
    """A trial ended without a result: time or the computer's RAM ran out, or a signal from outside ended it."""


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


def out_of_host_memory(batch_size: int, cause: str) -> CutShortError:
    """Return the error for a prediction in which the computer ran out of RAM."""
    return CutShortError(
        f"the computer ran out of RAM as batch {batch_size:,} was predicted: {cause}",
        "this says nothing about the GPU's memory; end other programs, or predict on a larger computer",
    )
