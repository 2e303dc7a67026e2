"""The types of values in a config, as people write them: "8GiB", "5 %", [3, 224, 224]."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from vram_cli.errors import ConfigError
from vram_cli.suggest import did_you_mean
from vram_cli.units import parse_bytes

_INT64_MAX = 2**63 - 1  # the largest size that PyTorch counts
MAX_ELEMENTS = _INT64_MAX // 8
"""The most elements of a tensor: PyTorch counts its bytes in 64 bits, and the widest types have 8 each."""
_MAX_SECONDS = 4_000_000  # 46 days; Windows waits for 2**32 ms at most, and Python overflows above that
_DEVICE = r"auto|cpu|cuda(:(0|[1-9][0-9]*))?|mps|xpu"
_DEVICE_NAMES = ("auto", "cpu", "cuda", "cuda:0", "mps", "xpu")
_REFERENCE = r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.\-]*"
_LIBRARIES = ("torch", "torchvision", "timm", "transformers")
SURROGATE = re.compile(r"[\ud800-\udfff]")
"""A byte of a name or a command line that is not UTF-8."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Line breaks, other control characters, and bytes that are not UTF-8."""
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]*)?)\s*%")


def invalid(problem: str, hint: str = "", key: str = "") -> PydanticCustomError:
    """Return the error for a validator to raise; `key` names the invalid key of a section."""
    return PydanticCustomError("vram", "{problem}", {"problem": problem, "hint": hint, "key": key})


def _read_size(value: Any) -> Any:
    if not isinstance(value, (str, int)):
        raise invalid(f"expected a size such as 8GiB, got {format_value(value)}")
    try:
        return parse_bytes(value)
    except ConfigError as error:
        raise invalid(error.message, error.hint) from None


def _read_fraction(value: Any) -> Any:
    percent = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    fraction = float(percent[1]) / 100 if percent else value
    if isinstance(fraction, (int, float)) and not isinstance(fraction, bool) and fraction >= 1:
        raise invalid(f"expected a fraction below 1, got {format_value(value)}", "write 5 % or 0.05 for five percent")
    return fraction


def _read_shape(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise invalid(f"expected [channels, height, width], got {format_value(value)}", "for example [3, 224, 224]")
    return tuple(value)


def _check_device(name: str) -> str:
    if not re.fullmatch(_DEVICE, name):
        hint = "one of auto, cpu, cuda, cuda:N, mps, xpu; a ROCm GPU is cuda"
        raise invalid(f"unknown device {format_value(name)}{did_you_mean(name, _DEVICE_NAMES)}", hint)
    return name


def _read_sizes(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise invalid(
            f"expected a list of sizes, got {format_value(value)}", "such as [3, 224, 224], or [] for one number"
        )
    return tuple(value)


def _check_reference(reference: str) -> str:
    if not re.fullmatch(_REFERENCE, reference):
        raise invalid(
            f"expected module:name, got {format_value(reference)}",
            "such as mycode.models:build, or torchvision:vit_b_16",
        )
    return reference


def _check_checkpointing(text: str) -> str:
    every = re.fullmatch(r"every-(.*)", text)
    if every and not re.fullmatch(r"[1-9][0-9]*", every[1]):
        raise invalid(f"expected every-K, got {format_value(text)}", "such as every-2 for every second block")
    return text


def _check_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    def check(value: Any) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            hint = "kwargs reach the worker process as JSON, which has no infinity or NaN"
            raise invalid(f"expected a finite number, got {format_value(value)}", hint)
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
            check(part)

    check(arguments)
    return arguments


def _expand_home(root: str) -> str:
    if CONTROL.search(root):
        raise invalid(
            f"{format_value(root)} has characters that are not text, such as line breaks", "rename the folder"
        )
    if not root.startswith("~"):
        return root  # a Path would turn "./~" into "~"
    try:
        return str(Path(root).expanduser())
    except RuntimeError:
        hint = "~ is your own home; ./~ is a folder of that name"
        raise invalid(f"{format_value(root)} is not a home folder", hint) from None


def is_from_a_library(reference: str) -> bool:
    """Whether a reference names code of a library that needs nothing from the config's folder."""
    return reference.partition(":")[0].partition(".")[0] in _LIBRARIES


def format_value(value: Any) -> str:
    """Return a value in YAML, on one line and short enough for a message."""
    if isinstance(value, (list, tuple)):
        text = "[" + ", ".join(format_value(item) for item in value[:5]) + (", ...]" if len(value) > 5 else "]")
    elif isinstance(value, dict):
        text = "a mapping"
    elif value is None or isinstance(value, bool):
        text = "null" if value is None else str(value).lower()
    else:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


Count = Annotated[int, Field(ge=1, le=_INT64_MAX)]
"""A number of items: at least one."""

Seconds = Annotated[float, Field(gt=0, le=_MAX_SECONDS)]
"""A duration."""

Size = Annotated[
    int,
    BeforeValidator(_read_size),
    WithJsonSchema({"anyOf": [{"type": "string", "examples": ["8GiB", "512MiB"]}, {"type": "integer", "minimum": 1}]}),
]
"""A memory size; in bytes after parsing."""

Fraction = Annotated[
    float,
    BeforeValidator(_read_fraction),
    Field(ge=0, lt=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
                {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]*)?\s*%\s*$", "examples": ["5 %"]},
            ]
        }
    ),
]
"""A fraction: 0.05, or "5 %"."""

Shape = Annotated[tuple[Count, Count, Count], BeforeValidator(_read_shape)]
"""Channels, height and width of one sample."""

Sizes = Annotated[tuple[Count, ...], BeforeValidator(_read_sizes)]
"""Sizes of one sample's tensor without the batch dimension; [] for a single number."""

CodeReference = Annotated[
    str,
    AfterValidator(_check_reference),
    Field(json_schema_extra={"pattern": f"^{_REFERENCE}$", "examples": ["torchvision:vit_b_16", "mycode:build"]}),
]
"""Code to import: "package.module:name"."""

Arguments = Annotated[dict[str, Any], AfterValidator(_check_arguments)]
"""Keyword arguments."""

Checkpointing = Annotated[str, Field(min_length=1), AfterValidator(_check_checkpointing)]
"""none, full, every-K, or a pattern for names of modules."""

DeviceName = Annotated[
    str, AfterValidator(_check_device), Field(json_schema_extra={"pattern": f"^({_DEVICE})$", "examples": ["cuda:0"]})
]

Folder = Annotated[str, Field(min_length=1), AfterValidator(_expand_home)]
"""A path to a folder; "~" is the user's home."""
