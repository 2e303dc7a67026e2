"""The results file of a comparison: JSON Lines, with the comparison in the first line and a result in each other one.

Each result is flushed to disk before the next run starts, so an interrupted comparison resumes where it stopped. The
file is locked while it is open.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from vram_cli.compare.file_lock import FileLockedError, lock
from vram_cli.compare.records import ComparePlan, MemoryCheck, TrainingRun
from vram_cli.config_diff import describe_change, differing_keys, flatten
from vram_cli.errors import ConfigError
from vram_cli.records import SCHEMA_VERSION
from vram_cli.validation import first_problem

_HINT = "--results FILE stores this comparison elsewhere; --fresh discards the existing results"
_ELSEWHERE = "choose a writable location with --results FILE"
_START = b'{"kind": "comparison", '
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
_IRRELEVANT_KEYS = ("search", "data.root")
"""Config keys that do not affect results."""


@dataclass(frozen=True, kw_only=True)
class ComparisonKey:
    """Everything that results depend on: a file holds results of one key only."""

    kind: Literal["comparison"] = "comparison"

    config: dict[str, Any]
    plan: ComparePlan
    device: str
    """Device name."""
    versions: dict[str, str]
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True)
class MemoryCheckLine:
    """The memory check of a batch size; a later line replaces it."""

    kind: Literal["memory_check"] = "memory_check"
    memory_check: MemoryCheck


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A finished run."""

    kind: Literal["run"] = "run"
    run: TrainingRun


Line = ComparisonKey | MemoryCheckLine | RunLine
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


class ResultsFile:
    """An open results file. A context manager.

    Args:
        path: The file, which is created if it does not exist and resumed if it does.
        key: The comparison.
        fresh: Whether to discard existing results.

    Raises:
        ConfigError: The file cannot be written, was not written by vram, holds another comparison, or is being written
            by another process.
    """

    def __init__(self, path: Path, key: ComparisonKey, *, fresh: bool = False) -> None:
        self.memory_checks: dict[int, MemoryCheck] = {}
        """Memory checks by batch size."""
        self.runs: dict[tuple[int, int, int], TrainingRun] = {}
        """Runs by batch size, repeat and fold."""
        self._path = path
        self._file = self._open()
        try:
            self._lock()
            end = 0 if fresh else self._read(key)
            self._file.truncate(end)
            self._file.seek(end)
            if not end:
                self._write(key)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add_memory_check(self, memory_check: MemoryCheck) -> None:
        """Write a memory check, which replaces an earlier one of the same batch size."""
        self.memory_checks[memory_check.batch_size] = memory_check
        self._write(MemoryCheckLine(memory_check=memory_check))

    def add_run(self, run: TrainingRun) -> None:
        """Write a finished run."""
        self.runs[run.batch_size, run.repeat, run.fold] = run
        self._write(RunLine(run=run))

    def _write(self, line: Line) -> None:
        try:
            self._file.write(json.dumps(asdict(line)).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            hint = "free some disk space, then run the same command to resume"
            raise ConfigError(f"{self._path}: cannot be written: {error.strerror}", hint) from None

    def _open(self) -> IO[bytes]:
        if self._path.exists() and not self._path.is_file():
            raise ConfigError(f"{self._path}: cannot be written: it is no regular file", _ELSEWHERE)
        try:
            return os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | _BINARY, 0o666), "r+b")
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be written: {error.strerror}", _ELSEWHERE) from None

    def _lock(self) -> None:
        try:
            lock(self._file)
        except FileLockedError:
            hint = "wait for its end, or store this comparison elsewhere with --results FILE"
            raise ConfigError(f"{self._path}: another `vram compare` is writing its results there", hint) from None

    def _read(self, key: ComparisonKey) -> int:
        """Read the results, and return the offset of the end of the last complete line.

        Return 0 if there are no results: overwriting the key of another comparison then loses nothing.
        """
        try:
            content = self._file.read()
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read: {error.strerror}", _HINT) from None
        end, previous = content.rfind(b"\n") + 1, key
        if end == 0 and (content.startswith(_START) or _START.startswith(content)):
            return 0  # empty, or ended in its first write
        for number, text in enumerate(content[:end].splitlines(), 1):
            line = self._parse(text, number)
            if isinstance(line, ComparisonKey) != (number == 1):
                raise ConfigError(f"{self._path}:{number}: not a results file of vram compare", _HINT)
            if isinstance(line, ComparisonKey):
                previous = line
            elif isinstance(line, MemoryCheckLine):
                self.memory_checks[line.memory_check.batch_size] = line.memory_check
            else:
                self.runs[line.run.batch_size, line.run.repeat, line.run.fold] = line.run
        if end == 0:
            raise ConfigError(f"{self._path}: not a results file of vram compare", _HINT)
        if not (self.memory_checks or self.runs):
            return 0
        if difference := next(_differences(previous, key), None):
            raise ConfigError(f"{self._path} holds another comparison: {difference}", _HINT)
        return end

    def _parse(self, text: bytes, number: int) -> Line:
        try:
            return _LINE.validate_json(text)
        except ValidationError as error:
            problem = first_problem(error)
            raise ConfigError(f"{self._path}:{number}: not a line of vram compare: {problem}", _HINT) from None


def _differences(previous: ComparisonKey, current: ComparisonKey) -> Iterator[str]:
    for change in differing_keys(_flatten(previous), _flatten(current)):
        if not change[0].startswith(_IRRELEVANT_KEYS):
            yield describe_change(*change)


def _flatten(key: ComparisonKey) -> dict[str, Any]:
    versions = {f"the version of {name}": key.versions.get(name, "unknown") for name in ("vram", "torch")}
    return flatten(key.config) | flatten(asdict(key.plan)) | {"device": key.device} | versions
