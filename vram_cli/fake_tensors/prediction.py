"""The probe that answers for a GPU that is not there: the same questions and the same records as the real ones."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from vram_cli.accounting.attribution import explained
from vram_cli.allocator.allocation_trace import AllocationTrace, Line, line_through
from vram_cli.allocator.replay import ReplayResult, play
from vram_cli.allocator.settings import DEFAULT_SETTINGS, AllocatorSettings
from vram_cli.allocator.snapshot import snapshot_of, write_snapshot
from vram_cli.config import Config
from vram_cli.errors import ConfigError, VramError
from vram_cli.fake_tensors.simulated_training import SimulatedTraining, subject_of
from vram_cli.fake_tensors.simulation import Simulation, running_version
from vram_cli.hardware.accuracy import accuracy_of
from vram_cli.hardware.calibration import NO_ALLOWANCES, Calibration
from vram_cli.hardware.gpus import Gpu
from vram_cli.records import Breakdown, BreakdownRow, Category, DataInfo, Device, Measurement, Outcome
from vram_cli.units import format_bytes
from vram_cli.workload import error_summary


class FakeTensorProbe:
    """Measures batch sizes on fake tensors and a model of the allocator; a context manager like the real probe.

    Where two simulations differ in nothing but bytes, each storage is `a + b * n`, and other sizes are read off that
    line. The two sizes that prove an answer are simulated themselves: one that fails while the one below it fits, and
    one that is measured afresh. A size that contradicts the line ends it; from then on every size is simulated. What
    was read off it by then may be wrong: a size that fits is measured afresh before it is an answer, and no size is
    said to fail before the edge that the line has below it has been simulated.

    Args:
        config: what to train.
        gpu: the card.
        settings: of the caching allocator.
        calibration: of the card: its memory and context in place of the catalogue's, and allowances for workspaces.
        overhead_bytes: of the card's memory, what lies outside PyTorch's allocator; None takes the card's context.
        capacity_bytes: makes the card act as one of another size.
        subject: what to train in place of the config's own model, data and step.

    Raises:
        ConfigError: nothing is left of the card beside the overhead.
    """

    def __init__(
        self,
        config: Config,
        gpu: Gpu,
        *,
        settings: AllocatorSettings = DEFAULT_SETTINGS,
        calibration: Calibration | None = None,
        overhead_bytes: int | None = None,
        capacity_bytes: int | None = None,
        subject: SimulatedTraining | None = None,
    ) -> None:
        own, data = subject_of(config)
        self.data: DataInfo = data
        allowances = NO_ALLOWANCES
        if calibration is not None:
            gpu, allowances = calibration.applied_to(gpu), calibration.allowances_for(running_version())
        self._simulation = Simulation(
            subject or own,
            gpu,
            tf32=config.precision == "tf32",
            cudnn_benchmark=config.device.cudnn_benchmark,
            allowances=allowances,
        )
        self._settings, self._steps = settings, config.search.steps
        self._total = capacity_bytes or gpu.memory_bytes
        self.outside_bytes = gpu.context_bytes if overhead_bytes is None else overhead_bytes
        if self.outside_bytes >= self._total:
            raise ConfigError(
                f"an overhead of {format_bytes(self.outside_bytes)} leaves nothing of {format_bytes(self._total)}",
                "give a smaller --overhead or a larger --memory-limit",
            )
        self.device = Device(
            kind="simulated",
            name=gpu.product,
            type="cuda:0",
            capacity_bytes=self._total,
            memory_limit_bytes=capacity_bytes,
            limit_enforced_by="a model of the CUDA caching allocator",
            accuracy=_accuracy(gpu, calibration, own_overhead=overhead_bytes is not None),
        )
        self._tapes: dict[int, AllocationTrace] = {}
        self._line: Line | None = None
        self._straight = True
        self._edge: int | None = None
        """A size that fails on the line while the one below it fits; it has been simulated."""

    def __enter__(self) -> FakeTensorProbe:
        """Start; nothing is held that would have to be given back."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""

    @property
    def capacity_bytes(self) -> int:
        """What PyTorch's allocator may reserve."""
        return self._total - self.outside_bytes

    def measure(self, batch_size: int, *, explain: bool = False) -> Measurement:
        """Predict a batch size. With `explain` the measurement carries a breakdown."""
        if self._line is not None and batch_size not in self._tapes:
            predicted = self._measure(batch_size, self._line.at(batch_size), explain=explain)
            if predicted.fits or self._fails_for_sure(batch_size):
                return predicted
        return self.measure_afresh(batch_size, explain=explain)

    def _fails_for_sure(self, n: int) -> bool:
        """Whether a simulation agrees with the line, by which a size fails, where it begins to say so."""
        if self._fits_on_the_line(n - 1):
            return False  # it is the edge itself
        if self._edge is None or n < self._edge:
            fits, fails = 0, n - 1
            while fails - fits > 1:
                middle = (fits + fails) // 2
                fits, fails = (middle, fails) if self._fits_on_the_line(middle) else (fits, middle)
            self._edge = fails
            if self.measure_afresh(fails, explain=False).outcome is not Outcome.OUT_OF_MEMORY:
                return False
        return self._line is not None

    def _fits_on_the_line(self, n: int) -> bool:
        if self._line is None or n < 1:
            return True
        return play(self._line.at(n), self.capacity_bytes, self._settings, steps=self._steps).failure is None

    def measure_afresh(self, batch_size: int, *, explain: bool = True, detail: bool = False) -> Measurement:
        """Predict a batch size by a simulation of its own. With `detail` its breakdown has modules and a timeline."""
        began = time.perf_counter()
        try:
            tape = self._tape(batch_size)
        except VramError:  # unsupported, or a config that names code which cannot be used
            raise
        except Exception as error:  # noqa: BLE001 - whatever the user's model raises is an outcome
            return Measurement(
                batch_size=batch_size,
                outcome=Outcome.ERROR,
                seconds=time.perf_counter() - began,
                message=error_summary(error),
                traceback="".join(traceback.format_exception(error)),
            )
        measured = self._measure(batch_size, tape, explain=explain or detail)
        if measured.breakdown is not None and detail:
            measured = replace(measured, breakdown=explained(measured.breakdown, tape))
        return replace(measured, seconds=time.perf_counter() - began)

    def save_snapshot(self, batch_size: int, path: Path) -> None:
        """Write the run at a batch size as a snapshot for PyTorch's memory_viz; one that runs out of memory too.

        Raises:
            ConfigError: the file cannot be written.
        """
        write_snapshot(snapshot_of(self._tape(batch_size), self.capacity_bytes, self._settings), path)

    def _tape(self, n: int) -> AllocationTrace:
        if n not in self._tapes:
            tape = self._tapes[n] = self._simulation.tape(n)
            if self._line is not None and self._line.at(n) != tape:
                self._line, self._straight = None, False
            if self._line is None and self._straight:
                self._line = self._find_line(n)
        return self._tapes[n]

    def _find_line(self, n: int) -> Line | None:
        """Return the line through this size and another one, and none that a third size contradicts."""
        for m in self._tapes:
            small, large = sorted((n, m))
            line = line_through(self._tapes[small], small, self._tapes[large], large) if n != m else None
            if line is not None:
                return line
        return None

    def _measure(self, n: int, tape: AllocationTrace, *, explain: bool) -> Measurement:
        began = time.perf_counter()
        played = play(tape, self.capacity_bytes, self._settings, steps=self._steps)
        failure = played.failure
        return Measurement(
            batch_size=n,
            outcome=Outcome.FITS if failure is None else Outcome.OUT_OF_MEMORY,
            phase=played.failed_phase,
            peaks=played.peaks,
            resident_bytes=played.resident_bytes,
            allocator_retries=played.retries,
            steps=played.steps,
            seconds=time.perf_counter() - began,
            message=_words(played),
            requested_bytes=failure.requested_bytes if failure else None,
            held_bytes=failure.allocated_bytes if failure else None,
            flops=self._simulation.flops.get(n),
            breakdown=self._breakdown(n, played) if explain and failure is None else None,
        )

    def _breakdown(self, n: int, played: ReplayResult) -> Breakdown:
        totals = Counter(played.at_peak)
        totals[Category.ALLOCATOR_SLACK] = played.reserved_bytes - sum(played.at_peak.values())
        totals[Category.CONTEXT] = self.outside_bytes
        totals[Category.FREE] = self.capacity_bytes - played.reserved_bytes
        return Breakdown(
            batch_size=n,
            rows=tuple(BreakdownRow(category=category, bytes=totals[category]) for category in Category),
            total_bytes=self._total,
            peak_phase=played.peak_phase,
        )


def _accuracy(gpu: Gpu, calibration: Calibration | None, *, own_overhead: bool) -> str:
    calibrated = calibration.words(running_version(), own_overhead=own_overhead) if calibration else ""
    return "; apart from that, ".join(filter(None, (calibrated, accuracy_of(gpu.vendor))))


def _words(played: ReplayResult) -> str:
    """Say what broke: "fails in layer3.1.conv2 backward (aten.convolution_backward), wanting 410 MiB"."""
    if played.failure is None or played.failed_storage is None or played.failed_phase is None:
        return ""
    storage = played.failed_storage
    where = " ".join(filter(None, (storage.module, played.failed_phase.value)))
    operation = f" ({storage.op})" if storage.op else ""
    return f"fails in {where}{operation}, wanting {format_bytes(played.failure.requested_bytes)}"
