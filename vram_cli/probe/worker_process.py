"""The operating system's side of the child process: pipes, signals, resident memory, last words."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import psutil
from pydantic import TypeAdapter

from vram_cli.probe.messages import REPLY

POLL_SECONDS = 0.05
"""How long `receive` waits before the caller looks at limits again."""

HEAP_PAD = 128 * 1024
"""Bytes of free heap that glibc keeps when it grows or trims: little, since what is free there counts as taken
(`cpu.py`), and a large tensor that happens to find room in it gets that room twice. With 4 MiB the largest batch of a
small network under 32 MiB was anything from 1,699 to 1,835; with this it is 1,943 to 1,959."""

STEADY = {
    # glibc raises its mmap threshold as blocks are freed, after which freed batches stay in the heap; one arena and a
    # fixed threshold give every freed tensor back to the system, so that trials do not depend on those before. A low
    # one: with 64 KiB the activations of one or two samples left holes of 4 to 15 MiB in the heap, with 16 KiB 2 to 3.
    "MALLOC_MMAP_THRESHOLD_": "16384",
    "MALLOC_ARENA_MAX": "1",
    # Small objects come from a heap that grows by little at a time. Python's own arenas, 1 MiB each, would decide about
    # a batch.
    "MALLOC_TOP_PAD_": str(HEAP_PAD),
    "PYTHONMALLOC": "malloc",
    # MKL keeps the packed copies of matrices that it has multiplied.
    "MKL_DISABLE_FAST_MM": "1",
    # oneDNN keeps a kernel for every shape it has met: about 20 MiB a batch size for a ResNet-18.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0",
}
"""What makes memory on the CPU the same from trial to trial, at some cost of speed. For a child alone: its C runtime
and oneDNN read it as they start."""

_TOLD_LINES = 12
_CRASH = "Fatal Python error"  # as faulthandler begins

_START = """
import sys
sys.path = [folder for folder in sys.path if folder]
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("vram_cli", sys.argv.pop())
sys.modules["vram_cli"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["vram_cli"])
from importlib import import_module
import_module(sys.argv.pop()).main()
"""
"""`python -m` looks for modules in the current folder first, and a file there may bear the name of one of Python's own.
So that folder is left out, and vram is imported from where this process has it."""

_PACKAGE = os.fspath(Path(__file__).resolve().parents[1] / "__init__.py")


class WorkerProcess:
    """A running worker, with additions to this process's environment.

    Args:
        environment: variables that are added to this process's own.
        entry: the module whose `main` the process runs.
        replies: reads a line of the worker.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        entry: str = "vram_cli.probe.worker.main",
        replies: TypeAdapter[Any] = REPLY,
    ) -> None:
        self._adapter = replies
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self._replies: queue.Queue[bytes | None] = queue.Queue()
        self.process = subprocess.Popen(  # noqa: S603 - our own code, in our own Python
            [sys.executable, "-c", _START, entry, _PACKAGE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **environment},
        )
        self._stdin = cast("IO[bytes]", self.process.stdin)
        self._stdout = cast("IO[bytes]", self.process.stdout)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.gone = False

    def send(self, line: bytes) -> None:
        """Send one line; a child that is gone is noticed by `receive`."""
        with contextlib.suppress(OSError):
            self._stdin.write(line + b"\n")
            self._stdin.flush()

    def receive(self) -> Any:
        """Return the next reply, or None where there is none within `POLL_SECONDS` or the child is `gone`."""
        try:
            line = self._replies.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return None
        if line is None:
            self.process.wait()
            self.gone = True
            return None
        return self._adapter.validate_json(line)

    def resident_bytes(self) -> int:
        """Return the child's resident memory, 0 where it is gone."""
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    @property
    def left(self) -> bool:
        """Whether a child that is gone has ended itself, and not by a signal."""
        return self.process.returncode is not None and self.process.returncode >= 0

    @property
    def was_killed(self) -> bool:
        """Whether a child that is gone was killed from outside, as the kernel does where memory runs out."""
        return self.process.returncode == -signal.SIGKILL

    def how_it_ended(self) -> str:
        """Say how a child that is gone ended, for a sentence that begins with it."""
        code = self.process.returncode
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    @property
    def last_words(self) -> str:
        """The last line that the child wrote to standard error; of a crash, the first."""
        words = [line.strip() for line in self.told()]
        return words[0] if words and words[0].startswith(_CRASH) else next(filter(None, reversed(words)), "")

    def told(self) -> list[str]:
        """Return the last lines that the child wrote to standard error; of a crash, the first, which say where."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").splitlines()
        crash = next((i for i, line in enumerate(lines) if line.startswith(_CRASH)), None)
        return lines[-_TOLD_LINES:] if crash is None else lines[crash : crash + _TOLD_LINES]

    def end(self) -> None:
        """Kill the child and free what belonged to it. GPU memory is free once the process is reaped."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(BrokenPipeError):  # buffered words to a child that was killed
                stream.close()

    def _read(self) -> None:
        for line in self._stdout:
            self._replies.put(line)
        self._replies.put(None)
