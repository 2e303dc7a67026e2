"""The Typer app, and the run of one command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from vram_cli.cli.failures import report_failure
from vram_cli.errors import ConfigError, Interrupted
from vram_cli.shell import shell_line
from vram_cli.streams import check_stdout, has_output


class VramCommand(TyperCommand):
    """A command that refuses empty values: `--gpu "$GPU"` must not drop the option if that variable is not set."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options of the command."""
        takes_script = any(parameter.name == "script_command" for parameter in self.params)
        if takes_script and args and not args[0].startswith("-"):
            raise _no_separator(args, str(ctx.info_name))
        values, _, _ = self.make_parser(ctx).parse_args(list(args))
        for parameter in self.params:
            value, flag = values.get(str(parameter.name)), parameter.opts[0]
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and not text.strip() and flag.startswith("-"):
                    raise ConfigError(f"{flag}: the value is empty", "leave the option out, or give it a value")
        words = values.get("script_command") or ()
        if words and list(args[-len(words) - 1 :]) != ["--", *words]:
            raise _no_separator(words, str(ctx.info_name))
        return super().parse_args(ctx, args)


def _no_separator(words: Sequence[str], name: str) -> ConfigError:
    """Return the error for a training command that is not after --, so that its options would be taken for vram's."""
    if words[0].endswith((".yaml", ".yml")):
        hint = f"a config is named with --config: vram {name} --config {words[0]}"
    else:
        command = shell_line([word for word in words if word != "--"])
        hint = f"the command of a training script comes last, after --: vram {name} -- {command}"
    return ConfigError(f"{words[0]}: vram {name} takes options only", hint)


class VramGroup(TyperGroup):
    """The commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the command; print the help if there is nothing."""
        if not args:
            ctx.get_help()  # Typer prints it
            raise typer.Exit(ConfigError.exit_code)
        return super().parse_args(ctx, args)


def run_command(arguments: Sequence[str]) -> int:
    """Run a command line, and return its exit code; code 1 is reserved for findings."""
    try:
        check_stdout()
        code = _run(arguments)
        sys.stdout.flush()
        if code == Interrupted.exit_code and not has_output():
            raise KeyboardInterrupt
    except typer.Abort:
        return report_failure(KeyboardInterrupt(), arguments)
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - a bug is reported with its traceback
        return report_failure(error, arguments)
    return code


def _run(arguments: Sequence[str]) -> int:
    def command() -> int:
        return int(app(arguments, prog_name="vram", standalone_mode=False) or 0)

    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return command()
    from vram_cli.commands.ranks import run_as_rank  # much, which `--help` does without

    return run_as_rank(command)


app = typer.Typer(
    cls=VramGroup,
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
      141  the reader of stdout, such as head, has exited
    """
