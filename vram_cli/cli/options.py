"""The options that several commands share: those that set config keys, in one table, and those for output."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import typer

from vram_cli.errors import ConfigError

if TYPE_CHECKING:
    from vram_cli.config import Config
    from vram_cli.config.schema import ConfigSource


class Format(str, Enum):
    """How an answer is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


FormatT = TypeVar("FormatT", bound=Enum)
Command = Callable[..., None]
LoadConfig: TypeAlias = "Callable[[], Config]"

_MOST = 1_000_000_000

DEVICE = "Device"
PARALLEL = "Several GPUs"
SEARCH = "Search"
OUTPUT = "Output"


@dataclass(frozen=True)
class Setting:
    """An option that sets a config key. The config checks its value, so every source of it has the same messages."""

    key: str
    metavar: str
    help: str
    default: str
    """The config's default, or a description of it if the key is null by default."""
    panel: str | None = None
    flags: tuple[str, ...] = ()
    """Flags other than the parameter name with dashes."""
    value: str | None = None
    """Value that a flag without an argument sets; None for an option that takes one."""

    def parameter(self, name: str) -> inspect.Parameter:
        """Return the parameter from which Typer builds the option."""
        text = rf"{self.help} \[config: {self.key}; default: {self.default}]"
        flags = ("--" + name.replace("_", "-"), *self.flags)
        option = typer.Option(*flags, metavar=self.metavar, help=text, rich_help_panel=self.panel)
        kind, default = (str | None, None) if self.value is None else (bool, False)
        return _parameter(name, Annotated[kind, option], default)

    def override(self, argument: str | bool | None) -> list[str]:
        """Return ["key=value"] for the argument of the option, or [] if the option is absent."""
        if argument is None or argument is False:
            return []
        return [f"{self.key}={argument if self.value is None else self.value}"]


SETTINGS = {
    "mode": Setting("mode", "train|eval", "Measure training or evaluation steps.", "train"),
    "batch_size": Setting("train.batch_size", "N", "Batch size to run.", "128", flags=("-n",)),
    "steps": Setting("search.steps", "N", "Steps per trial.", "3"),
    "device": Setting("device.name", "NAME", "auto, cpu, cuda, cuda:N or mps.", "auto", DEVICE),
    "gpu": Setting("device.gpu", "NAME", "Predict for this GPU; `vram gpus` lists the names.", "none", DEVICE),
    "memory_limit": Setting(
        "device.memory_limit", "SIZE", "Use at most this much memory, such as 8GiB.", "all of the device's", DEVICE
    ),
    "overhead": Setting(
        "device.overhead",
        "SIZE",
        "For predictions: memory used outside PyTorch's allocator.",
        "as listed for the GPU",
        DEVICE,
    ),
    "ranks": Setting("parallel.ranks", "N", "Processes that train together, each on a GPU.", "one", PARALLEL),
    "strategy": Setting("parallel.strategy", "ddp|fsdp2", "How ranks share the training.", "ddp", PARALLEL),
    "nccl": Setting("parallel.nccl", "SIZE", "For predictions: NCCL's own memory per rank.", "an allowance", PARALLEL),
    "objective": Setting(
        "search.objective",
        "NAME",
        "largest, or throughput: also time steps at sizes up to the largest.",
        "largest",
        SEARCH,
    ),
    "max_batch_size": Setting("search.max_batch_size", "N", "Largest size to try.", "no limit", SEARCH),
    "no_dataset_limit": Setting(
        "search.limit_to_dataset",
        "",
        "Also try sizes larger than the data set.",
        "true, no larger size",
        SEARCH,
        value="false",
    ),
    "time_limit": Setting(
        "search.time_limit", "SECONDS", "Stop after this time, with the best size so far.", "no limit", SEARCH
    ),
    "tolerance": Setting(
        "search.tolerance",
        "SHARE",
        "Allowed distance below the largest size, such as 0.01.",
        "0.0, the exact size",
        SEARCH,
    ),
    "only_multiples_of": Setting(
        "search.only_multiples_of", "N", "Try only multiples of N, if the training accepts no other size.", "1", SEARCH
    ),
    "multiple_of": Setting("search.multiple_of", "N", "Recommend a multiple of N.", "8", SEARCH),
    "margin": Setting(
        "search.margin", "SHARE", "Share of the memory that the recommended size leaves free.", "0.05", SEARCH
    ),
}
"""Every option that sets a config key, by parameter name."""

DEVICE_SETTINGS = ("device", "gpu", "memory_limit", "overhead")
PARALLEL_SETTINGS = ("ranks", "strategy", "nccl")

option = partial(typer.Option, metavar="")
output = partial(typer.Option, metavar="", rich_help_panel=OUTPUT)

_CONFIG = r"YAML file, your own or bundled with vram. \[default: mlp_mnist.yaml]"
_COMMAND = "A training script to run in place of a config; {n} in it is the batch size."
_SET = "Override a config key, such as optimizer.name=adamw. Repeatable."
_PLOT = "Save a plot of the trials or of one step as PNG, SVG or PDF; needs matplotlib."
_REPORT = "Save the full answer as a self-contained HTML page."

