"""The runner of faults: each is a line of bash in a folder of its own, and what it must leave behind."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO
from uuid import uuid4

import psutil

ROOT = Path(__file__).parents[2]
PARALLEL = 2
_MARK = "VRAM_FAULT"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, how it is caused, and the answer that is right."""

    name: str
    command: str
    """Run by bash in a new folder, with `vram` of this checkout and its `python`. Its exit code is judged.

    Bash lets background processes ignore SIGINT; `set -m` or `timeout --preserve-status -s INT 1 vram` avoids that.
    """
    code: int | tuple[int, ...]
    """The exit code, or those of which each is right."""
    stdout: str = ""
    """A pattern that stdout must match somewhere; "^$" for nothing."""
    stderr: str = ""
    """A pattern that stderr must match somewhere; "^$" for nothing."""
    never: str = "Traceback"
    """A pattern that neither stdout nor stderr may match."""
    seconds: float = 60
    """The time that the command may take."""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    """Files in the folder before the command."""
    unharmed: Sequence[str] = ()
    """Those that must have the same content after it."""
    leaves: Sequence[str] | None = None
    """All names in the folder after it, if they matter."""
    check: Callable[[Path], str] | None = None
    """Looks at the folder after it, and returns what is wrong with it, or ""."""
    possible: Callable[[], bool] = lambda: True
    """Whether this machine can cause the fault."""


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    orphans: int


def report(modules: Mapping[str, Sequence[Fault]]) -> int:
    """Try faults, print the wrong answers and a table of counts, and return the exit code: 1 if one is wrong."""
    any_wrong, table = False, []
    for name, faults in modules.items():
        possible = [fault for fault in faults if fault.possible()]
        wrong = 0
        with ThreadPoolExecutor(PARALLEL) as pool:
            for fault, problem in zip(possible, pool.map(problem_of, possible), strict=True):
                if problem:
                    wrong += 1
                    _say(f"wrong: {name}: {fault.name}\n    $ {fault.command}\n    {problem}")
        if faults:
            table.append(f"{name:<16}{len(possible):>6} tried{wrong:>6} wrong{len(faults) - len(possible):>6} skipped")
        any_wrong = any_wrong or wrong > 0
    _say("\n".join(table))
    return int(any_wrong)


def problem_of(fault: Fault) -> str:
    """Cause a fault, and return what is wrong with the answer, or ""."""
    folder = Path(tempfile.mkdtemp(prefix="vram-fault-"))
    try:
        for name, content in fault.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return "; ".join(_problems(fault, _outcome(fault, folder), folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _problems(fault: Fault, outcome: Outcome, folder: Path) -> Iterator[str]:
    codes = fault.code if isinstance(fault.code, tuple) else (fault.code,)
    said = f": {outcome.stderr[-300:]!r}"
    if outcome.code == 124 and outcome.seconds >= fault.seconds:
        yield f"took {outcome.seconds:.0f} s{said}"
    elif outcome.code not in codes:
        yield f"exit code {outcome.code} instead of {' or '.join(map(str, codes))}{said}"
    for name, pattern, text in (("stdout", fault.stdout, outcome.stdout), ("stderr", fault.stderr, outcome.stderr)):
        if not re.search(pattern, text):
            yield f"{name} lacks {pattern!r}: {text[-300:]!r}"
    if fault.never and (found := re.search(fault.never, outcome.stdout + outcome.stderr)):
        yield f"prints {found[0]!r}{said}"
    if outcome.orphans:
        yield f"leaves {outcome.orphans} processes"
    for name in fault.unharmed:
        content = fault.files[name]
        path = folder / name
        if not path.exists() or path.read_bytes() != (content if isinstance(content, bytes) else content.encode()):
            yield f"{name} is harmed"
    if fault.leaves is not None and (left := sorted(path.name for path in folder.iterdir())) != sorted(fault.leaves):
        yield f"leaves the files {left}"
    if fault.check is not None and (problem := fault.check(folder)):
        yield problem


def _outcome(fault: Fault, folder: Path) -> Outcome:
    mark, started = uuid4().hex, time.monotonic()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        # Files instead of pipes: a process that is left behind cannot make this one wait.
        process = subprocess.Popen(
            ["bash", "-c", fault.command],
            cwd=folder,
            env=_environment(mark),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            code = process.wait(fault.seconds)
        except subprocess.TimeoutExpired:
            code = 124
        seconds = time.monotonic() - started
        orphans = _end_marked(mark, is_over=code != 124)
        process.wait()
        return Outcome(code, _text(stdout), _text(stderr), seconds, orphans)


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def _environment(mark: str) -> dict[str, str]:
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    folder = os.environ.get("VRAM_CONFIG_DIR", tempfile.gettempdir() + "/vram-faults-no-calibrations")
    own = {"PATH": f"{_programs()}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "VRAM_CONFIG_DIR": folder}
    return {**variables, **own, "OMP_NUM_THREADS": "1", _MARK: mark}


@cache
def _programs() -> Path:
    """Return a folder with `vram` and `python`: programs, so that `$!` is the process of vram and not of a shell."""
    folder = Path(tempfile.mkdtemp(prefix="vram-fault-programs-"))
    atexit.register(shutil.rmtree, folder)
    for name, line in {"vram": f'"{sys.executable}" -m vram_cli "$@"', "python": f'"{sys.executable}" "$@"'}.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\nexec {line}\n", encoding="utf-8")
        program.chmod(0o755)
    return folder


def _end_marked(mark: str, *, is_over: bool) -> int:
    """End all processes that a command has started, and return their number, unless it was cut short."""
    if is_over:
        time.sleep(0.2)  # a worker that is being reaped is no orphan
    found = [process for process in psutil.process_iter() if _mark_of(process) == mark]
    for process in found:
        process.kill()
    return len(found) if is_over else 0


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(_MARK)
    except psutil.Error:
        return None


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
