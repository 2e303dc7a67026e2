"""The search: the answer ran, the next size failed, and it took few trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import BLOCK, MIB, SHAPES, FakeMemory, RecordingProgress, limited_to
from vram_cli.errors import Interrupted
from vram_cli.records import Bracket, Limit, Measurement, Outcome, SearchResult
from vram_cli.search import find_largest
from vram_cli.search.trial_budget import BEYOND, ONE, bisection_trials, remaining_share, within_trial_budget

HUGE = (1000, 50_000, 1_000_003, 2**31 - 1, 2**31, 10**11)


class RuleBased:
    """A measuring function that follows a rule and records the sizes."""

    def __init__(self, outcome_of: Callable[[int], Outcome]) -> None:
        self.outcome_of = outcome_of
        self.sizes: list[int] = []

    def __call__(self, size: int) -> Measurement:
        self.sizes.append(size)
        outcome = self.outcome_of(size)
        return Measurement(batch_size=size, outcome=outcome, steps=3 * (outcome is Outcome.FITS), message=f"at {size}")


def up_to(largest: int, above: Outcome = Outcome.OUT_OF_MEMORY) -> RuleBased:
    return RuleBased(lambda size: Outcome.FITS if size <= largest else above)


class Clock:
    """A clock that advances only during measurements."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def slow(self, measure: Callable[[int], Measurement], seconds: float) -> Callable[[int], Measurement]:
        def slow_measure(size: int) -> Measurement:
            self.now += seconds
            return measure(size)

        return slow_measure


def doubling_and_bisection(largest: int, upper_bound: int | None = None) -> int:
    """Count the trials of doubling and bisection by running them."""
    size, trials, largest_ok = 1, 0, 0
    while True:
        trials += 1
        if size > largest:
            break
        largest_ok = size
        if largest_ok == upper_bound:
            return trials
        size = min(2 * size, upper_bound or 2 * size)
    failed = size
    while failed - largest_ok > 1:
        trials, middle = trials + 1, (largest_ok + failed) // 2
        largest_ok, failed = (middle, failed) if middle <= largest else (largest_ok, middle)
    return trials


def assert_proved(result: SearchResult, upper_bound: int | None = None) -> None:
    """Check the certificate against the trials themselves."""
    last = {trial.batch_size: trial for trial in result.trials}
    largest, proof = result.max_batch_size, result.certificate
    if largest is None:
        assert proof is None
        assert not any(trial.fits for trial in last.values())
        return
    assert last[largest].fits
    assert proof is not None
    assert (proof.largest_ok, proof.steps) == (largest, last[largest].steps)
    if largest == upper_bound:
        assert proof.smallest_failed is None
    else:
        assert proof.smallest_failed == largest + 1
        assert proof.outcome is last[largest + 1].outcome is not Outcome.FITS
        assert (proof.phase, proof.message) == (last[largest + 1].phase, last[largest + 1].message)


def search(
    memory: FakeMemory, *, multiple_of: int = 1, margin: int = 0, upper_bound: int | None = None
) -> SearchResult:
    """Search a memory; with multiples of 1 and no margin, the recommended size takes no trial."""
    return find_largest(
        memory,
        capacity_bytes=memory.capacity_bytes,
        multiple_of=multiple_of,
        margin_bytes=margin,
        upper_bound=upper_bound,
    )


# -- the trial budget: never more trials than doubling and bisection


def test_bisection_trials_counts_doubling_and_bisection() -> None:
    assert [bisection_trials(largest) for largest in range(2000)] == [
        doubling_and_bisection(largest) for largest in range(2000)
    ]


def test_remaining_share_is_the_sum_over_larger_limits() -> None:
    assert remaining_share(0) == ONE
    for size in range(300):
        assert (remaining_share(size) - remaining_share(size + 1)) * 2 ** bisection_trials(size) == ONE


def test_only_bisection_sizes_without_a_successful_jump() -> None:
    assert within_trial_budget(0, BEYOND, 0) == (1, 1)
    assert within_trial_budget(1, BEYOND, 1) == (2, 2)
    assert within_trial_budget(64, BEYOND, 7) == (128, 128)
    assert within_trial_budget(64, 128, 8) == (96, 96)
    low, high = within_trial_budget(19, BEYOND, 2)
    assert low == 20
    assert high > 10**9


