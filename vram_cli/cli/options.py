"""The flags that commands share, and how they become config overrides."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, TypeVar

import typer

if TYPE_CHECKING:
    from vram_cli.config import Config


class Format(str, Enum):
    """How an answer is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


FormT = TypeVar("FormT", bound=Enum)

# Typer reads these annotations as it builds the parser, where Python 3.10 cannot be given `X | None` strings lazily.
ConfigName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--config", "-c", metavar="FILE", help="YAML file, here or bundled with vram. (default: mlp_mnist.yaml)"
    ),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as optimizer.name=adamw. Repeatable."),
]
DeviceName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N. (config: device.name)"),
]
MemoryLimit = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--memory-limit",
        metavar="SIZE",
        help="Act as a device of that size, such as 8GiB. (config: device.memory_limit)",
    ),
]
GpuName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--gpu", metavar="NAME", help="Predict for that card, such as rtx-4090; `vram gpus` lists them."),
]
Overhead = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--overhead", metavar="SIZE", help="Predictions: memory outside PyTorch's allocator. (config: the card's)"
    ),
]
Steps = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--steps", metavar="N", help="Full training steps a trial. (config: search.steps)"),
]
By = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--by", metavar="module", help="Also show which modules hold it, as a tree."),
]
Depth = Annotated[int, typer.Option("--depth", min=1, metavar="N", help="Levels of that tree.")]
Timeline = Annotated[bool, typer.Option("--timeline", help="Also draw memory over the step.")]
Plot = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--plot", metavar="FILE", help="Draw trials or timeline as PNG, SVG or PDF; needs matplotlib."),
]
Report = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--report", metavar="FILE", help="Write all there is as one HTML page; it needs no network."),
]
Download = Annotated[bool, typer.Option("--download", help="Let torchvision download the data set if it is not there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
FormatName = Annotated[
    Optional[Format],  # noqa: UP045
    typer.Option("--format", help="How to print the answer: as text, unless told; json is --json."),
]
Save = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--save", metavar="FILE", help="Keep the result, for `vram show FILE`."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


def levels(by: str | None, depth: int) -> int | None:
    """Return how many levels of modules to show, None for no modules.

    Raises:
        ConfigError: something other than modules is to be grouped by.
    """
    from vram_cli.errors import ConfigError

    if by not in (None, "module"):
        raise ConfigError(f"--by: {by!r} is not something to group by", "use --by module")
    return depth if by else None


def chosen(format_name: FormT | None, forms: type[FormT], *, json: bool) -> FormT:
    """Return which of a command's formats `--format` and `--json` ask for; text where neither does.

    Raises:
        ConfigError: they ask for two.
    """
    from vram_cli.errors import ConfigError

    if json and format_name not in (None, forms("json")):
        raise ConfigError(f"--json and --format {format_name.value} ask for two formats", "give one of them")
    return forms("json") if json else format_name or forms("text")


def whole_or_all(text: str, flag: str) -> int | None:
    """Return a count, None for "all".

    Raises:
        ConfigError: it is neither.
    """
    from vram_cli.errors import ConfigError

    if text == "all":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ConfigError(f"{flag}: {text!r} is neither a number nor all", f"such as {flag} 10000")
    return int(text)


def place(device: str | None, gpu: str | None) -> dict[str, object]:
    """Return the overrides for `--device` and `--gpu`: either of them replaces what the config says of both."""
    if gpu is not None and device is None:
        return {"device.name": "auto", "device.gpu": gpu}
    if device is not None and gpu is None:
        return {"device.gpu": "null", "device.name": device}
    return {"device.name": device, "device.gpu": gpu}


def configure(config: str | None, overrides: list[str] | None, flags: Mapping[str, object], *, quiet: bool) -> Config:
    """Load the config with `--set` and then the flags applied; flags that were not given are None."""
    from vram_cli.config import load_config
    from vram_cli.report.console import inform

    given = [f"{key}={value}" for key, value in flags.items() if value is not None]
    loaded = load_config(config, [*(overrides or []), *given])
    if config is None and not quiet:
        inform(f"no --config given: using the bundled {loaded.source.name}")
    return loaded
