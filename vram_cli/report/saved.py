"""Results as JSON: printed by `--json`, saved by `--save`, read and checked again by `vram show`.

One object with the fields of `Result`, or of `Advice` where `command` is "advise". Each trial of a result carries
`peak_allocated_bytes` and `peak_reserved_bytes` besides: they follow from its phases, so that readers of the file need
not work them out, and loading checks that they agree.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vram_cli.errors import ConfigError
from vram_cli.records import SCHEMA_VERSION, Advice, Measurement, Result
from vram_cli.report.words import one_line

MAX_FILE_BYTES = 32 * 1024**2
"""More than a thousand times what a search of a dozen trials takes."""

_RUN_AGAIN = "show a file that find-batch, breakdown or advise wrote by --save, or run one of them again"


def to_json(result: Any) -> str:
    """Return the result as one JSON object, in ASCII, so that every terminal and pipe can take it.

    `result.config` has to hold plain JSON values.
    """
    document = {"schema_version": result.schema_version} | asdict(result)
    if isinstance(result, Result):
        for written, trial in zip(document["trials"], result.trials, strict=True):
            written.update(_peaks(trial))
    return json.dumps(document, indent=2)


def from_json(text: str, where: str) -> Result | Advice:
    """Read a result back; `where` names the text in messages.

    Raises:
        ConfigError: the text is not JSON, is of another schema version, lacks a field or has a wrong one, or its
            figures contradict each other.
    """
    try:
        document = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON: {one_line(str(error))}", _RUN_AGAIN) from None
    _check_version(document, where)
    is_advice = document.get("command") == "advise"
    try:
        result: Result | Advice = _adapter(is_advice=is_advice).validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_problem(error)}", _RUN_AGAIN) from None
    if isinstance(result, Result):
        _check_peaks(document, result, where)
    return result


def save(result: Result | Advice, path: Path, *, force: bool = False) -> None:
    """Write a result as JSON: the whole file or nothing. An existing file is replaced only with `force`.

    Raises:
        ConfigError: the place cannot be written, or the file exists.
    """
    write(to_json(result) + "\n", path, force=force)


def write(content: str | bytes, path: Path, *, force: bool = False) -> None:
    """Write a file: the whole of it or nothing. An existing one is replaced only with `force`.

    Raises:
        ConfigError: the place cannot be written, or the file exists.
    """
    check_writable(path, force=force)
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if isinstance(content, bytes):
            unfinished.write_bytes(content)
        else:
            unfinished.write_text(content, encoding="utf-8")
        unfinished.replace(target)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        unfinished.unlink(missing_ok=True)


def check_writable(path: Path, *, force: bool = False) -> None:
    """Check that `write` would work, so that nobody learns after a long run that it does not.

    Raises:
        ConfigError: as `write` does.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", f"name a file in it, such as {path / 'run.json'}")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}", f"make it first: mkdir -p {path.parent}")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is not a regular file", "name a file; --json prints the result to stdout")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already", "choose another name, or add --force to replace it")
    try:
        # The only sure way to know: permissions say little to root, on a read-only disk, or on Windows.
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None


def load(path: Path) -> Result:
    """Read a saved result of a search or a breakdown.

    Raises:
        ConfigError: as `load_any` does, or it is neither.
    """
    result = load_any(path)
    if isinstance(result, Advice):
        raise ConfigError(f"{path}: is what `vram advise` saved", "name a file of `vram breakdown --save`")
    return result


def load_any(path: Path) -> Result | Advice:
    """Read a saved result.

    Raises:
        ConfigError: there is no such file, it cannot be read, is far too large, or is not a saved result.
    """
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder", _RUN_AGAIN)
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", _RUN_AGAIN) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than any result of vram", _RUN_AGAIN)
    return from_json(content.decode("utf-8", errors="replace"), str(path))


@cache
def _adapter(*, is_advice: bool) -> TypeAdapter[Any]:
    return TypeAdapter(Advice if is_advice else Result)


def _peaks(trial: Measurement) -> dict[str, int]:
    return {"peak_allocated_bytes": trial.peak_allocated_bytes, "peak_reserved_bytes": trial.peak_reserved_bytes}


def _finite(text: str) -> float:
    # Python reads NaN, Infinity and 1e999; JSON knows none of them, and no measurement gives one.
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _check_version(document: object, where: str) -> None:
    version = document.get("schema_version") if isinstance(document, dict) else None
    if type(version) is not int:
        raise ConfigError(f"{where}: not a result of vram: it has no schema_version", _RUN_AGAIN)
    if version > SCHEMA_VERSION:
        problem = f"{where}: schema_version is {version}, and this vram reads {SCHEMA_VERSION}"
        raise ConfigError(problem, "a newer vram wrote it: pip install --upgrade vram-cli")
    if version < SCHEMA_VERSION:
        raise ConfigError(f"{where}: schema_version is {version}, which no vram ever wrote", _RUN_AGAIN)


def _check_peaks(document: dict[str, Any], result: Result, where: str) -> None:
    for index, (written, trial) in enumerate(zip(document["trials"], result.trials, strict=True)):
        for key, value in _peaks(trial).items():
            if written.get(key) != value:
                problem = f"{where}: trials[{index}].{key} should be {value}, the highest of its phases"
                raise ConfigError(problem, _RUN_AGAIN)


def _problem(error: ValidationError) -> str:
    """Return the first problem: which field, and what is wrong with it."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    if first["type"] == "missing":
        return f"{field} is missing"
    text = first["msg"].removeprefix("Value error, ")
    return one_line(f"{field}: {text[:1].lower()}{text[1:]}")


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: cannot be written: {error.strerror}", "choose a folder that you may write to")
