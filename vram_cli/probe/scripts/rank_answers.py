"""The answers of the processes that run one trial of a script: one, or several ranks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from vram_cli.errors import ConfigError
from vram_cli.probe.messages import PhaseStarted, Refused
from vram_cli.probe.ranks.merged_ranks import RankTrial, merge_ranks
from vram_cli.probe.scripts.messages import ANSWER, ScriptDone
from vram_cli.records import Measurement, Outcome, Phase


@dataclass
class RankAnswers:
    """Collects the answers of a trial, until all ranks have answered or one has failed.

    Attributes:
        batch_size: that of the trial.
        on_phase: called as the first rank begins a phase.
        declared: ranks for which one process stands, in a prediction; None if each has its own.
        needs_all: whether all ranks have to answer: a validation may be that of the first alone.
        grace_seconds: time after a rank has failed in which others may tell of failures of their own.
        refused: the refusal of one process, which is that of all.
    """

    batch_size: int
    on_phase: Callable[[Phase], None]
    declared: int | None = None
    needs_all: bool = True
    grace_seconds: float = 2.0
    refused: Refused | None = None
    _ranks: int = 1
    _done: dict[int, ScriptDone] = field(default_factory=dict)
    _lost: list[int] = field(default_factory=list)
    """Ranks whose processes have ended without an answer."""
    _phases: dict[int, Phase] = field(default_factory=dict)
    _decided_at: float | None = None
    """Time at which an answer came that others cannot change."""

    def receive(self, message: dict[str, Any], rank: int = 0, ranks: int = 1) -> None:
        """Receive an answer of one of several ranks.

        Raises:
            ConfigError: there are more ranks than the command says.
        """
        if self.declared is not None:
            if ranks > self.declared:
                raise ConfigError(
                    f"the command starts {ranks} training processes, and a prediction runs one of them",
                    "name the launcher itself: -- torchrun --nproc-per-node 8 train.py",
                )
            rank, ranks = 0, 1
        self._ranks = ranks
        answer = ANSWER.validate_python(message)
        if isinstance(answer, PhaseStarted):
            self._phases[rank] = answer.phase
            if rank == min(self._phases):
                self.on_phase(answer.phase)
        elif isinstance(answer, Refused):
            self.refused = answer
        else:
            self._done.setdefault(rank, answer)
            if not (answer.measurement.fits and self.needs_all):
                self._decide()

    def lose(self, rank: int) -> None:
        """Note that the process of a rank has ended."""
        if self._ranks > 1 and rank not in self._done and rank in self._phases:
            self._lost.append(rank)
            self._decide()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is waited for."""
        if self.refused is not None or len(self._done) + len(self._lost) >= self._ranks:
            return True
        return self._decided_at is not None and time.monotonic() - self._decided_at > self.grace_seconds

    @property
    def last_phase(self) -> Phase | None:
        """The phase in which a process that is alone was last."""
        return self._phases.get(0)

    def merged(self) -> ScriptDone | None:
        """Return the answer of the rank that decides, with the others in it; None if none has answered."""
        if self._ranks == 1 or not (self._done or self._lost):
            return self._done.get(0)
        measurement = merge_ranks(self._trials())
        decides = self._done.get(measurement.rank or 0, ScriptDone(measurement=measurement))
        rehearsals = [done for _, done in sorted(self._done.items()) if done.rehearsal is not None]
        smallest = min(rehearsals, key=lambda done: done.allocator_bytes, default=decides)
        made = (path for done in self._done.values() for path in done.made)
        return replace(decides, measurement=measurement, rehearsal=smallest.rehearsal, made=tuple(dict.fromkeys(made)))

    def _decide(self) -> None:
        self._decided_at = self._decided_at or time.monotonic()

    def _trials(self) -> list[RankTrial]:
        """Return the trials of all ranks, in the order in which they ended."""
        trials = [RankTrial(rank, done.measurement, done.allocator_bytes) for rank, done in self._done.items()]
        trials += [self._without_answer(rank, was_ended=False) for rank in self._lost]
        has_cause = any(not (trial.measurement.fits or trial.is_collateral) for trial in trials)
        answered = {*self._done, *self._lost}
        missing = [rank for rank in range(self._ranks) if rank not in answered] if self.needs_all or has_cause else []
        return trials + [self._without_answer(rank, was_ended=has_cause) for rank in missing]

    def _without_answer(self, rank: int, *, was_ended: bool) -> RankTrial:
        message = (
            "it was ended, since another rank had failed"
            if was_ended
            else f"the process of rank {rank} ended without an answer"
        )
        phase, outcome = self._phases.get(rank), Outcome.KILLED
        measurement = Measurement(batch_size=self.batch_size, outcome=outcome, phase=phase, message=message)
        allocator_bytes = min((done.allocator_bytes for done in self._done.values()), default=0)
        return RankTrial(rank, measurement, allocator_bytes, was_ended)
