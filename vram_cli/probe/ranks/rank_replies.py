"""The meaning of the replies of several ranks: one measurement, or the error to raise."""

from __future__ import annotations

from collections.abc import Sequence

from vram_cli.config import Config
from vram_cli.errors import ProbeError, VramError
from vram_cli.probe.messages import TrialDone
from vram_cli.probe.ranks.merged_ranks import RankTrial, merge_ranks
from vram_cli.probe.ranks.worker_group import RankReply, WorkerGroup
from vram_cli.probe.user_code import ended_by_user_code
from vram_cli.probe.worker_process import WorkerStopped
from vram_cli.records import Measurement, Outcome


def merged(
    replies: Sequence[RankReply], allocator_bytes: Sequence[int], batch_size: int, seconds: float
) -> Measurement:
    """Return one measurement of a trial in all ranks.

    Args:
        replies: those of all ranks, in the order in which they came; `error_in` found no error in them.
        allocator_bytes: memory that the allocator of each rank may reserve, by rank.
        batch_size: that of each rank.
        seconds: duration of the trial.
    """
    trials = (
        RankTrial(
            rank=reply.rank,
            measurement=_measurement(reply, batch_size, seconds),
            allocator_bytes=allocator_bytes[reply.rank],
            was_ended=reply.has_waited,
        )
        for reply in replies
    )
    return merge_ranks(list(trials))


def is_poisoned(replies: Sequence[RankReply]) -> bool:
    """Return whether the workers must be replaced before the next trial."""
    return any(not isinstance(reply.content, TrialDone) or reply.content.poisoned for reply in replies)


def require_all(replies: Sequence[RankReply]) -> None:
    """Raise the first error; those of ranks that waited for it are none.

    Raises:
        VramError: a rank refused its request.
    """
    for reply in replies:
        if isinstance(reply.content, VramError) and not reply.is_ended_by_group:
            raise _named(reply.content, reply, replies)


def error_in(replies: Sequence[RankReply], group: WorkerGroup, config: Config) -> VramError | None:
    """Return the error to raise for a trial; None if each rank has an outcome."""
    for reply in replies:
        stop, worker = reply.content, group.workers[reply.rank]
        if isinstance(stop, VramError):
            return _named(stop, reply, replies)
        if not isinstance(stop, WorkerStopped) or reply.has_waited:
            continue
        is_disturbed = stop.outcome is Outcome.ERROR
        if (is_disturbed or worker.exited) and (error := ended_by_user_code(stop, worker, config)):
            return _named(error, reply, replies)
        if is_disturbed:
            return ProbeError(f"the worker process of rank {reply.rank} {stop.message}")
    return None


def _measurement(reply: RankReply, batch_size: int, seconds: float) -> Measurement:
    """Return the measurement of a rank; one of its end, if it was ended."""
    content = reply.content
    if isinstance(content, TrialDone):
        return content.measurement
    message = f"the trial's process {content.message}" if content.outcome is Outcome.KILLED else content.message
    return Measurement(
        batch_size=batch_size, outcome=content.outcome, phase=reply.phase, seconds=seconds, message=message
    )


def _named(error: VramError, reply: RankReply, replies: Sequence[RankReply]) -> VramError:
    """Return the error, with the rank in its message if not all ranks raise it."""
    others = [other.content for other in replies if isinstance(other.content, VramError)]
    if len(others) < len(replies) or any(other.message != error.message for other in others):
        error.message = f"rank {reply.rank}: {error.message}"
    return error
