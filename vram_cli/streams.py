"""The standard streams of the `vram` command: stdout must take the answer, and stderr may fail without an effect on it.

Python's own streams raise at any write and once more at exit, where the exit code becomes 1 or 120.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO, TypeVar

from vram_cli.errors import MachineError

BROKEN_PIPE = 141
"""Exit code if the reader of stdout, such as `head`, has exited: 128 + SIGPIPE, as shells report it."""


_ERRORS = "backslashreplace"
"""Characters that an encoding lacks, and bytes of a file name that are not UTF-8, never end a command."""


class _Stream(io.TextIOWrapper):
    """A stream that is replaced by the null device once it has failed."""

    has_output = False
    """Whether something has been written."""

    def write(self, text: str) -> int:
        self.has_output = True
        try:
            return super().write(text)
        except OSError as error:
            self._replace()
            self._report(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._replace()
            self._report(error)

    def _report(self, error: OSError) -> None:
        """Report a failure; by default, ignore it."""

    def _replace(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


class Stdout(_Stream):
    """The stream of answers. A failure ends the command, quietly if its reader has gone."""

    def _report(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise SystemExit(BROKEN_PIPE)
        raise _unwritable(error)


class Stderr(_Stream):
    """The stream of progress and messages. A failure is ignored."""


def protect_streams() -> None:
    """Replace stdout and stderr by streams that fail as they should, and give closed ones the null device.

    Without the latter, the next file that is opened becomes stdin, stdout or stderr.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:
        pass  # the lowest free number is taken
    os.close(descriptor)
    sys.stdout = _protected(sys.stdout, Stdout, 1)
    sys.stderr = _protected(sys.stderr, Stderr, 2)


def check_stdout() -> None:
    """Check that stdout can be written, as far as it shows before a long run.

    Raises:
        MachineError: it is closed, or a device that is full.
    """
    if isinstance(sys.stdout, Stdout):
        try:
            os.write(sys.stdout.fileno(), b"")
        except OSError as error:
            raise _unwritable(error) from None


def has_output() -> bool:
    """Return whether something has been written to stdout."""
    return getattr(sys.stdout, "has_output", False)


StreamT = TypeVar("StreamT", bound=_Stream)


def _protected(stream: TextIO | None, kind: type[StreamT], descriptor: int) -> StreamT:
    if not isinstance(stream, io.TextIOWrapper):  # it is closed
        return kind(open(descriptor, "wb"), "utf-8", _ERRORS)
    # The buffer is shared: the original stays in sys.__stdout__, which knows the size of the terminal.
    return kind(stream.buffer, stream.encoding, _ERRORS, line_buffering=stream.line_buffering)


def _unwritable(error: OSError) -> MachineError:
    return MachineError(f"stdout: cannot be written: {error.strerror}", "write to another file, or to /dev/null")