ScriptCommand = Annotated[list[str] | None, typer.Argument(metavar="-- COMMAND", show_default=False, help=_COMMAND)]
ConfigName = Annotated[str | None, typer.Option("--config", "-c", metavar="FILE", help=_CONFIG)]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SET)]
Download = Annotated[bool, option("--download", help="Let torchvision download a missing data set.")]
By = Annotated[str | None, typer.Option("--by", metavar="module", help="Also show memory by module, as a tree.")]
Depth = Annotated[int, typer.Option("--depth", min=1, metavar="N", help="Levels of modules to show.")]
Timeline = Annotated[bool, option("--timeline", help="Also draw memory over one step.")]
Json = Annotated[bool, output("--json", help="Print one JSON object to stdout.")]
FormatName = Annotated[
    Format | None, output("--format", metavar="NAME", help=r"text, markdown or json. \[default: text]")
]
Save = Annotated[Path | None, output("--save", metavar="FILE", help="Save the result for `vram show FILE`.")]
Report = Annotated[Path | None, output("--report", metavar="FILE", help=_REPORT)]
Plot = Annotated[Path | None, output("--plot", metavar="FILE", help=_PLOT)]
Force = Annotated[bool, output("--force", help="Overwrite existing files.")]
Quiet = Annotated[bool, output("--quiet", "-q", help="Print no progress to stderr.")]


def reads_config(*names: str, runs_scripts: bool = False) -> Callable[[Command], Command]:
    """Give a command `--config`, `--set` and the named settings, ahead of its own options; and `-- COMMAND`, if asked.

    The first parameter of the command is a function without arguments that loads the config, with `--set` and then the
    settings applied. The command has a `quiet` option.
    """

    def decorate(command: Command) -> Command:
        def run(
            config: str | None, overrides: list[str] | None, script_command: list[str] | None = None, **values: Any
        ) -> None:
            flags = _overrides({name: values.pop(name) for name in names})
            sources: list[ConfigSource] = []

            def load() -> Config:
                loaded = _load(config, [*(overrides or []), *flags], script_command or (), quiet=values["quiet"])
                sources.append(loaded.source)
                return loaded

            try:
                command(load, **values)
            except ConfigError as error:  # of the worker process, which knows keys and no files
                error.message = sources[0].located(error.message) if sources else error.message
                raise

        run.__name__, run.__doc__, run.__annotations__ = command.__name__, command.__doc__, {}
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        shared = [_parameter("script_command", ScriptCommand)] if runs_scripts else []
        shared += [_parameter("config", ConfigName), _parameter("overrides", Overrides)]
        parameters = [*shared, *(SETTINGS[name].parameter(name) for name in names), *own]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # any function may have one
        return run

    return decorate


def levels(by: str | None, depth: int) -> int | None:
    """Return the number of module levels to show, or None for no modules.

    Raises:
        ConfigError: `by` names something other than modules.
    """
    if by not in (None, "module"):
        raise ConfigError(f"--by: cannot group memory by {by!r}", "use --by module")
    return depth if by else None


def output_format(name: FormatT | None, formats: type[FormatT], *, json: bool) -> FormatT:
    """Return the format that `--format` and `--json` select; text by default.

    Raises:
        ConfigError: they select two formats.
    """
    if json and name not in (None, formats("json")):
        raise ConfigError(f"--json and --format {name.value} select two formats", "leave one of them out")
    return formats("json") if json else name or formats("text")


def count_or_all(text: str, flag: str) -> int | None:
    """Return a count, or None for "all".

    Raises:
        ConfigError: the text is neither.
    """
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ConfigError(f"{flag}: expected a number or all, got {text!r}", f"for example {flag} 10000")
    return int(text)


def check_most(**values: float | None) -> None:
    """Check that numbers of options are small enough to count to, by the names of their parameters.

    Raises:
        ConfigError: one is not; the message names its option.
    """
    for name, value in values.items():
        # Not `value > _MOST`: NaN is neither above nor below.
        if value is not None and not value <= _MOST:
            raise ConfigError(
                f"--{name.replace('_', '-')}: must be at most {_MOST:,}, got {value}", "use a smaller number"
            )


def _parameter(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _overrides(values: Mapping[str, str | bool | None]) -> list[str]:
    """Return the overrides for the options of a command line; absent options are None or False."""
    # Either of --device and --gpu replaces both keys of the config.
    if (gpu := values.get("gpu")) is not None:
        gpu = f'"{gpu}"' if str(gpu).isdigit() else gpu  # YAML reads 4090 as a number
        values = {**values, "device": values["device"] or "auto", "gpu": gpu}
    elif values.get("device") is not None:
        values = {**values, "gpu": "null"}
    return [text for name, value in values.items() for text in SETTINGS[name].override(value)]


def _load(name: str | None, overrides: list[str], command: Sequence[str], *, quiet: bool) -> Config:
    from vram_cli.commands.ranks import launched_ranks
    from vram_cli.config import load_config
    from vram_cli.files import check_temporary_folder
    from vram_cli.report.console import inform

    check_temporary_folder()
    if (ranks := launched_ranks()) and not command:
        overrides = [f"parallel.ranks={ranks}", *overrides]
    config = load_config(name, overrides, command)
    if config.source.is_default and not quiet:
        inform(f"no --config option: using the bundled {config.source.name}")
    return config
