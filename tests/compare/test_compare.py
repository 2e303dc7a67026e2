"""Memory checks: errors of the user's code, and processes that are killed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compare.comparisons import COMPLETE
from vram_cli.compare.memory_checks import check_micro_batches, raise_user_error, verdict
from vram_cli.errors import CutShortError, WorkloadError
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


class KillingProbe:
    """Its process is killed in the first trials, and then a batch fits."""

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = iter((*outcomes, Outcome.FITS))
        self.info = COMPLETE.run

    def measure(self, batch_size: int) -> Measurement:
        return Measurement(batch_size=batch_size, outcome=next(self._outcomes), message="was ended by SIGKILL")


def test_killed_memory_check_is_repeated() -> None:
    probe: Any = KillingProbe(Outcome.KILLED)
    assert verdict(probe, 8).fits


@pytest.mark.parametrize("outcomes", [(Outcome.KILLED,) * 2, (Outcome.TIMED_OUT,), (Outcome.HOST_MEMORY,)])
def test_memory_check_without_a_verdict_does_not_say_that_it_does_not_fit(outcomes: tuple[Outcome, ...]) -> None:
    probe: Any = KillingProbe(*outcomes)
    with pytest.raises(CutShortError, match=r"not measured: batch 8 on .*: was ended by SIGKILL"):
        verdict(probe, 8)
    probe = KillingProbe(*outcomes)
    with pytest.raises(CutShortError, match="not measured: batch 4"):
        check_micro_batches(probe, Measurement(batch_size=8, outcome=Outcome.OUT_OF_MEMORY))
