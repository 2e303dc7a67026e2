"""Errors of the user's own code, met in a trial."""

from __future__ import annotations

from vram_cli.errors import WorkloadError
from vram_cli.records import Measurement, Outcome, SearchResult


def raise_own_error(found: SearchResult) -> None:
    """Raise the user's own error where that is why a search found nothing.

    Raises:
        WorkloadError: it is.
    """
    # The last trial: a batch of 1 may fail for batch norm alone, and then a batch of 2 shows what is wrong.
    if found.max_batch_size is None and found.trials and found.trials[-1].outcome is Outcome.ERROR:
        raise own_error(found.trials[-1])


def own_error(measured: Measurement) -> WorkloadError:
    """Return the error that a trial of the outcome `ERROR` stands for."""
    where = measured.phase.value if measured.phase else "a trial"
    return WorkloadError(
        f"a batch of {measured.batch_size:,} fails in {where}, and not for memory: {measured.message}",
        "the traceback above is from the model, its data or its step; mend that first",
        traceback=measured.traceback,
    )
