"""Bugs that were measured in other finders (Lightning 2.6.6, accelerate 1.15.0), as tests that ours has none of them.

What belongs to a probe is tested there: random state, weights, loaders, the texts of out-of-memory errors.
"""

from __future__ import annotations

import pytest

from tests.fakes import limited_to
from vram_cli.records import Limit, Measurement, Outcome, SearchResult
from vram_cli.search import find_largest


class TrainingLoop:
    """A measuring function with a limit, that remembers what ran."""

    def __init__(self, limit: int, outcome: Outcome = Outcome.OUT_OF_MEMORY) -> None:
        self.limit, self.outcome = limit, outcome
        self.asked: list[int] = []

    def __call__(self, batch_size: int) -> Measurement:
        self.asked.append(batch_size)
        if batch_size > self.limit:
            return Measurement(batch_size=batch_size, outcome=self.outcome, message="CUDA out of memory.")
        return Measurement(batch_size=batch_size, outcome=Outcome.FITS, steps=3)

    @property
    def ran(self) -> set[int]:
        return {size for size in self.asked if size <= self.limit}


def found(training: TrainingLoop, cap: int | None = None, limit: Limit = Limit.MAX_BATCH_SIZE) -> SearchResult:
    result = find_largest(training, cap=cap, cap_limit=limit, multiple_of=1)
    assert result.max_batch_size is None or result.max_batch_size in training.ran
    return result


class TestLightning:
    @pytest.mark.parametrize("cap", [600, 8192, 10_000])
    def test_1_the_cap_is_returned_although_it_never_ran(self, cap: int) -> None:
        training = TrainingLoop(50_000)
        result = found(training, cap)
        assert (result.max_batch_size, result.limited_by) == (cap, Limit.MAX_BATCH_SIZE)
        assert cap in training.ran

    def test_2_a_cap_above_8192_is_ignored(self) -> None:
        assert found(TrainingLoop(10**9), cap=100_000).max_batch_size == 100_000

    def test_2_there_is_a_ceiling_although_nobody_set_one(self) -> None:
        assert found(TrainingLoop(50_000)).max_batch_size == 50_000

    def test_3_after_a_failure_the_search_falls_back_and_returns_the_last_success_not_the_best(self) -> None:
        training = TrainingLoop(50_000)
        result = found(training, cap=100_000)
        assert result.max_batch_size == max(training.ran) == 50_000
        assert result.certificate is not None
        assert result.certificate.fails == 50_001
        failed = [size for size in training.asked if size > 50_000]
        assert failed == sorted(failed, reverse=True)
        assert len(set(training.asked)) == len(training.asked)

    def test_4_a_size_that_has_just_failed_is_returned_where_the_data_set_is_smaller(self) -> None:
        result = found(TrainingLoop(600), cap=1000, limit=Limit.DATASET)
        assert (result.max_batch_size, result.limited_by) == (600, Limit.MEMORY)

    @pytest.mark.parametrize("length", [100, 300])
    def test_5_more_than_the_data_set_is_returned(self, length: int) -> None:
        training = TrainingLoop(10**6)
        result = found(training, cap=length, limit=Limit.DATASET)
        assert (result.max_batch_size, result.limited_by) == (length, Limit.DATASET)
        assert max(training.asked) == length

    def test_5_a_first_size_above_the_data_set_fails_25_times_in_a_row(self) -> None:
        training = TrainingLoop(3000)
        assert found(training, cap=5000, limit=Limit.DATASET).max_batch_size == 3000
        assert training.asked[0] == 1
        assert len(training.asked) == len(set(training.asked))

    def test_6_a_trial_runs_another_size_than_it_is_counted_for(self) -> None:
        with pytest.raises(ValueError, match=r"measure\(1\) ran a batch of 16"):
            find_largest(lambda size: Measurement(batch_size=max(size, 16), outcome=Outcome.FITS, steps=3))

    def test_6_a_short_last_batch_counts_as_a_pass_at_the_full_size(self) -> None:
        with pytest.raises(ValueError, match=r"measure\(64\) ran a batch of 44"):
            find_largest(lambda size: Measurement(batch_size=min(size, 44), outcome=Outcome.FITS, steps=3))

    def test_7_nothing_fits_and_1_is_returned_although_it_never_ran(self) -> None:
        training = TrainingLoop(0)
        result = found(training)
        assert (result.max_batch_size, result.recommended_batch_size, result.certificate) == (None, None, None)
        assert result.limited_by is Limit.MEMORY
        assert training.asked == [1]

    def test_8_a_failure_after_the_steps_of_the_trial_is_never_seen(self) -> None:
        result = find_largest(TrainingLoop(100), confirm=TrainingLoop(90), multiple_of=1)
        assert result.max_batch_size == 90

    def test_13851_a_trial_without_a_step_counts_as_a_pass(self) -> None:
        with pytest.raises(ValueError, match="without one full step"):
            find_largest(lambda size: Measurement(batch_size=size, outcome=Outcome.FITS, steps=0))

    def test_19850_the_data_set_is_reached_only_by_doubling(self) -> None:
        memory = limited_to(10**6)
        result = find_largest(memory, capacity_bytes=memory.capacity_bytes, cap=50_000, multiple_of=1)
        assert result.max_batch_size == 50_000
        assert len(memory.asked) <= 3

    def test_20614_a_kernel_limit_is_taken_for_a_lack_of_memory(self) -> None:
        result = found(TrainingLoop(65_535, Outcome.KERNEL_LIMIT))
        assert (result.max_batch_size, result.limited_by) == (65_535, Limit.KERNEL_LIMIT)

    @pytest.mark.parametrize("margin_share", [0.05, 0.2])
    def test_21154_the_margin_is_a_share_of_the_batch_and_not_of_memory(self, margin_share: float) -> None:
        memory = limited_to(1000, "smooth", sample_bytes=1_000_000)
        margin = int(margin_share * memory.capacity_bytes)
        result = find_largest(memory, capacity_bytes=memory.capacity_bytes, margin_bytes=margin, multiple_of=1)
        recommended = result.recommended_batch_size
        assert result.max_batch_size == 1000
        assert recommended is not None
        last = {trial.batch_size: trial for trial in result.trials}
        free = memory.capacity_bytes - last[recommended].peak_reserved_bytes
        assert free >= margin > memory.capacity_bytes - last[recommended + 1].peak_reserved_bytes


class TestAccelerate:
    @pytest.mark.parametrize("limit", [128, 921, 1000, 4096])
    def test_it_never_grows_and_the_answer_is_the_guess_times_powers_of_nine_tenths(self, limit: int) -> None:
        assert found(TrainingLoop(limit)).max_batch_size == limit

    def test_a_second_call_starts_from_where_the_first_one_ended(self) -> None:
        training = TrainingLoop(300)
        first = found(training)
        asked, training.asked = training.asked, []
        training.limit = 3000
        assert (first.max_batch_size, found(training).max_batch_size) == (300, 3000)
        assert training.asked[: len(asked) // 2] == asked[: len(asked) // 2]

    def test_332_where_nothing_fits_it_loops_down_to_zero_and_forgets_the_error(self) -> None:
        result = found(TrainingLoop(0))
        assert [trial.batch_size for trial in result.trials] == [1]
        assert result.trials[0].message == "CUDA out of memory."

    def test_3650_the_steps_down_waste_what_lies_between_them(self) -> None:
        training = TrainingLoop(1000)
        result = found(training)
        assert result.certificate is not None
        assert result.certificate.fails == 1001
