"""The Typer app, and the conversion of exceptions into error messages and exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from vram_cli.errors import ConfigError, Interrupted, VramError

# Typer contains a copy of Click and exports a subclass of its usage error, but not the usage error itself.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]

_BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells report it

_NEW_FLAGS = {
    "--budget": "--memory-limit",
    "--capacity": "--memory-limit",
    "--cap": "--no-dataset-limit",
    "--try": "--also-try",
}
"""Options of earlier versions whose new names are not similar."""


class VramGroup(TyperGroup):
    """A command group that exits with the code of each error; code 1 is reserved for findings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the command."""
        if not args:
            return super().parse_args(ctx, args)  # raises the help as a usage error
        try:
            return super().parse_args(ctx, args)
        except _UsageError as error:
            _exit_with(_as_config_error(error))

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort):
            raise
        except _UsageError as error:
            _exit_with(_as_config_error(error))
        except VramError as error:
            _exit_with(error)
        except KeyboardInterrupt:
            raise typer.Exit(Interrupted.exit_code) from None
        except BrokenPipeError:
            # The reader, such as `head`, has exited. Python would report the closed pipe again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_BROKEN_PIPE) from None
        except Exception:  # noqa: BLE001 - a bug: report it with its traceback, and never with Python's exit code 1
            traceback.print_exc()
            sys.stderr.write("error: this is a bug in vram; please report it with the traceback above\n")
            raise typer.Exit(VramError.exit_code) from None
        return result


def _exit_with(error: VramError) -> NoReturn:
    from vram_cli.report.console import print_error

    print_error(error)
    raise typer.Exit(error.exit_code) from None


def _as_config_error(error: Any) -> ConfigError:
    """Convert a usage error of Typer: an unknown command or option, or an invalid value."""
    hint = f"`{error.ctx.command_path} --help` shows the usage"
    if not hasattr(error, "possibilities"):
        return ConfigError(error.format_message().rstrip("."), hint)
    options = [flag for parameter in error.ctx.command.params for flag in parameter.opts]
    flag = error.option_name
    matches = [option for option in options if option == _NEW_FLAGS.get(flag) or option.startswith(f"{flag}-")]
    meant = " or ".join(matches or error.possibilities or ())
    return ConfigError(error.message + (f". Did you mean {meant}?" if meant else ""), hint)


app = typer.Typer(
    cls=VramGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Example: vram find-batch --config mlp_mnist.yaml",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        from vram_cli import __version__

        typer.echo(f"vram {__version__}")
        raise typer.Exit


@app.callback()
def vram(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Find the largest batch size that fits on a GPU, and see where the memory goes.

    Exit codes:
      0    the command has an answer; the batch fits; the check passes
      1    vram check: the check fails
      2    invalid command line or config, or an exception in your own code
      3    environment: a missing device or package
      4    not even the smallest batch fits
      70   unexpected error, printed with its traceback
      130  interrupted by Ctrl-C or SIGTERM
    """
