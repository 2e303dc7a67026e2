"""A probe that stands in for one that runs a training script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from vram_cli import load_config
from vram_cli.config import Config
from vram_cli.records import (
    Detail,
    Device,
    LoaderInfo,
    Measurement,
    Outcome,
    Phase,
    PhasePeak,
    RunInfo,
    ScriptInfo,
)

from .fakes import MIB, FakeMemory

WITH_N = ("python3", "train.py", "--batch-size", "{n}")
WITHOUT_N = ("python3", "train.py")


def script_config(*overrides: str, command: tuple[str, ...] = WITH_N) -> Config:
    return load_config(None, [*overrides], command)


@dataclass
class FakeScript:
    """Opens probes of a script of 64 samples a batch; `opened` and `measured` record what commands ask for.

    Attributes:
        validation_bytes: the reserved peak of validation; None for a script without one.
        error: raised by the trial of validation.
        failure: the outcome of every trial, if not that of its memory.
    """

    num_samples: int | None = None
    batch_size: int | None = 64
    validation_bytes: int | None = None
    error: BaseException | None = None
    failure: Measurement | None = None
    is_gpu: bool = False
    opened: list[Config] = field(default_factory=list)
    measured: list[tuple[int, Detail]] = field(default_factory=list)

    @contextmanager
    def __call__(self, config: Config, **_: Any) -> Iterator[FakeScript]:
        self.opened.append(config)
        yield self

    @property
    def info(self) -> RunInfo:
        config = self.opened[-1]
        assert config.script is not None
        loaders = (
            LoaderInfo(line="train.py:8", batch_size=64, num_samples=self.num_samples, trains=True),
            LoaderInfo(line="train.py:9", batch_size=1000, num_samples=10, trains=False),
        )
        return RunInfo(
            config_name=config.source.name,
            config=config.model_dump(mode="json"),
            overrides=config.source.overrides,
            device=Device(
                kind="real", name="test", type="cuda:0" if self.is_gpu else "cpu", capacity_bytes=self._capacity
            ),
            data=None,
            versions={},
            script=ScriptInfo(
                command=config.script.command,
                batch_size=self.batch_size,
                set_in="" if config.script.takes_batch_size else "train.py:8",
                loaders=loaders,
            ),
        )

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        self.measured.append((batch_size, detail))
        if self.failure is not None:
            return replace(self.failure, batch_size=batch_size)
        trial = FakeMemory(self._capacity, MIB, 80_000)(batch_size)
        if detail is not Detail.VALIDATION:
            return trial
        if self.error is not None:
            raise self.error
        return self._with_validation(trial)

    confirm = measure

    @property
    def _capacity(self) -> int:
        # Segments that can grow leave no gaps.
        return (120 if self.opened[-1].device.expandable_segments else 100) * MIB

    def _with_validation(self, trial: Measurement) -> Measurement:
        size = self.validation_bytes
        if size is None:
            return trial
        peak = PhasePeak(phase=Phase.VALIDATION, allocated_bytes=size, reserved_bytes=size)
        trial = replace(trial, peaks=(*trial.peaks, peak))
        fits = size <= self._capacity
        return trial if fits else replace(trial, outcome=Outcome.OUT_OF_MEMORY, phase=Phase.VALIDATION)
