"""A trial that was killed or stopped says nothing about memory: exit code 3, and not that the batch does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.compare.comparisons import COMPLETE
from vram_cli import breakdown, find_batch
from vram_cli.errors import CutShortError, DoesNotFitError
from vram_cli.records import Detail, Measurement, Outcome


def opener(outcome: Outcome) -> Any:
    class OneOutcome:
        info = COMPLETE.run

        def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
            return Measurement(batch_size=batch_size, outcome=outcome, message=f"with {detail.value}")

        confirm = measure

    @contextmanager
    def open_probe(*_: object, **__: object) -> Iterator[Any]:
        yield OneOutcome()

    return open_probe


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome.KILLED, "run it again"),
        (Outcome.HOST_MEMORY, "run it again"),
        (Outcome.TIMED_OUT, "search.trial_timeout=SECONDS"),
    ],
)
def test_trial_without_a_verdict(outcome: Outcome, words: str) -> None:
    with pytest.raises(CutShortError, match="not measured: batch") as caught:
        breakdown("mlp_mnist.yaml", open_probe=opener(outcome))
    assert caught.value.exit_code == 3
    assert words in caught.value.hint


def test_trial_out_of_memory_is_a_verdict() -> None:
    with pytest.raises(DoesNotFitError):
        breakdown("mlp_mnist.yaml", open_probe=opener(Outcome.OUT_OF_MEMORY))


def test_search_without_the_time_for_one_batch() -> None:
    with pytest.raises(CutShortError, match="not measured: batch 1"):
        find_batch("mlp_mnist.yaml", open_probe=opener(Outcome.TIMED_OUT))
    assert find_batch("mlp_mnist.yaml", open_probe=opener(Outcome.OUT_OF_MEMORY)).max_batch_size is None
