"""Errors that the user's code raises in a trial."""

from __future__ import annotations

from vram_cli.errors import WorkloadError
from vram_cli.records import Measurement, Outcome, SearchResult


def raise_user_error(search: SearchResult) -> None:
    """Raise the error of the user's code if no size ran because of it.

    Raises:
        WorkloadError: the last trial ended with `Outcome.ERROR` or `ENDED`.
    """
    # The last trial counts: a batch of 1 may fail in batch norm alone, and then a batch of 2 shows the real error.
    if search.max_batch_size is None and search.trials and search.trials[-1].outcome in (Outcome.ERROR, Outcome.ENDED):
        raise user_error(search.trials[-1])


def user_error(measurement: Measurement) -> WorkloadError:
    """Return the error of a trial with the outcome `ERROR`."""
    phase = measurement.phase.value if measurement.phase else "a trial"
    phase += f" on rank {measurement.rank}" if measurement.rank is not None else ""
    return WorkloadError(
        f"a batch of {measurement.batch_size:,} fails in {phase}, for a reason other than memory: "
        f"{measurement.message}",
        "the traceback above comes from your own code; fix that first",
        traceback=measurement.traceback,
    )
