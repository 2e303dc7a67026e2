"""Failures of a command: a message on stderr, an exit code, and an object on stdout for `--json`."""

from __future__ import annotations

import contextlib
import errno
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from vram_cli.errors import ConfigError, DoesNotFitError, Interrupted, MachineError, VramError
from vram_cli.records.error_report import ErrorReport
from vram_cli.streams import has_output

# Typer contains a copy of Click and exports a subclass of its usage error, but not the usage error itself.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]

_NEW_FLAGS = {
    "--budget": "--memory-limit",
    "--capacity": "--memory-limit",
    "--cap": "--no-dataset-limit",
    "--try": "--also-try",
}
"""Options of earlier versions whose new names are not similar."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def report_failure(error: BaseException, arguments: Sequence[str]) -> int:
    """Report an exception that ended a command, and return the exit code. Every kind but `VramError` is converted."""
    error = _converted(error)
    _print(error)
    # An answer that is printed already stays the only object.
    if _wants_json(arguments) and not has_output():
        with contextlib.suppress(MachineError):  # stdout cannot be written
            typer.echo(_json(error))
    return _exit_code(error)


def _converted(error: BaseException) -> BaseException:
    if isinstance(error, _UsageError):
        return _usage_error(error)
    is_exhausted = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _EXHAUSTED)
    if is_exhausted or "can't start new thread" in str(error):
        hint = "`ulimit -a` shows the limits of this shell, `df` the free disk space and `free` the RAM"
        return MachineError(f"this machine cannot run the command: {_in_words(error)}", hint)
    return error


def _print(error: BaseException) -> None:
    from vram_cli.report.console import print_error

    if isinstance(error, VramError):
        print_error(error)
    elif isinstance(error, Exception):  # a bug
        traceback.print_exception(error)
        sys.stderr.write("error: this is a bug in vram; please report it with the traceback above\n")


def _json(error: BaseException) -> str:
    from vram_cli.report.formats.json import error_to_json, to_json

    if isinstance(error, DoesNotFitError) and error.result is not None:
        return to_json(error.result)
    kind, message, hint = type(error).__name__, _in_words(error), ""
    if isinstance(error, VramError):
        message, hint = error.message, error.hint
    elif not isinstance(error, Exception):
        kind, message = Interrupted.__name__, "the command was interrupted before it had an answer"
    return error_to_json(ErrorReport(kind=kind, message=message, hint=hint, exit_code=_exit_code(error)))


def _exit_code(error: BaseException) -> int:
    if isinstance(error, VramError):
        return error.exit_code
    return VramError.exit_code if isinstance(error, Exception) else Interrupted.exit_code


def _in_words(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _wants_json(arguments: Sequence[str]) -> bool:
    """Return whether a command line asks for JSON, even if the rest of it is wrong."""
    line = "\n".join(arguments)
    return "--json" in arguments or "--format=json" in arguments or "--format\njson" in line


def _usage_error(error: Any) -> ConfigError:
    """Convert a usage error of Typer: an unknown command or option, or an invalid value."""
    hint = f"`{error.ctx.command_path} --help` shows the usage"
    if not hasattr(error, "possibilities"):
        return ConfigError(error.format_message().rstrip("."), hint)
    if any(parameter.name == "script_command" for parameter in error.ctx.command.params):
        hint += "; options of a training script come after --"
    options = [flag for parameter in error.ctx.command.params for flag in parameter.opts]
    flag = error.option_name
    matches = [option for option in options if option == _NEW_FLAGS.get(flag) or option.startswith(f"{flag}-")]
    meant = " or ".join(matches or error.possibilities or ())
    return ConfigError(error.message + (f". Did you mean {meant}?" if meant else ""), hint)
