"""The Typer app, and how an error becomes a line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vram_cli.errors import VramError

# Typer carries a copy of Click; its base of all usage errors has a public subclass, but no public name of its own.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]

_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports it


class VramGroup(TyperGroup):
    """Turns every exception into its exit code; 1 is left to findings, which commands exit with themselves."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, _USAGE_ERROR):
            raise
        except VramError as error:
            from vram_cli.report.console import print_error

            print_error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # The reader, such as `head`, has gone; without this Python complains once more as it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_BROKEN_PIPE) from None
        except Exception:  # noqa: BLE001 - a bug: shown whole, and never with Python's exit code 1
            traceback.print_exc()
            sys.stderr.write("error: this is a bug in vram; please report it with the traceback above\n")
            raise typer.Exit(70) from None
        return result


app = typer.Typer(
    cls=VramGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Example: vram find-batch --config mlp_mnist.yaml",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from vram_cli import __version__

        typer.echo(f"vram {__version__}")
        raise typer.Exit


@app.callback()
def vram(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """How large a batch fits on this GPU, and where does the memory go?

    Exit codes: 0 answered, 1 a finding of check, 2 usage or config, 3 machine, 4 not even the smallest batch fits, 70 a
    bug, 130 Ctrl-C or SIGTERM.
    """
