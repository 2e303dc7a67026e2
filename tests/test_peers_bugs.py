"""Bugs of other batch size finders (Lightning 2.6.6, accelerate 1.15.0), measured; each test is named after its bug.

Bugs that concern the probe (random state, weights, loaders, out-of-memory messages) are tested in tests/probe.
"""

from __future__ import annotations

import pytest

from tests.fakes import limited_to
from vram_cli.records import Limit, Measurement, Outcome, SearchResult
from vram_cli.search import find_largest


class TrainingLoop:
    """A measuring function with a limit that records its sizes."""

    def __init__(self, limit: int, outcome: Outcome = Outcome.OUT_OF_MEMORY) -> None:
        self.limit, self.outcome = limit, outcome
        self.sizes: list[int] = []

    def __call__(self, batch_size: int) -> Measurement:
        self.sizes.append(batch_size)
        if batch_size > self.limit:
            return Measurement(batch_size=batch_size, outcome=self.outcome, message="CUDA out of memory.")
        return Measurement(batch_size=batch_size, outcome=Outcome.FITS, steps=3)

    @property
    def ran(self) -> set[int]:
        return {size for size in self.sizes if size <= self.limit}


def search(training: TrainingLoop, upper_bound: int | None = None, limit: Limit = Limit.MAX_BATCH_SIZE) -> SearchResult:
    result = find_largest(training, upper_bound=upper_bound, upper_bound_limit=limit, multiple_of=1)
    assert result.max_batch_size is None or result.max_batch_size in training.ran
    return result


class TestLightning:
    @pytest.mark.parametrize("upper_bound", [600, 8192, 10_000])
    def test_1_upper_bound_returned_without_a_run(self, upper_bound: int) -> None:
        training = TrainingLoop(50_000)
        result = search(training, upper_bound)
        assert (result.max_batch_size, result.limited_by) == (upper_bound, Limit.MAX_BATCH_SIZE)
        assert upper_bound in training.ran

    def test_2_upper_bound_above_8192_ignored(self) -> None:
        assert search(TrainingLoop(10**9), upper_bound=100_000).max_batch_size == 100_000

    def test_2_hidden_ceiling(self) -> None:
        assert search(TrainingLoop(50_000)).max_batch_size == 50_000

    def test_3_last_success_returned_instead_of_the_best(self) -> None:
        training = TrainingLoop(50_000)
        result = search(training, upper_bound=100_000)
        assert result.max_batch_size == max(training.ran) == 50_000
        assert result.certificate is not None
        assert result.certificate.smallest_failed == 50_001
        failed = [size for size in training.sizes if size > 50_000]
        assert failed == sorted(failed, reverse=True)
        assert len(set(training.sizes)) == len(training.sizes)

    def test_4_failed_size_returned_at_the_data_set_limit(self) -> None:
        result = search(TrainingLoop(600), upper_bound=1000, limit=Limit.DATASET)
        assert (result.max_batch_size, result.limited_by) == (600, Limit.MEMORY)

    @pytest.mark.parametrize("length", [100, 300])
    def test_5_more_than_the_data_set_returned(self, length: int) -> None:
        training = TrainingLoop(10**6)
        result = search(training, upper_bound=length, limit=Limit.DATASET)
        assert (result.max_batch_size, result.limited_by) == (length, Limit.DATASET)
        assert max(training.sizes) == length

    def test_5_first_size_above_the_data_set_fails_25_times(self) -> None:
        training = TrainingLoop(3000)
        assert search(training, upper_bound=5000, limit=Limit.DATASET).max_batch_size == 3000
        assert training.sizes[0] == 1
        assert len(training.sizes) == len(set(training.sizes))

    def test_6_trial_runs_another_size(self) -> None:
        with pytest.raises(ValueError, match=r"measure\(1\) returned a measurement of batch size 16"):
            find_largest(lambda size: Measurement(batch_size=max(size, 16), outcome=Outcome.FITS, steps=3))

    def test_6_short_last_batch_counts_as_the_full_size(self) -> None:
        with pytest.raises(ValueError, match=r"measure\(64\) returned a measurement of batch size 44"):
            find_largest(lambda size: Measurement(batch_size=min(size, 44), outcome=Outcome.FITS, steps=3))

    def test_7_size_1_returned_if_nothing_fits(self) -> None:
        training = TrainingLoop(0)
        result = search(training)
        assert (result.max_batch_size, result.recommended_batch_size, result.certificate) == (None, None, None)
        assert result.limited_by is Limit.MEMORY
        assert training.sizes == [1]

    def test_8_failure_after_the_trial_ignored(self) -> None:
        result = find_largest(TrainingLoop(100), confirm=TrainingLoop(90), multiple_of=1)
        assert result.max_batch_size == 90

    def test_13851_trial_without_a_step_passes(self) -> None:
        with pytest.raises(ValueError, match="without a completed step"):
            find_largest(lambda size: Measurement(batch_size=size, outcome=Outcome.FITS, steps=0))

    def test_19850_data_set_size_reached_only_by_doubling(self) -> None:
        memory = limited_to(10**6)
        result = find_largest(memory, capacity_bytes=memory.capacity_bytes, upper_bound=50_000, multiple_of=1)
        assert result.max_batch_size == 50_000
        assert len(memory.sizes) <= 3

    def test_20614_kernel_limit_taken_for_out_of_memory(self) -> None:
        result = search(TrainingLoop(65_535, Outcome.KERNEL_LIMIT))
        assert (result.max_batch_size, result.limited_by) == (65_535, Limit.KERNEL_LIMIT)

    @pytest.mark.parametrize("fraction", [0.05, 0.2])
    def test_21154_margin_is_a_fraction_of_the_batch(self, fraction: float) -> None:
        memory = limited_to(1000, "smooth", sample_bytes=1_000_000)
        margin = int(fraction * memory.capacity_bytes)
        result = find_largest(memory, capacity_bytes=memory.capacity_bytes, margin_bytes=margin, multiple_of=1)
        recommended = result.recommended_batch_size
        assert result.max_batch_size == 1000
        assert recommended is not None
        last = {trial.batch_size: trial for trial in result.trials}
        free = memory.capacity_bytes - last[recommended].peak_reserved_bytes
        assert free >= margin > memory.capacity_bytes - last[recommended + 1].peak_reserved_bytes


class TestAccelerate:
    @pytest.mark.parametrize("limit", [128, 921, 1000, 4096])
    def test_answer_is_the_guess_times_a_power_of_0_9(self, limit: int) -> None:
        assert search(TrainingLoop(limit)).max_batch_size == limit

    def test_second_call_starts_where_the_first_ended(self) -> None:
        training = TrainingLoop(300)
        first = search(training)
        first_sizes, training.sizes = training.sizes, []
        training.limit = 3000
        assert (first.max_batch_size, search(training).max_batch_size) == (300, 3000)
        assert training.sizes[: len(first_sizes) // 2] == first_sizes[: len(first_sizes) // 2]

    def test_332_error_lost_if_nothing_fits(self) -> None:
        result = search(TrainingLoop(0))
        assert [trial.batch_size for trial in result.trials] == [1]
        assert result.trials[0].message == "CUDA out of memory."

    def test_3650_sizes_between_steps_skipped(self) -> None:
        training = TrainingLoop(1000)
        result = search(training)
        assert result.certificate is not None
        assert result.certificate.smallest_failed == 1001
