"""One measurement of the measurements of all ranks: it fits if it fits in each, and the fullest rank speaks for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from vram_cli.records import Measurement, Outcome, Phase, RankResult

_LOST_PEERS = (
    "connection closed by peer",  # gloo, if the process of another rank has ended
    "connection reset by peer",
    "broken pipe",
    "application timeout caused pair closure",  # gloo, if another rank has not answered in time
    "timed out waiting",
    "ncclremoteerror",
    "nccl communicator was aborted",
    "remote process exited",
)
"""Texts of errors that a rank raises because another one has failed."""
_CAUSES = (Outcome.OUT_OF_MEMORY, Outcome.KERNEL_LIMIT, Outcome.HOST_MEMORY, Outcome.KILLED)
"""Outcomes that speak for all ranks before the others, in order."""


class RankMeasurement(NamedTuple):
    """The measurement of one rank."""

    rank: int
    measurement: Measurement | None
    """None if the rank was ended because it waited for another one, which had failed."""
    allocator_bytes: int
    """Memory of its device that its allocator may reserve."""
    phase: Phase | None = None
    """The phase in which it waited."""


def merged(ranks: Sequence[RankMeasurement]) -> Measurement:
    """Return the measurement of the rank that failed first or, if all fit, has the least room; with a result of each.

    Args:
        ranks: all ranks, in the order in which they ended; at least one was not ended as it waited.
    """
    ended = [each for each in ranks if each.measurement is not None]
    failed = [each for each in ended if not _of(each).fits]
    speaker = min(failed, key=_order) if failed else min(ended, key=_room)
    results = tuple(_result(each) for each in sorted(ranks, key=lambda each: each.rank))
    return replace(_of(speaker), rank=speaker.rank, ranks=results)


def lost_a_peer(measurement: Measurement) -> bool:
    """Return whether a rank failed only because another one had."""
    return measurement.outcome is Outcome.ERROR and any(map(measurement.message.lower().count, _LOST_PEERS))


def _of(rank: RankMeasurement) -> Measurement:
    if rank.measurement is None:
        raise ValueError(f"rank {rank.rank} was ended as it waited")
    return rank.measurement


def _order(rank: RankMeasurement) -> tuple[bool, int]:
    """Return a key by which causes come before their consequences; ranks that are alike stay in their order."""
    outcome = _of(rank).outcome
    return lost_a_peer(_of(rank)), _CAUSES.index(outcome) if outcome in _CAUSES else len(_CAUSES)


def _room(rank: RankMeasurement) -> int:
    return rank.allocator_bytes - _of(rank).peak_reserved_bytes


def _result(rank: RankMeasurement) -> RankResult:
    measurement = rank.measurement
    if measurement is None:
        return RankResult(rank=rank.rank, outcome=None, phase=rank.phase, allocator_bytes=rank.allocator_bytes)
    return RankResult(
        rank=rank.rank,
        outcome=None if lost_a_peer(measurement) else measurement.outcome,
        phase=measurement.phase,
        peaks=measurement.peaks,
        allocator_bytes=rank.allocator_bytes,
        message=measurement.message,
    )
