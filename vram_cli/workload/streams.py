"""Samples of a stream: an IterableDataset or a generator, read once, for as long as it may take."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from vram_cli.errors import ConfigError
from vram_cli.workload.sample_sizes import MAX_SAMPLES_MEASURED, MAX_SECONDS, SampleSize, size_of
from vram_cli.workload.user_code import errors_from

MAX_STREAM_SAMPLES = 100_000
"""Samples after which a stream counts as endless."""
FIRST_SAMPLE_SECONDS = 30.0
"""Time limit of the first sample, for which files are opened and buffers filled."""

_MAX_KEPT_BYTES = 256 * 2**20


@dataclass
class Stream:
    """The samples of a stream that are kept, and what was seen of the others.

    The same samples make all batches: a stream may differ each time it is read.
    """

    samples: list[Any] = field(default_factory=list)
    """The largest samples."""
    count: int = 0
    """Samples that were looked at."""
    length: int | None = None
    """Samples that there are; None if no end was seen."""
    differ: bool = False
    """Whether their sizes differ."""


def read_stream(stream: Iterable[Any], reference: str) -> Stream:
    """Read a stream to its end, or for seconds; in a thread, since it may block.

    A stream that has a length ends there.

    Raises:
        ConfigError: it gives no sample.
    """
    _seed()
    reader = _Reader(stream, _length_of(stream))
    thread = threading.Thread(target=reader.run, daemon=True)
    thread.start()
    reader.first.wait(FIRST_SAMPLE_SECONDS)
    thread.join(MAX_SECONDS if reader.read.count else 0.0)
    read, has_ended = reader.stop(), not thread.is_alive()
    if reader.error is not None:
        with errors_from("data.factory"):
            raise reader.error
    if not read.count:
        problem = "ends without a sample" if has_ended else f"gives no sample within {FIRST_SAMPLE_SECONDS:.0f} s"
        raise ConfigError(
            f"data.factory: {reference}: the stream {problem}",
            "check that next(iter(dataset)) returns one in a process without workers",
        )
    return read


class _Reader:
    """Reads a stream, and keeps the largest samples."""

    def __init__(self, stream: Iterable[Any], length: int | None) -> None:
        self._stream, self._length = stream, length
        self._lock, self._is_stopped = threading.Lock(), False
        self._kept: list[tuple[SampleSize, Any]] = []
        self._kept_bytes = 0
        self._sizes: set[int] = set()
        self.read = Stream(length=length)
        self.first = threading.Event()
        """Set once there is a sample, or there will be none."""
        self.error: BaseException | None = None

    def run(self) -> None:
        end = time.monotonic() + FIRST_SAMPLE_SECONDS + MAX_SECONDS
        try:
            for sample in islice(self._stream, self._length):
                if not self._add(sample) or self.read.count == MAX_STREAM_SAMPLES or time.monotonic() > end:
                    return
            self.read.length = self.read.count
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.error = error
        finally:
            self.first.set()

    def stop(self) -> Stream:
        """Return what was read so far; a sample that comes later is dropped."""
        with self._lock:
            self._is_stopped = True
            self._drop_smallest()
            self.read.samples = [sample for _, sample in self._kept]
            self.read.differ = len(self._sizes) > 1
            return self.read

    def _add(self, sample: Any) -> bool:
        """Add a sample; return whether it is still wanted."""
        size = size_of(sample)
        with self._lock:
            if self._is_stopped:
                return False
            self._kept.append((size, sample))
            self._kept_bytes += size.order[0]
            self._sizes.add(size.order[0])
            self.read.count += 1
            if len(self._kept) > 2 * MAX_SAMPLES_MEASURED or self._kept_bytes > 2 * _MAX_KEPT_BYTES:
                self._drop_smallest()
        self.first.set()
        return True

    def _drop_smallest(self) -> None:
        self._kept.sort(key=lambda kept: kept[0].order, reverse=True)
        total = number = 0
        for size, _ in self._kept[:MAX_SAMPLES_MEASURED]:
            total += size.order[0]
            if number and total > _MAX_KEPT_BYTES:
                break
            number += 1
        del self._kept[number:]
        self._kept_bytes = sum(size.order[0] for size, _ in self._kept)


def _seed() -> None:
    """Let a random stream give the same samples to each worker process of a search."""
    torch.manual_seed(0)
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


def _length_of(stream: Iterable[Any]) -> int | None:
    try:
        return len(stream)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None
