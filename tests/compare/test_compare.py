"""Errors of the user's code in memory checks."""

from __future__ import annotations

from typing import Any

import pytest

from vram_cli.compare.compare import raise_user_error
from vram_cli.errors import WorkloadError
from vram_cli.records import Measurement, Outcome


class FakeProbe:
    """Returns the same outcome for every size."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self.sizes: list[int] = []

    def measure(self, batch_size: int) -> Measurement:
        self.sizes.append(batch_size)
        return Measurement(batch_size=batch_size, outcome=self._outcome, message="KeyError: aux")


def retried_sizes(failed_size: int, outcome: Outcome) -> list[int]:
    """Return the sizes measured after an error at `failed_size`."""
    probe: Any = FakeProbe(outcome)
    raise_user_error(probe, Measurement(batch_size=failed_size, outcome=Outcome.ERROR, message="KeyError: aux"))
    return list(probe.sizes)


def test_error_at_one_and_two_samples_is_the_users() -> None:
    with pytest.raises(WorkloadError, match=r"a batch of 2 fails .*KeyError"):
        retried_sizes(1, Outcome.ERROR)
    with pytest.raises(WorkloadError, match="a batch of 8 fails"):
        retried_sizes(8, Outcome.FITS)


def test_error_at_one_sample_only_is_accepted() -> None:
    assert retried_sizes(1, Outcome.FITS) == [2]
