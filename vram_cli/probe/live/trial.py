"""A trial of a live training: its modules, optimizers and batches are those that run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from vram_cli.probe.devices.monitor import MemoryMonitor
from vram_cli.probe.live.found import FoundModules, LivePhases
from vram_cli.probe.live.make_training import MakeTraining, steps_of
from vram_cli.probe.worker.memory_trial import MemoryTrial
from vram_cli.records import Category, Detail, Measurement, Phase
from vram_cli.workload import Batch, Workload, tensors_of
from vram_cli.workload.workload import Enter


class LiveTrial(MemoryTrial):
    """Runs the training that a function makes for one batch size.

    Args:
        make_training: the user's function.
        monitor, on_phase, detail, watches_growth: as for `MemoryTrial`.
    """

    def __init__(
        self,
        make_training: MakeTraining,
        monitor: MemoryMonitor,
        on_phase: Callable[[Phase], None],
        detail: Detail = Detail.NONE,
        *,
        watches_growth: bool = True,
    ) -> None:
        super().__init__(monitor, on_phase, detail, watches_growth=watches_growth)
        self._make_training = make_training

    def run_live(self, batch_size: int, steps: int) -> tuple[Measurement, bool]:
        """Return the measurement, and whether the process may be poisoned.

        Raises:
            ConfigError: the function returns something else than a training.
        """
        return self.run_built(lambda: (self._built(batch_size, steps), ()), batch_size, steps)

    def _built(self, batch_size: int, steps: int) -> Workload:
        self._start_phase(Phase.BUILD)
        run_next = steps_of(self._make_training, batch_size, steps)
        modules = FoundModules()

        def step(work: Workload, batch: Batch, enter: Enter) -> torch.Tensor:
            phases = LivePhases(
                work,
                modules,
                self._entering(enter),
                on_inputs=self._label_inputs,
                on_found=lambda: self._label(work, batch),
            )
            # A step that has run without a module does so again: nothing tells where its forward pass begins.
            with phases.tracking(Phase.FORWARD if self._steps and not len(modules) else Phase.BATCH):
                run_next()
            return torch.empty(0)

        return Workload(
            model=modules,
            loss=_no_loss,
            optimizer=None,
            device=self._monitor.device,
            step=step,
            scaler=torch.amp.GradScaler(self._monitor.device.type, enabled=False),
        )

    def _entering(self, enter: Enter) -> Enter:
        """Return a function that enters phases, and labels what was made for the forward pass as it begins."""

        def entering(phase: Phase) -> None:
            if phase is Phase.FORWARD:
                self._monitor.tracker.label_unknown(Phase.BATCH, Category.BATCH_DATA)
            enter(phase)

        return entering

    def _label_inputs(self, inputs: Any) -> None:
        self._counting(lambda: self._monitor.tracker.label_inputs(tensors_of(inputs), Category.BATCH_DATA))

    def _label(self, work: Workload, batch: Batch) -> None:
        self._counting(lambda: super(LiveTrial, self)._label(work, batch))

    def _counting(self, label: Callable[[], None]) -> None:
        """Label storages, and count those that are older than the trial."""
        before = self._monitor.tracker.live_bytes
        label()
        if older := self._monitor.tracker.live_bytes - before:
            self._monitor.count_as_used(older)

    def _batch_bytes(self, batch: Batch) -> int:  # noqa: ARG002 - the training makes its own
        """Return all bytes where only tracked steps know those of the batch, so that what is resident is unknown."""
        monitor = self._monitor
        if monitor.has_peak_counters:
            return monitor.allocated_bytes()
        return monitor.tracker.live_bytes_of(Category.BATCH_DATA)


def _no_loss(*_: object) -> torch.Tensor:
    raise NotImplementedError("a live training computes its loss itself")
