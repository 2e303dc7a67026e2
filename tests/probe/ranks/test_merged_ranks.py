"""Which of several ranks decides, and what the measurement says of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vram_cli.probe.ranks.merged_ranks import RankTrial, lost_a_peer, merge_ranks
from vram_cli.records import Measurement, Outcome, Phase, PhasePeak

MIB = 1024**2
CLOSED = "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:9"


def fits(rank: int, peak: int = 100, allocator: int = 200, **facts: object) -> RankTrial:
    peaks = (PhasePeak(phase=Phase.BACKWARD, allocated_bytes=peak * MIB, reserved_bytes=peak * MIB),)
    measurement = Measurement(batch_size=8, outcome=Outcome.FITS, peaks=peaks, **facts)  # type: ignore[arg-type]
    return RankTrial(rank, measurement, allocator * MIB)


def fails(rank: int, outcome: Outcome, message: str = "") -> RankTrial:
    measurement = Measurement(batch_size=8, outcome=outcome, phase=Phase.FORWARD, message=message)
    return RankTrial(rank, measurement, 200 * MIB)


def test_the_rank_with_the_least_room_speaks_for_all() -> None:
    merged = merge_ranks([fits(1, 140, 150, seconds=2.0, notes=("a",)), fits(0, 150, 200, seconds=3.0, notes=("b",))])
    assert (merged.rank, merged.peak_reserved_bytes, merged.fits) == (1, 140 * MIB, True)
    assert [(each.rank, each.allocator_bytes // MIB, each.outcome) for each in merged.ranks] == [
        (0, 200, Outcome.FITS),
        (1, 150, Outcome.FITS),
    ]
    assert (merged.seconds, merged.notes) == (3.0, ("a", "b"))


def test_one_rank_that_fails_is_the_outcome_of_all() -> None:
    merged = merge_ranks([fits(0), fails(1, Outcome.OUT_OF_MEMORY), fits(2)])
    assert (merged.outcome, merged.rank, merged.phase) == (Outcome.OUT_OF_MEMORY, 1, Phase.FORWARD)
    assert [each.outcome for each in merged.ranks] == [Outcome.FITS, Outcome.OUT_OF_MEMORY, Outcome.FITS]


@pytest.mark.parametrize(
    ("ended", "rank"),
    [
        ([fails(0, Outcome.ERROR, CLOSED), fails(1, Outcome.OUT_OF_MEMORY)], 1),
        ([fails(0, Outcome.ERROR, CLOSED), fails(1, Outcome.KILLED, "SIGKILL")], 1),
        ([fails(0, Outcome.ERROR, CLOSED), fails(1, Outcome.ERROR, "ValueError: no label")], 1),
        ([fails(0, Outcome.KILLED), fails(1, Outcome.OUT_OF_MEMORY)], 1),
        ([fails(0, Outcome.TIMED_OUT), fails(1, Outcome.KILLED)], 1),
        ([fails(1, Outcome.ERROR, "ValueError: no label"), fails(0, Outcome.OUT_OF_MEMORY)], 1),
        ([fails(1, Outcome.OUT_OF_MEMORY), fails(0, Outcome.ERROR, "ValueError: no label")], 1),
        ([replace(fails(0, Outcome.KILLED), was_ended=True), fails(1, Outcome.ERROR, "ValueError: no label")], 1),
        ([fails(1, Outcome.ERROR, CLOSED), fails(0, Outcome.ERROR, CLOSED)], 1),
    ],
)
def test_the_reason_wins_over_what_follows_from_it(ended: list[RankTrial], rank: int) -> None:
    assert merge_ranks(ended).rank == rank


@pytest.mark.parametrize(
    "message",
    [
        CLOSED,
        "RuntimeError: [...] Timed out waiting 8000ms for recv operation to complete",
        "torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error",
        "DistNetworkError: failed to recv, got 0 bytes",
    ],
)
def test_errors_of_a_rank_whose_peer_has_failed(message: str) -> None:
    assert lost_a_peer(fails(0, Outcome.ERROR, message).measurement)
    assert not lost_a_peer(fails(0, Outcome.OUT_OF_MEMORY, message).measurement)