# -- bools, without memory figures


@pytest.mark.parametrize("largest", [*range(301), *HUGE])
def test_bools_take_doubling_and_bisection(largest: int) -> None:
    sizes: list[int] = []

    def fits(size: int) -> bool:
        sizes.append(size)
        return size <= largest

    result = find_largest(fits, multiple_of=1)
    assert_proved(result)
    assert (result.max_batch_size or 0) == largest
    assert result.limited_by is Limit.MEMORY
    assert len(sizes) == len(set(sizes)) == doubling_and_bisection(largest)


@pytest.mark.parametrize("upper_bound", [1, 2, 3, 7, 8, 9, 33, 100])
def test_bools_with_an_upper_bound(upper_bound: int) -> None:
    for largest in range(120):
        measure = up_to(largest)
        result = find_largest(measure, upper_bound=upper_bound, multiple_of=1)
        assert_proved(result, upper_bound)
        assert (result.max_batch_size or 0) == min(largest, upper_bound)
        assert result.limited_by is (Limit.MAX_BATCH_SIZE if largest >= upper_bound else Limit.MEMORY)
        assert max(measure.sizes) <= upper_bound
        assert len(measure.sizes) <= doubling_and_bisection(largest, upper_bound)


@given(st.sets(st.integers(1, 200)))
def test_non_monotone_rule_is_proved_within_the_budget(failing: set[int]) -> None:
    measure = RuleBased(lambda size: Outcome.OUT_OF_MEMORY if size in failing or size > 250 else Outcome.FITS)
    result = find_largest(measure, multiple_of=1)
    assert_proved(result)
    assert len(measure.sizes) <= bisection_trials(result.max_batch_size or 0)


def test_search_ends_if_everything_fits() -> None:
    measure = up_to(2**80)
    result = find_largest(measure, multiple_of=1)
    assert (result.max_batch_size, result.limited_by) == (BEYOND - 1, Limit.MAX_BATCH_SIZE)
    assert len(measure.sizes) == 41


# -- memory figures


@pytest.mark.parametrize("shape", SHAPES)
def test_every_limit_is_proved_within_the_budget(shape: str) -> None:
    for largest in (*range(301), *HUGE):
        memory = limited_to(largest, shape)
        result = search(memory)
        assert_proved(result)
        assert result.limited_by is Limit.MEMORY
        if shape != "workspace":
            assert (result.max_batch_size or 0) == largest
        assert len(memory.sizes) == len(set(memory.sizes)) <= bisection_trials(result.max_batch_size or 0)


@pytest.mark.parametrize("shape", ["smooth", "2 MiB", "20 MiB", "optimizer", "gradients"])
def test_median_is_seven_trials(shape: str) -> None:
    trials = []
    for largest in (1, 7, 100, 1000, 50_000, 1_000_003):
        memory = limited_to(largest, shape)
        search(memory)
        trials.append(len(memory.sizes))
    assert median(trials) <= 7
    assert max(trials) <= 8


memories = st.builds(
    FakeMemory,
    capacity_bytes=st.just(0),
    resident_bytes=st.integers(0, 2**34),
    # Even the flattest line, a 64th of this, grows by a block per sample; otherwise rounding makes stairs of it.
    sample_bytes=st.integers(64 * BLOCK, 2**28),
    granularity_bytes=st.sampled_from([512, 2 * MIB, 20 * MIB]),
    seed=st.integers(0, 2**32),
)


