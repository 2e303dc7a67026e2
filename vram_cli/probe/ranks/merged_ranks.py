"""The trials of several ranks that ran together, as one measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vram_cli.records import Measurement, Outcome, RankResult

_LOST_PEER = (
    "connection closed by peer",  # gloo, if the other process has ended
    "connection reset by peer",
    "connection refused",
    "broken pipe",
    "failed to recv, got 0 bytes",  # TCPStore, if the process that has it has ended
    "timed out waiting",  # gloo, if the other process stays away
    "wait timeout after",  # the store
    "pair closure",  # gloo, after a time-out of its own
    "connectfullmesh failed",
    "remote process exited",  # NCCL's text of ncclRemoteError
    "communicator was aborted",
    "watchdog caught collective operation timeout",
)
"""Texts of errors by which a rank learns that another one has failed."""

_WORST_FIRST = (
    Outcome.OUT_OF_MEMORY,
    Outcome.HOST_MEMORY,
    Outcome.KILLED,
    Outcome.KERNEL_LIMIT,
    Outcome.TIMED_OUT,
    Outcome.ERROR,
    Outcome.ENDED,
)


@dataclass(frozen=True)
class RankTrial:
    """The trial of one rank."""

    rank: int
    measurement: Measurement
    allocator_bytes: int
    """Memory of its device that its allocator may reserve."""
    was_ended: bool = False
    """Whether it was ended because another rank had failed."""

    @property
    def is_collateral(self) -> bool:
        """Whether it failed only because another rank had."""
        return self.was_ended or lost_a_peer(self.measurement)

    @property
    def room_bytes(self) -> int:
        """Memory that it left free."""
        return self.allocator_bytes - self.measurement.peak_reserved_bytes


def merge_ranks(trials: Sequence[RankTrial]) -> Measurement:
    """Return the measurement of the rank that decides, with the results of all.

    If all fit, that is the rank with the least room. If not, it is the one whose failure is the reason for the others.

    Args:
        trials: one per rank, at least one, in the order in which they ended.
    """
    failed = [trial for trial in trials if not trial.measurement.fits]
    decides = _cause(failed) if failed else min(trials, key=lambda trial: (trial.room_bytes, trial.rank))
    measurements = [trial.measurement for trial in trials]
    return replace(
        decides.measurement,
        rank=decides.rank,
        ranks=tuple(map(_result, sorted(trials, key=lambda trial: trial.rank))),
        seconds=max(each.seconds for each in measurements),
        allocator_retries=max(each.allocator_retries for each in measurements),
        notes=tuple(dict.fromkeys(note for each in measurements for note in each.notes)),
        writes=tuple(dict.fromkeys(line for each in measurements for line in each.writes)),
    )


def lost_a_peer(measurement: Measurement) -> bool:
    """Return whether a rank failed only because another one had failed."""
    text = measurement.message.lower()
    return measurement.outcome is Outcome.ERROR and any(words in text for words in _LOST_PEER)


def _cause(failed: Sequence[RankTrial]) -> RankTrial:
    """Return the failure that comes first, if it is an error of the training's own code, or the worst one."""
    causes = [trial for trial in failed if not trial.is_collateral] or failed
    if causes[0].measurement.outcome is Outcome.ERROR:
        return causes[0]
    return min(causes, key=lambda trial: _WORST_FIRST.index(trial.measurement.outcome))


def _result(trial: RankTrial) -> RankResult:
    measurement = trial.measurement
    return RankResult(
        rank=trial.rank,
        outcome=None if trial.is_collateral else measurement.outcome,
        phase=measurement.phase,
        peaks=measurement.peaks,
        allocator_bytes=trial.allocator_bytes,
        message=measurement.message,
    )
