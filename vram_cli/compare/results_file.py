"""The file of a comparison: JSON, one line for what is compared and one for each thing that is finished.

A line is on the disk before the next training begins. So whatever ends the program, no more than the training that ran
is lost: the same command finds what is there and goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from pydantic import TypeAdapter, ValidationError

from vram_cli.compare.records import ComparePlan, MemoryCheck, Run
from vram_cli.errors import ConfigError
from vram_cli.records import SCHEMA_VERSION

_ELSEWHERE = "--results FILE keeps this comparison elsewhere; --fresh throws away what is there"
_NO_MATTER = ("search", "data.root")
"""Keys of the config that no result depends on."""


@dataclass(frozen=True, kw_only=True)
class SimulatedTraining:
    """What is compared: lines of one file are about the same."""

    kind: Literal["subject"] = "subject"

    config: dict[str, Any]
    plan: ComparePlan
    device: str
    """Its name."""
    versions: dict[str, str]
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True)
class FitLine:
    """A size that was measured before the trainings."""

    kind: Literal["fit"] = "fit"
    fit: MemoryCheck


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A training that is finished."""

    kind: Literal["run"] = "run"
    run: Run


_LINE: TypeAdapter[SimulatedTraining | FitLine | RunLine] = TypeAdapter(SimulatedTraining | FitLine | RunLine)


class Journal:
    """An open file of a comparison. A context manager.

    Args:
        path: the file; made where it is not there, else read and gone on with.
        subject: what is compared.
        fresh: whether a file that is there is begun anew.

    Raises:
        ConfigError: the file cannot be written, is none of vram's, or is about something else.
    """

    def __init__(self, path: Path, subject: SimulatedTraining, *, fresh: bool = False) -> None:
        self.fits: dict[int, MemoryCheck] = {}
        """By batch size."""
        self.runs: dict[tuple[int, int, int], Run] = {}
        """By batch size, repeat and fold."""
        self._path = path
        is_new = fresh or not path.exists() or (path.is_file() and not path.stat().st_size)
        end = 0 if is_new else self._read(subject)
        self._file = self._opened(end)
        if not end:
            self._write(subject)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def keep_fit(self, fit: MemoryCheck) -> None:
        """Write down a size that was measured, in place of what was known of it."""
        self.fits[fit.batch_size] = fit
        self._write(FitLine(fit=fit))

    def keep_run(self, run: Run) -> None:
        """Write down a training that is finished."""
        self.runs[run.batch_size, run.repeat, run.fold] = run
        self._write(RunLine(run=run))

    def _write(self, line: SimulatedTraining | FitLine | RunLine) -> None:
        try:
            self._file.write(json.dumps(asdict(line)).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be written: {error.strerror}", "make room, and go on") from None

    def _opened(self, end: int) -> IO[bytes]:
        try:
            file = self._path.open("r+b" if end else "wb")
        except OSError as error:
            hint = "choose a place that you may write to, by --results FILE"
            raise ConfigError(f"{self._path}: cannot be written: {error.strerror}", hint) from None
        file.truncate(end)
        file.seek(end)
        return file

    def _read(self, subject: SimulatedTraining) -> int:
        """Read what is there, and return where it ends: a last line that was not finished is written over.

        0 where nothing but the subject is there: that is lost with no loss, whatever it was.
        """
        try:
            content = self._path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read: {error.strerror}", _ELSEWHERE) from None
        end, then = content.rfind(b"\n") + 1, subject
        for number, text in enumerate(content[:end].splitlines(), 1):
            line = self._line(text, number)
            if isinstance(line, SimulatedTraining) != (number == 1):
                raise ConfigError(f"{self._path}:{number}: not what vram compare writes there", _ELSEWHERE)
            if isinstance(line, SimulatedTraining):
                then = line
            elif isinstance(line, FitLine):
                self.fits[line.fit.batch_size] = line.fit
            else:
                self.runs[line.run.batch_size, line.run.repeat, line.run.fold] = line.run
        if end == 0:
            raise ConfigError(f"{self._path}: no file of vram compare", _ELSEWHERE)
        if not (self.fits or self.runs):
            return 0
        self._require_same(then, subject)
        return end

    def _line(self, text: bytes, number: int) -> SimulatedTraining | FitLine | RunLine:
        try:
            return _LINE.validate_json(text)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            raise ConfigError(f"{self._path}:{number}: not a line of vram compare: {problem}", _ELSEWHERE) from None

    def _require_same(self, then: SimulatedTraining, now: SimulatedTraining) -> None:
        if reason := next(_differences(then, now), None):
            raise ConfigError(f"{self._path} has another comparison in it: {reason}", _ELSEWHERE)


def _differences(then: SimulatedTraining, now: SimulatedTraining) -> Iterator[str]:
    pairs = [(_flat(side.config) | _flat(asdict(side.plan)) | {"device": side.device}) for side in (then, now)]
    for package in ("vram", "torch"):
        for side, flat in zip((then, now), pairs, strict=True):
            flat[f"the version of {package}"] = side.versions.get(package, "unknown")
    before, today = pairs
    for key in {**today, **before}:
        if before.get(key) != today.get(key) and not key.startswith(_NO_MATTER):
            yield f"{key} was {_shown(before.get(key))}, is {_shown(today.get(key))}"


def _flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return flat


def _shown(value: Any) -> str:
    return json.dumps(value)