@settings(max_examples=300, deadline=None)
@given(memories, st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_random_monotone_memory(memory: FakeMemory, largest: int, gradients: float, optimizer: float) -> None:
    capacity = memory.resident_bytes + largest * memory.sample_bytes
    memory = replace(
        memory,
        capacity_bytes=capacity,
        gradient_bytes=int(gradients * memory.resident_bytes / 2),
        optimizer_bytes=int(optimizer * capacity),
    )
    result = search(memory)
    assert_proved(result)
    assert len(memory.sizes) == len(set(memory.sizes)) <= bisection_trials(result.max_batch_size or 0)


@settings(max_examples=300, deadline=None)
@given(memories, st.integers(0, 10**6), st.floats(0, 2))
def test_random_workspaces_cost_no_more_trials_than_a_search_up_to_the_size_without_them(
    memory: FakeMemory, largest: int, workspace: float
) -> None:
    activations = largest * memory.sample_bytes
    memory = replace(
        memory,
        capacity_bytes=memory.resident_bytes + activations,
        workspace_bytes=int(workspace * activations),
    )
    result = search(memory)
    assert_proved(result)
    assert len(memory.sizes) == len(set(memory.sizes)) <= bisection_trials(largest) + 1


def test_wrong_capacity_costs_only_trials() -> None:
    for factor in (0.2, 0.9, 1.1, 5.0):
        memory = limited_to(777, "2 MiB")
        result = find_largest(memory, capacity_bytes=int(memory.capacity_bytes * factor), multiple_of=1)
        assert_proved(result)
        assert result.max_batch_size == 777
        assert len(memory.sizes) <= bisection_trials(777)


@pytest.mark.parametrize("shape", ["smooth", "2 MiB", "20 MiB", "optimizer", "gradients"])
@pytest.mark.parametrize("largest", [50, 777, 60_000])
def test_correct_guess_takes_three_trials(shape: str, largest: int) -> None:
    memory = limited_to(largest, shape)
    result = find_largest(memory, capacity_bytes=memory.capacity_bytes, multiple_of=1, initial_guess=lambda: largest)
    assert_proved(result)
    assert memory.sizes == [1, largest, largest + 1]


@pytest.mark.parametrize("shape", ["smooth", "2 MiB", "20 MiB", "gradients"])
def test_guess_within_3_percent_saves_trials(shape: str) -> None:
    with_guess, without = [], []
    for largest in range(200, 20_000, 333):
        for error in (0.97, 0.99, 1.01, 1.03):
            memory = limited_to(largest, shape)
            guess = int(largest * error)
            result = find_largest(
                memory, capacity_bytes=memory.capacity_bytes, multiple_of=1, initial_guess=lambda size=guess: size
            )
            assert result.max_batch_size == largest
            with_guess.append(len(memory.sizes))
        search(memory := limited_to(largest, shape))
        without.append(len(memory.sizes))
    assert sum(with_guess) / 4 < sum(without)


@settings(max_examples=300, deadline=None)
@given(memories, st.integers(0, 10**6), st.integers(0, 10**8) | st.none())
def test_wrong_guess_costs_at_most_two_trials(memory: FakeMemory, largest: int, guess: int | None) -> None:
    memory = replace(memory, capacity_bytes=memory.resident_bytes + largest * memory.sample_bytes)
    result = find_largest(memory, capacity_bytes=memory.capacity_bytes, multiple_of=1, initial_guess=lambda: guess)
    assert_proved(result)
    assert len(memory.sizes) == len(set(memory.sizes)) <= bisection_trials(result.max_batch_size or 0) + 2


def test_guess_respects_the_upper_bound() -> None:
    memory = limited_to(5000)
    result = find_largest(memory, capacity_bytes=memory.capacity_bytes, upper_bound=300, initial_guess=lambda: 4000)
    assert (result.max_batch_size, memory.sizes[1]) == (300, 300)


def test_no_guess_if_the_smallest_size_fails() -> None:
    def guess() -> int:
        raise AssertionError("called")

    assert find_largest(up_to(0), initial_guess=guess).max_batch_size is None


def test_search_is_deterministic() -> None:
    first, second = limited_to(5000, "workspace"), limited_to(5000, "workspace")
    assert search(first) == search(second)


# -- upper bounds, and the size that memory alone would allow


@pytest.mark.parametrize("shape", SHAPES[:5])
def test_upper_bound_is_tried_early_and_memory_extrapolated(shape: str) -> None:
    memory = limited_to(2_000_000, shape)
    result = find_largest(
        memory, capacity_bytes=memory.capacity_bytes, upper_bound=60_000, upper_bound_limit=Limit.DATASET, multiple_of=1
    )
    assert_proved(result, upper_bound=60_000)
    assert (result.max_batch_size, result.limited_by) == (60_000, Limit.DATASET)
    assert len(memory.sizes) <= 3
    assert result.extrapolated_batch_size == pytest.approx(2_000_000, rel=0.01)
    assert result.extrapolated_batch_size not in memory.sizes


@pytest.mark.parametrize("shape", SHAPES[:5])
def test_upper_bound_is_respected_within_the_budget(shape: str) -> None:
    for upper_bound in (1, 2, 5, 9, 17, 33, 100, 129):
        for largest in (*range(40), upper_bound - 1, upper_bound, upper_bound + 1, 500):
            memory = limited_to(largest, shape)
            result = search(memory, upper_bound=upper_bound)
            assert_proved(result, upper_bound)
            assert (result.max_batch_size or 0) == min(upper_bound, largest)
            assert max(memory.sizes) <= upper_bound
            assert len(memory.sizes) <= doubling_and_bisection(largest, upper_bound)
            assert result.extrapolated_batch_size is None or result.extrapolated_batch_size > upper_bound <= largest


def test_nothing_is_extrapolated_at_the_memory_limit() -> None:
    assert search(limited_to(1000)).extrapolated_batch_size is None
    assert find_largest(limited_to(1000), upper_bound=100).extrapolated_batch_size is None


# -- other limits


@pytest.mark.parametrize(
    ("outcome", "limit"),
    [
        (Outcome.OUT_OF_MEMORY, Limit.MEMORY),
        (Outcome.KERNEL_LIMIT, Limit.KERNEL_LIMIT),
        (Outcome.HOST_MEMORY, Limit.HOST_MEMORY),
        (Outcome.KILLED, Limit.HOST_MEMORY),
        (Outcome.TIMED_OUT, Limit.TIME),
        (Outcome.ERROR, Limit.ERROR),
    ],
)
@pytest.mark.parametrize("largest", [0, 1, 5, 300])
def test_limit_follows_from_the_failed_outcome(outcome: Outcome, limit: Limit, largest: int) -> None:
    result = find_largest(up_to(largest, outcome), multiple_of=1)
    assert_proved(result)
    assert (result.max_batch_size or 0, result.limited_by) == (largest, limit)


def test_kernel_limit_below_the_memory_limit() -> None:
    memory = limited_to(1_000_000, "2 MiB")

    def measure(size: int) -> Measurement:
        measured = memory(size)
        return measured if size <= 65_535 else replace(measured, outcome=Outcome.KERNEL_LIMIT, steps=0)

    result = find_largest(measure, capacity_bytes=memory.capacity_bytes, multiple_of=1)
    assert_proved(result)
    assert (result.max_batch_size, result.limited_by) == (65_535, Limit.KERNEL_LIMIT)
    assert result.extrapolated_batch_size == pytest.approx(1_000_000, rel=0.01)
    assert len(memory.sizes) <= bisection_trials(65_535)


def test_error_at_one_if_two_runs() -> None:
    measure = RuleBased(
        lambda size: Outcome.ERROR if size == 1 else Outcome.FITS if size <= 37 else Outcome.OUT_OF_MEMORY
    )
    result = find_largest(measure, multiple_of=1)
    assert_proved(result)
    assert (result.max_batch_size, result.limited_by) == (37, Limit.MEMORY)
    assert any("batch size 1 raised an error" in note and "at 1" in note for note in result.notes)
    assert len(measure.sizes) <= bisection_trials(37)


@pytest.mark.parametrize(
    ("at_two", "limit"),
    [
        (Outcome.ERROR, Limit.ERROR),
        (Outcome.OUT_OF_MEMORY, Limit.MEMORY),
        (Outcome.KERNEL_LIMIT, Limit.KERNEL_LIMIT),
    ],
)
def test_error_at_one_if_two_fails(at_two: Outcome, limit: Limit) -> None:
    measure = RuleBased(lambda size: Outcome.ERROR if size == 1 else at_two)
    result = find_largest(measure)
    assert measure.sizes == [1, 2]
    assert (result.max_batch_size, result.limited_by, result.certificate) == (None, limit, None)
    assert result.trials[0].outcome is Outcome.ERROR


def test_error_at_one_with_an_upper_bound_of_one() -> None:
    measure = RuleBased(lambda size: Outcome.ERROR)
    assert find_largest(measure, upper_bound=1).limited_by is Limit.ERROR
    assert measure.sizes == [1]


@pytest.mark.parametrize("killed", [1, 4, 128])
def test_trial_killed_once_is_repeated(killed: int) -> None:
    deaths = iter([Outcome.KILLED])
    measure = RuleBased(
        lambda size: (
            next(deaths, Outcome.FITS) if size == killed else Outcome.FITS if size < 150 else Outcome.OUT_OF_MEMORY
        )
    )
    result = find_largest(measure, multiple_of=1)
    assert_proved(result)
    assert (result.max_batch_size, result.limited_by) == (149, Limit.MEMORY)
    assert measure.sizes.count(killed) == 2
    assert result.notes == ()


def test_trial_killed_twice_is_a_limit() -> None:
    measure = up_to(20, Outcome.KILLED)
    result = find_largest(measure, multiple_of=1)
    assert (result.max_batch_size, result.limited_by) == (20, Limit.HOST_MEMORY)
    assert measure.sizes.count(21) == 2
    assert any("killed twice" in note for note in result.notes)


# -- time


def test_no_trial_starts_after_the_time_limit() -> None:
    clock, memory = Clock(), limited_to(10_000)
    result = find_largest(
        clock.slow(memory, 10), capacity_bytes=memory.capacity_bytes, time_limit=25, clock=clock, confirm=memory
    )
    assert len(memory.sizes) == 3
    assert result.limited_by is Limit.TIME
    assert result.max_batch_size == max(trial.batch_size for trial in result.trials if trial.fits)
    assert any("time limit" in note for note in result.notes)


def test_time_limit_of_zero_runs_nothing() -> None:
    measure = up_to(5)
    result = find_largest(measure, time_limit=0)
    assert measure.sizes == []
    assert (result.max_batch_size, result.limited_by, result.certificate) == (None, Limit.TIME, None)


def test_trial_that_times_out_ends_the_search() -> None:
    clock = Clock()
    result = find_largest(clock.slow(up_to(5, Outcome.TIMED_OUT), 10), time_limit=35, clock=clock, multiple_of=1)
    assert [trial.batch_size for trial in result.trials] == [1, 2, 4, 8]
    assert (result.max_batch_size, result.limited_by) == (4, Limit.TIME)
    assert result.certificate is not None
    assert result.certificate.smallest_failed == 8


def test_killed_trial_is_no_limit_without_time_to_repeat_it() -> None:
    clock = Clock()
    result = find_largest(clock.slow(up_to(5, Outcome.KILLED), 10), time_limit=35, clock=clock, multiple_of=1)
    assert (result.max_batch_size, result.limited_by) == (4, Limit.TIME)
    assert result.certificate is not None
    assert result.certificate.smallest_failed is None


def test_answer_stands_without_time_to_confirm_it() -> None:
    clock, measure = Clock(), up_to(3)
    result = find_largest(clock.slow(measure, 10), time_limit=40, clock=clock, confirm=measure, multiple_of=1)
    assert (result.max_batch_size, result.limited_by) == (3, Limit.MEMORY)
    assert any("before batch size 3 was run again" in note for note in result.notes)


# -- tolerance


@pytest.mark.parametrize("tolerance", [0.01, 0.1, 0.5])
def test_tolerance_stops_early_with_a_note(tolerance: float) -> None:
    exact, rough = up_to(900), up_to(900)
    find_largest(exact, multiple_of=1)
    result = find_largest(rough, tolerance=tolerance, multiple_of=1)
    assert result.certificate is not None
    largest_ok, failed = result.certificate.largest_ok, result.certificate.smallest_failed
    assert failed is not None
    assert largest_ok <= 900 < failed
    assert 0 < failed - 1 - largest_ok <= tolerance * largest_ok
    assert len(rough.sizes) < len(exact.sizes)
    assert result.limited_by is Limit.MEMORY
    assert any(f"between {largest_ok} and {failed}" in note for note in result.notes)


# -- Ctrl-C and progress


@pytest.mark.parametrize("after", range(6))
def test_interrupt_carries_the_partial_result(after: int) -> None:
    memory = limited_to(1000)

    def measure(size: int) -> Measurement:
        if len(memory.sizes) == after:
            raise KeyboardInterrupt
        return memory(size)

    with pytest.raises(KeyboardInterrupt) as stop:
        find_largest(measure, capacity_bytes=memory.capacity_bytes)
    assert isinstance(stop.value, Interrupted)
    partial = stop.value.partial
    assert [trial.batch_size for trial in partial.trials] == memory.sizes
    assert partial.limited_by is None
    assert (partial.max_batch_size or 0) == max((size for size in memory.sizes if size <= 1000), default=0)
    failed = [size for size in memory.sizes if size > 1000]
    if partial.certificate:
        assert partial.certificate.smallest_failed == min(failed, default=None)


def test_progress_gets_every_trial_with_its_bracket() -> None:
    progress = RecordingProgress()
    find_largest(up_to(2), progress=progress, multiple_of=1)
    assert progress.started == [
        (1, Bracket(0, None)),
        (2, Bracket(1, None)),
        (4, Bracket(2, None)),
        (3, Bracket(2, 4)),
    ]
    assert [(trial.batch_size, bracket) for trial, bracket in progress.finished] == [
        (1, Bracket(1, None)),
        (2, Bracket(2, None)),
        (4, Bracket(2, 4)),
        (3, Bracket(2, 3)),
    ]


# -- confirmation from a clean state


def test_answer_is_confirmed() -> None:
    confirmed: list[int] = []

    def confirm(size: int) -> bool:
        confirmed.append(size)
        return True

    result = find_largest(up_to(50), confirm=confirm, multiple_of=1)
    assert confirmed == [50]
    assert result.trials[-1].batch_size == 50


def test_size_that_fails_its_confirmation() -> None:
    first, clean = up_to(50), up_to(46)
    result = find_largest(first, confirm=clean, multiple_of=1)
    assert_proved(result)
    assert result.max_batch_size == 46
    assert result.limited_by is Limit.MEMORY
    assert clean.sizes[0] == 50
    assert any("batch size 50 ran once, and failed when run again" in note for note in result.notes)


def test_later_trials_run_from_a_clean_state_and_only_once() -> None:
    first, clean = up_to(1000), up_to(700)
    result = find_largest(first, confirm=clean, multiple_of=1)
    assert_proved(result)
    assert result.max_batch_size == 700
    assert [trial.batch_size for trial in result.trials] == first.sizes + clean.sizes
    assert len(clean.sizes) == len(set(clean.sizes))


def test_confirmation_that_always_fails() -> None:
    result = find_largest(up_to(9), confirm=up_to(0), multiple_of=1)
    assert (result.max_batch_size, result.limited_by, result.certificate) == (None, Limit.MEMORY, None)


# -- the recommended size


def is_suitable(trial: Measurement, limit_bytes: int) -> bool:
    return trial.fits and trial.allocator_retries == 0 and trial.peak_reserved_bytes <= limit_bytes


@pytest.mark.parametrize("shape", SHAPES[:5])
@pytest.mark.parametrize("multiple_of", [1, 8, 64])
def test_recommended_size_is_round_and_leaves_the_margin(shape: str, multiple_of: int) -> None:
    extra_trials = []
    for largest in (9, 64, 100, 257, 1000, 50_000):
        memory = limited_to(largest, shape)
        limit_bytes = memory.capacity_bytes - memory.capacity_bytes // 20
        search(without := limited_to(largest, shape))
        result = search(memory, multiple_of=multiple_of, margin=memory.capacity_bytes // 20)
        last = {trial.batch_size: trial for trial in result.trials}
        best = result.recommended_batch_size
        top = result.max_batch_size
        assert top == largest
        unit = multiple_of if best is None or best % multiple_of == 0 else 1
        assert unit == multiple_of or largest < multiple_of or not is_suitable(last[multiple_of], limit_bytes)
        if best is None:
            assert not is_suitable(last[1], limit_bytes)
            continue
        assert is_suitable(last[best], limit_bytes)
        following = best + unit
        assert (
            following > top or (unit == 1 and following == multiple_of) or not is_suitable(last[following], limit_bytes)
        )
        extra_trials.append(len(memory.sizes) - len(without.sizes))
    assert median(extra_trials) <= 3


def test_recommended_size_that_already_ran_costs_no_trial() -> None:
    memory = limited_to(1000)
    result = search(memory, multiple_of=8)
    assert result.recommended_batch_size == result.max_batch_size == 1000
    assert memory.sizes[-1] == 1001


@pytest.mark.parametrize(("largest", "recommended"), [(7, 7), (8, 8), (9, 8), (100, 96)])
def test_recommended_size_without_a_capacity(largest: int, recommended: int) -> None:
    measure = up_to(largest)
    result = find_largest(measure)
    assert result.recommended_batch_size == recommended
    assert recommended in measure.sizes
    assert bool(result.notes) == (largest < 8)


def test_recommended_size_below_the_multiple() -> None:
    memory = FakeMemory(capacity_bytes=1100 * MIB, resident_bytes=0, sample_bytes=100 * MIB)
    result = search(memory, multiple_of=8, margin=450 * MIB)
    assert (result.max_batch_size, result.recommended_batch_size) == (11, 6)
    assert {7, 8} <= set(memory.sizes)
    assert any("no multiple of 8" in note for note in result.notes)


def test_no_recommended_size_if_none_leaves_the_margin() -> None:
    result = search(limited_to(20), margin=2**60)
    assert (result.max_batch_size, result.recommended_batch_size) == (20, None)
    assert any("no size can be recommended" in note for note in result.notes)


def test_no_trial_for_a_recommended_size_that_is_not_requested() -> None:
    memory, other = limited_to(1000), limited_to(1000)
    margin = memory.capacity_bytes // 10
    result = find_largest(other, capacity_bytes=other.capacity_bytes, margin_bytes=margin, multiple_of=None)
    assert result.max_batch_size == search(memory, margin=margin).max_batch_size == 1000
    assert other.sizes == memory.sizes[: len(other.sizes)] != memory.sizes


def test_thrashing_size_is_not_recommended() -> None:
    memory = limited_to(1000)

    def measure(size: int) -> Measurement:
        return replace(memory(size), allocator_retries=int(size > 900))

    result = find_largest(measure, capacity_bytes=memory.capacity_bytes, multiple_of=8)
    assert (result.max_batch_size, result.recommended_batch_size) == (1000, 896)
    assert 904 in memory.sizes
    assert any("batch size 1000 ran only because" in note for note in result.notes)
    assert len(memory.sizes) <= 20


# -- invalid results and arguments


def test_measure_without_a_return_value_raises() -> None:
    with pytest.raises(TypeError, match=r"measure\(1\) returned None"):
        find_largest(lambda size: None)  # type: ignore[arg-type, return-value]


def test_measurement_of_another_size_raises() -> None:
    with pytest.raises(ValueError, match=r"measure\(2\) returned a measurement of batch size 1"):
        find_largest(lambda size: Measurement(batch_size=1, outcome=Outcome.FITS, steps=1))


def test_measurement_without_steps_raises() -> None:
    with pytest.raises(ValueError, match="without a completed step"):
        find_largest(lambda size: Measurement(batch_size=size, outcome=Outcome.FITS))


@pytest.mark.parametrize(
    "arguments", [{"upper_bound": 0}, {"multiple_of": 0}, {"tolerance": -0.1}, {"margin_bytes": -1}]
)
def test_arguments_out_of_range_raise(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        find_largest(up_to(3), **arguments)  # type: ignore[arg-type]


def test_exceptions_of_measure_propagate() -> None:
    def measure(size: int) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        find_largest(measure)
