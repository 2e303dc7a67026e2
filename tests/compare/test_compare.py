"""Sizes that do not run: whose fault that is."""

from __future__ import annotations

from typing import Any

import pytest

from vram_cli.compare.compare import _raise_own_error
from vram_cli.errors import WorkloadError
from vram_cli.records import Measurement, Outcome


class Probe:
    """Answers for two samples."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self.sizes: list[int] = []

    def measure(self, batch_size: int) -> Measurement:
        self.sizes.append(batch_size)
        return Measurement(batch_size=batch_size, outcome=self._outcome, message="KeyError: aux")


def asked(size: int, at_two: Outcome) -> list[int]:
    """Return the sizes that are measured before a size that fails is let pass."""
    probe: Any = Probe(at_two)
    _raise_own_error(probe, Measurement(batch_size=size, outcome=Outcome.ERROR, message="KeyError: aux"))
    return list(probe.sizes)


def test_what_fails_at_one_sample_and_at_two_is_the_users_own_error() -> None:
    with pytest.raises(WorkloadError, match="a batch of 2 fails, and not for memory: KeyError"):
        asked(1, Outcome.ERROR)
    with pytest.raises(WorkloadError, match="a batch of 8 fails"):
        asked(8, Outcome.FITS)


def test_batch_norm_may_refuse_one_sample() -> None:
    assert asked(1, Outcome.FITS) == [2]
