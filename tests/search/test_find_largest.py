"""The search: the answer ran, the next size did not, and few trials were needed to know it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import BLOCK, MIB, SHAPES, FakeMemory, RecordingProgress, limited_to
from vram_cli.errors import Interrupted
from vram_cli.records import Bracket, Limit, Measurement, Outcome, Phase, PhasePeak, SearchResult
from vram_cli.search import find_largest
from vram_cli.search.forecast import Forecast, forecast, next_size, proportional
from vram_cli.search.trial_budget import BEYOND, ONE, affordable, plain_trials, tail

HUGE = (1000, 50_000, 1_000_003, 2**31 - 1, 2**31, 10**11)


class Asked:
    """A measuring function that only knows a rule, and remembers what it was asked."""

    def __init__(self, outcome_of: Callable[[int], Outcome]) -> None:
        self.outcome_of = outcome_of
        self.sizes: list[int] = []

    def __call__(self, size: int) -> Measurement:
        self.sizes.append(size)
        outcome = self.outcome_of(size)
        return Measurement(batch_size=size, outcome=outcome, steps=3 * (outcome is Outcome.FITS), message=f"at {size}")


def up_to(largest: int, above: Outcome = Outcome.OUT_OF_MEMORY) -> Asked:
    return Asked(lambda size: Outcome.FITS if size <= largest else above)


class Clock:
    """Seconds that pass only when something is measured."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def slow(self, measure: Callable[[int], Measurement], seconds: float) -> Callable[[int], Measurement]:
        def measured(size: int) -> Measurement:
            self.now += seconds
            return measure(size)

        return measured


def plain_search(largest: int, cap: int | None = None) -> int:
    """Count the trials of doubling and bisection by doing it."""
    size, trials, fits = 1, 0, 0
    while True:
        trials += 1
        if size > largest:
            break
        fits = size
        if fits == cap:
            return trials
        size = min(2 * size, cap or 2 * size)
    fails = size
    while fails - fits > 1:
        trials, middle = trials + 1, (fits + fails) // 2
        fits, fails = (middle, fails) if middle <= largest else (fits, middle)
    return trials


def assert_proved(result: SearchResult, cap: int | None = None) -> None:
    """The certificate stands in the trials themselves; nothing is taken from the search's own account."""
    last = {trial.batch_size: trial for trial in result.trials}
    largest, proof = result.max_batch_size, result.certificate
    if largest is None:
        assert proof is None
        assert not any(trial.fits for trial in last.values())
        return
    assert last[largest].fits
    assert proof is not None
    assert (proof.fits, proof.steps) == (largest, last[largest].steps)
    if largest == cap:
        assert proof.fails is None
    else:
        assert proof.fails == largest + 1
        assert proof.outcome is last[largest + 1].outcome is not Outcome.FITS
        assert (proof.phase, proof.message) == (last[largest + 1].phase, last[largest + 1].message)


def search(memory: FakeMemory, *, multiple_of: int = 1, margin: int = 0, cap: int | None = None) -> SearchResult:
    """Search in a memory; with multiples of 1 and no margin, no trial goes to the recommended size."""
    return find_largest(
        memory, capacity_bytes=memory.capacity_bytes, multiple_of=multiple_of, margin_bytes=margin, cap=cap
    )


# -- the promise: never more trials than doubling and bisection


def test_plain_trials_is_what_doubling_and_bisection_take() -> None:
    assert [plain_trials(largest) for largest in range(2000)] == [plain_search(largest) for largest in range(2000)]


def test_tail_adds_up_what_plain_trials_leaves() -> None:
    assert tail(0) == ONE
    for size in range(300):
        assert (tail(size) - tail(size + 1)) * 2 ** plain_trials(size) == ONE


def test_without_a_successful_jump_only_the_plain_sizes_can_be_afforded() -> None:
    assert affordable(0, BEYOND, 0) == (1, 1)
    assert affordable(1, BEYOND, 1) == (2, 2)
    assert affordable(64, BEYOND, 7) == (128, 128)
    assert affordable(64, 128, 8) == (96, 96)
    low, high = affordable(19, BEYOND, 2)
    assert low == 20
    assert high > 10**9


# -- bools: no memory to go by


@pytest.mark.parametrize("largest", [*range(301), *HUGE])
def test_bools_are_searched_exactly_as_plainly_as_doubling_and_bisection(largest: int) -> None:
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= largest

    result = find_largest(fits, multiple_of=1)
    assert_proved(result)
    assert (result.max_batch_size or 0) == largest
    assert result.limited_by is Limit.MEMORY
    assert len(asked) == len(set(asked)) == plain_search(largest)


@pytest.mark.parametrize("cap", [1, 2, 3, 7, 8, 9, 33, 100])
def test_bools_under_a_cap(cap: int) -> None:
    for largest in range(120):
        measure = up_to(largest)
        result = find_largest(measure, cap=cap, multiple_of=1)
        assert_proved(result, cap)
        assert (result.max_batch_size or 0) == min(largest, cap)
        assert result.limited_by is (Limit.MAX_BATCH_SIZE if largest >= cap else Limit.MEMORY)
        assert max(measure.sizes) <= cap
        assert len(measure.sizes) <= plain_search(largest, cap)


@given(st.sets(st.integers(1, 200)))
def test_any_rule_ends_with_a_proof_within_the_bound(failing: set[int]) -> None:
    measure = Asked(lambda size: Outcome.OUT_OF_MEMORY if size in failing or size > 250 else Outcome.FITS)
    result = find_largest(measure, multiple_of=1)
    assert_proved(result)
    assert len(measure.sizes) <= plain_trials(result.max_batch_size or 0)


def test_where_everything_fits_the_search_still_ends() -> None:
    measure = up_to(2**80)
    result = find_largest(measure, multiple_of=1)
    assert (result.max_batch_size, result.limited_by) == (BEYOND - 1, Limit.MAX_BATCH_SIZE)
    assert len(measure.sizes) == 41


# -- memory: jumps, verified


@pytest.mark.parametrize("shape", SHAPES)
def test_every_limit_in_every_memory_is_found_and_proved_in_no_more_trials_than_plainly(shape: str) -> None:
    for largest in (*range(301), *HUGE):
        memory = limited_to(largest, shape)
        result = search(memory)
        assert_proved(result)
        assert result.limited_by is Limit.MEMORY
        if shape != "workspace":
            assert (result.max_batch_size or 0) == largest
        assert len(memory.asked) == len(set(memory.asked)) <= plain_trials(result.max_batch_size or 0)


@pytest.mark.parametrize("shape", ["smooth", "2 MiB", "20 MiB", "optimizer", "gradients"])
def test_seven_trials_at_the_median(shape: str) -> None:
    trials = []
    for largest in (1, 7, 100, 1000, 50_000, 1_000_003):
        memory = limited_to(largest, shape)
        search(memory)
        trials.append(len(memory.asked))
    assert median(trials) <= 7
    assert max(trials) <= 8


memories = st.builds(
    FakeMemory,
    capacity_bytes=st.just(0),
    resident_bytes=st.integers(0, 2**34),
    # Even the flattest line, a 64th of this, then grows by a block a sample: more samples to a block make stairs of it.
    sample_bytes=st.integers(64 * BLOCK, 2**28),
    lump_bytes=st.sampled_from([512, 2 * MIB, 20 * MIB]),
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
    assert len(memory.asked) == len(set(memory.asked)) <= plain_trials(result.max_batch_size or 0)


@settings(max_examples=300, deadline=None)
@given(memories, st.integers(0, 10**6), st.floats(0, 2))
def test_random_unordered_workspaces_cost_one_trial_more_at_most(
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
    assert len(memory.asked) == len(set(memory.asked)) <= plain_trials(result.max_batch_size or 0) + 1


def test_a_capacity_that_is_not_true_costs_trials_and_not_the_answer() -> None:
    for factor in (0.2, 0.9, 1.1, 5.0):
        memory = limited_to(777, "2 MiB")
        result = find_largest(memory, capacity_bytes=int(memory.capacity_bytes * factor), multiple_of=1)
        assert_proved(result)
        assert result.max_batch_size == 777
        assert len(memory.asked) <= plain_trials(777)


@pytest.mark.parametrize("shape", ["smooth", "2 MiB", "20 MiB", "optimizer", "gradients"])
@pytest.mark.parametrize("largest", [50, 777, 60_000])
def test_a_true_expectation_is_proved_in_three_trials(shape: str, largest: int) -> None:
    memory = limited_to(largest, shape)
    result = find_largest(memory, capacity_bytes=memory.capacity_bytes, multiple_of=1, expected=lambda: largest)
    assert_proved(result)
    assert memory.asked == [1, largest, largest + 1]


@pytest.mark.parametrize("shape", ["smooth", "2 MiB", "20 MiB", "gradients"])
def test_an_expectation_that_is_some_per_cent_off_saves_trials(shape: str) -> None:
    guided, alone = [], []
    for largest in range(200, 20_000, 333):
        for error in (0.97, 0.99, 1.01, 1.03):
            memory = limited_to(largest, shape)
            at = int(largest * error)
            found = find_largest(
                memory, capacity_bytes=memory.capacity_bytes, multiple_of=1, expected=lambda size=at: size
            )
            assert found.max_batch_size == largest
            guided.append(len(memory.asked))
        search(memory := limited_to(largest, shape))
        alone.append(len(memory.asked))
    assert sum(guided) / 4 < sum(alone)


@settings(max_examples=300, deadline=None)
@given(memories, st.integers(0, 10**6), st.integers(0, 10**8) | st.none())
def test_a_wild_expectation_costs_two_trials_and_never_the_truth(
    memory: FakeMemory, largest: int, expected: int | None
) -> None:
    memory = replace(memory, capacity_bytes=memory.resident_bytes + largest * memory.sample_bytes)
    result = find_largest(memory, capacity_bytes=memory.capacity_bytes, multiple_of=1, expected=lambda: expected)
    assert_proved(result)
    assert len(memory.asked) == len(set(memory.asked)) <= plain_trials(result.max_batch_size or 0) + 2


def test_an_expectation_is_not_tried_beyond_the_cap() -> None:
    memory = limited_to(5000)
    result = find_largest(memory, capacity_bytes=memory.capacity_bytes, cap=300, expected=lambda: 4000)
    assert (result.max_batch_size, memory.asked[1]) == (300, 300)


def test_nobody_is_asked_for_an_expectation_where_the_smallest_size_fails() -> None:
    def asked() -> int:
        raise AssertionError("asked")

    assert find_largest(up_to(0), expected=asked).max_batch_size is None


def test_the_same_memory_is_searched_in_the_same_order() -> None:
    first, second = limited_to(5000, "workspace"), limited_to(5000, "workspace")
    assert search(first) == search(second)


# -- caps and what memory would allow beyond them


@pytest.mark.parametrize("shape", SHAPES[:5])
def test_a_cap_that_fits_is_tried_early_and_memory_beyond_it_is_extrapolated(shape: str) -> None:
    memory = limited_to(2_000_000, shape)
    result = find_largest(
        memory, capacity_bytes=memory.capacity_bytes, cap=60_000, cap_limit=Limit.DATASET, multiple_of=1
    )
    assert_proved(result, cap=60_000)
    assert (result.max_batch_size, result.limited_by) == (60_000, Limit.DATASET)
    assert len(memory.asked) <= 3
    assert result.extrapolated_batch_size == pytest.approx(2_000_000, rel=0.01)
    assert result.extrapolated_batch_size not in memory.asked


@pytest.mark.parametrize("shape", SHAPES[:5])
def test_no_cap_is_ever_exceeded_and_none_costs_more_than_plainly(shape: str) -> None:
    for cap in (1, 2, 5, 9, 17, 33, 100, 129):
        for largest in (*range(40), cap - 1, cap, cap + 1, 500):
            memory = limited_to(largest, shape)
            result = search(memory, cap=cap)
            assert_proved(result, cap)
            assert (result.max_batch_size or 0) == min(cap, largest)
            assert max(memory.asked) <= cap
            assert len(memory.asked) <= plain_search(largest, cap)
            assert result.extrapolated_batch_size is None or result.extrapolated_batch_size > cap <= largest


def test_nothing_is_extrapolated_where_memory_is_the_limit_or_unknown() -> None:
    assert search(limited_to(1000)).extrapolated_batch_size is None
    assert find_largest(limited_to(1000), cap=100).extrapolated_batch_size is None


# -- other ends than memory


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
def test_the_limit_is_named_after_how_the_next_size_ended(outcome: Outcome, limit: Limit, largest: int) -> None:
    result = find_largest(up_to(largest, outcome), multiple_of=1)
    assert_proved(result)
    assert (result.max_batch_size or 0, result.limited_by) == (largest, limit)


def test_a_kernel_limit_below_the_memory_limit_is_found_exactly_and_memory_extrapolated() -> None:
    memory = limited_to(1_000_000, "2 MiB")

    def measure(size: int) -> Measurement:
        measured = memory(size)
        return measured if size <= 65_535 else replace(measured, outcome=Outcome.KERNEL_LIMIT, steps=0)

    result = find_largest(measure, capacity_bytes=memory.capacity_bytes, multiple_of=1)
    assert_proved(result)
    assert (result.max_batch_size, result.limited_by) == (65_535, Limit.KERNEL_LIMIT)
    assert result.extrapolated_batch_size == pytest.approx(1_000_000, rel=0.01)
    assert len(memory.asked) <= plain_trials(65_535)


def test_an_error_at_one_is_not_too_large_where_two_runs() -> None:
    measure = Asked(lambda size: Outcome.ERROR if size == 1 else Outcome.FITS if size <= 37 else Outcome.OUT_OF_MEMORY)
    result = find_largest(measure, multiple_of=1)
    assert_proved(result)
    assert (result.max_batch_size, result.limited_by) == (37, Limit.MEMORY)
    assert any("batch size 1 raised an error" in note and "at 1" in note for note in result.notes)
    assert len(measure.sizes) <= plain_trials(37)


@pytest.mark.parametrize("at_two", [Outcome.ERROR, Outcome.OUT_OF_MEMORY, Outcome.KERNEL_LIMIT])
def test_an_error_at_one_where_two_does_not_run_is_the_users_error(at_two: Outcome) -> None:
    measure = Asked(lambda size: Outcome.ERROR if size == 1 else at_two)
    result = find_largest(measure)
    assert measure.sizes == [1, 2]
    assert (result.max_batch_size, result.limited_by, result.certificate) == (None, Limit.ERROR, None)
    assert result.trials[0].outcome is Outcome.ERROR


def test_an_error_at_one_under_a_cap_of_one_ends_there() -> None:
    measure = Asked(lambda size: Outcome.ERROR)
    assert find_largest(measure, cap=1).limited_by is Limit.ERROR
    assert measure.sizes == [1]


@pytest.mark.parametrize("killed", [1, 4, 128])
def test_a_trial_that_is_killed_once_is_run_again(killed: int) -> None:
    deaths = iter([Outcome.KILLED])
    measure = Asked(
        lambda size: (
            next(deaths, Outcome.FITS) if size == killed else Outcome.FITS if size < 150 else Outcome.OUT_OF_MEMORY
        )
    )
    result = find_largest(measure, multiple_of=1)
    assert_proved(result)
    assert (result.max_batch_size, result.limited_by) == (149, Limit.MEMORY)
    assert measure.sizes.count(killed) == 2
    assert result.notes == ()


def test_a_trial_that_is_killed_twice_is_a_limit_and_said_to_be_one() -> None:
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
    assert len(memory.asked) == 3
    assert result.limited_by is Limit.TIME
    assert result.max_batch_size == max(trial.batch_size for trial in result.trials if trial.fits)
    assert any("time was over" in note for note in result.notes)


def test_no_time_at_all_runs_nothing() -> None:
    measure = up_to(5)
    result = find_largest(measure, time_limit=0)
    assert measure.sizes == []
    assert (result.max_batch_size, result.limited_by, result.certificate) == (None, Limit.TIME, None)


def test_a_trial_that_is_stopped_because_time_is_over_ends_the_search() -> None:
    clock = Clock()
    result = find_largest(clock.slow(up_to(5, Outcome.TIMED_OUT), 10), time_limit=35, clock=clock, multiple_of=1)
    assert [trial.batch_size for trial in result.trials] == [1, 2, 4, 8]
    assert (result.max_batch_size, result.limited_by) == (4, Limit.TIME)
    assert result.certificate is not None
    assert result.certificate.fails == 8


def test_a_killed_trial_is_not_a_limit_when_there_is_no_time_to_repeat_it() -> None:
    clock = Clock()
    result = find_largest(clock.slow(up_to(5, Outcome.KILLED), 10), time_limit=35, clock=clock, multiple_of=1)
    assert (result.max_batch_size, result.limited_by) == (4, Limit.TIME)
    assert result.certificate is not None
    assert result.certificate.fails is None


def test_the_answer_stands_when_only_the_confirmation_has_no_time() -> None:
    clock, measure = Clock(), up_to(3)
    result = find_largest(clock.slow(measure, 10), time_limit=40, clock=clock, confirm=measure, multiple_of=1)
    assert (result.max_batch_size, result.limited_by) == (3, Limit.MEMORY)
    assert any("before batch size 3 was run again" in note for note in result.notes)


# -- tolerance


@pytest.mark.parametrize("tolerance", [0.01, 0.1, 0.5])
def test_tolerance_stops_early_and_says_what_was_not_tried(tolerance: float) -> None:
    exact, rough = up_to(900), up_to(900)
    find_largest(exact, multiple_of=1)
    result = find_largest(rough, tolerance=tolerance, multiple_of=1)
    assert result.certificate is not None
    fits, fails = result.certificate.fits, result.certificate.fails
    assert fails is not None
    assert fits <= 900 < fails
    assert 0 < fails - 1 - fits <= tolerance * fits
    assert len(rough.sizes) < len(exact.sizes)
    assert result.limited_by is Limit.MEMORY
    assert any(f"between {fits} and {fails}" in note for note in result.notes)


# -- Ctrl-C and progress


@pytest.mark.parametrize("after", range(6))
def test_an_interrupt_carries_all_that_is_known(after: int) -> None:
    memory = limited_to(1000)

    def measure(size: int) -> Measurement:
        if len(memory.asked) == after:
            raise KeyboardInterrupt
        return memory(size)

    with pytest.raises(KeyboardInterrupt) as stop:
        find_largest(measure, capacity_bytes=memory.capacity_bytes)
    assert isinstance(stop.value, Interrupted)
    partial = stop.value.partial
    assert [trial.batch_size for trial in partial.trials] == memory.asked
    assert partial.limited_by is None
    assert (partial.max_batch_size or 0) == max((size for size in memory.asked if size <= 1000), default=0)
    failed = [size for size in memory.asked if size > 1000]
    if partial.certificate:
        assert partial.certificate.fails == min(failed, default=None)


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


# -- confirmation in a fresh state


def test_the_answer_is_run_once_more() -> None:
    again: list[int] = []

    def confirm(size: int) -> bool:
        again.append(size)
        return True

    result = find_largest(up_to(50), confirm=confirm, multiple_of=1)
    assert again == [50]
    assert result.trials[-1].batch_size == 50


def test_a_size_that_fails_when_confirmed_is_not_the_answer() -> None:
    warm, fresh = up_to(50), up_to(46)
    result = find_largest(warm, confirm=fresh, multiple_of=1)
    assert_proved(result)
    assert result.max_batch_size == 46
    assert result.limited_by is Limit.MEMORY
    assert fresh.sizes[0] == 50
    assert any("batch size 50 ran once, and failed when run again" in note for note in result.notes)


def test_after_a_failed_confirmation_all_trials_run_in_the_fresh_state_and_none_twice() -> None:
    warm, fresh = up_to(1000), up_to(700)
    result = find_largest(warm, confirm=fresh, multiple_of=1)
    assert_proved(result)
    assert result.max_batch_size == 700
    assert [trial.batch_size for trial in result.trials] == warm.sizes + fresh.sizes
    assert len(fresh.sizes) == len(set(fresh.sizes))


def test_a_confirmation_that_never_holds_ends_with_nothing() -> None:
    result = find_largest(up_to(9), confirm=up_to(0), multiple_of=1)
    assert (result.max_batch_size, result.limited_by, result.certificate) == (None, Limit.MEMORY, None)


# -- the recommended size


def is_good(trial: Measurement, limit_bytes: int) -> bool:
    return trial.fits and trial.allocator_retries == 0 and trial.peak_reserved_bytes <= limit_bytes


@pytest.mark.parametrize("shape", SHAPES[:5])
@pytest.mark.parametrize("multiple_of", [1, 8, 64])
def test_the_recommended_size_is_round_leaves_the_margin_and_ran(shape: str, multiple_of: int) -> None:
    extra = []
    for largest in (9, 64, 100, 257, 1000, 50_000):
        memory = limited_to(largest, shape)
        limit_bytes = memory.capacity_bytes - memory.capacity_bytes // 20
        search(plain := limited_to(largest, shape))
        result = search(memory, multiple_of=multiple_of, margin=memory.capacity_bytes // 20)
        last = {trial.batch_size: trial for trial in result.trials}
        best = result.recommended_batch_size
        top = result.max_batch_size
        assert top == largest
        unit = multiple_of if best is None or best % multiple_of == 0 else 1
        assert unit == multiple_of or largest < multiple_of or not is_good(last[multiple_of], limit_bytes)
        if best is None:
            assert not is_good(last[1], limit_bytes)
            continue
        assert is_good(last[best], limit_bytes)
        following = best + unit
        assert following > top or (unit == 1 and following == multiple_of) or not is_good(last[following], limit_bytes)
        extra.append(len(memory.asked) - len(plain.asked))
    assert median(extra) <= 3


def test_a_recommended_size_that_ran_already_costs_nothing() -> None:
    memory = limited_to(1000)
    result = search(memory, multiple_of=8)
    assert result.recommended_batch_size == result.max_batch_size == 1000
    assert memory.asked[-1] == 1001


@pytest.mark.parametrize(("largest", "recommended"), [(7, 7), (8, 8), (9, 8), (100, 96)])
def test_without_a_known_capacity_it_is_the_largest_multiple_that_ran(largest: int, recommended: int) -> None:
    measure = up_to(largest)
    result = find_largest(measure)
    assert result.recommended_batch_size == recommended
    assert recommended in measure.sizes
    assert bool(result.notes) == (largest < 8)


def test_below_the_multiple_it_is_any_size_that_leaves_the_margin() -> None:
    memory = FakeMemory(capacity_bytes=1100 * MIB, resident_bytes=0, sample_bytes=100 * MIB)
    result = search(memory, multiple_of=8, margin=450 * MIB)
    assert (result.max_batch_size, result.recommended_batch_size) == (11, 6)
    assert {7, 8} <= set(memory.asked)
    assert any("no multiple of 8" in note for note in result.notes)


def test_nothing_is_recommended_where_nothing_leaves_the_margin() -> None:
    result = search(limited_to(20), margin=2**60)
    assert (result.max_batch_size, result.recommended_batch_size) == (20, None)
    assert any("no size can be recommended" in note for note in result.notes)


def test_where_nobody_asks_what_to_recommend_no_trial_goes_to_it() -> None:
    asked, unasked = limited_to(1000), limited_to(1000)
    margin = asked.capacity_bytes // 10
    result = find_largest(unasked, capacity_bytes=unasked.capacity_bytes, margin_bytes=margin, multiple_of=None)
    assert result.max_batch_size == search(asked, margin=margin).max_batch_size == 1000
    assert unasked.asked == asked.asked[: len(unasked.asked)] != asked.asked


def test_a_thrashing_size_is_noted_and_never_recommended() -> None:
    memory = limited_to(1000)

    def measure(size: int) -> Measurement:
        return replace(memory(size), allocator_retries=int(size > 900))

    result = find_largest(measure, capacity_bytes=memory.capacity_bytes, multiple_of=8)
    assert (result.max_batch_size, result.recommended_batch_size) == (1000, 896)
    assert 904 in memory.asked
    assert any("batch size 1000 ran only because" in note for note in result.notes)
    assert len(memory.asked) <= 20


# -- what a measuring function may not say


def test_a_function_that_forgets_to_return_is_told_so() -> None:
    with pytest.raises(TypeError, match=r"measure\(1\) returned None"):
        find_largest(lambda size: None)  # type: ignore[arg-type, return-value]


def test_a_measurement_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"measure\(2\) ran a batch of 1"):
        find_largest(lambda size: Measurement(batch_size=1, outcome=Outcome.FITS, steps=1))


def test_a_measurement_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="without one full step"):
        find_largest(lambda size: Measurement(batch_size=size, outcome=Outcome.FITS))


@pytest.mark.parametrize("wrong", [{"cap": 0}, {"multiple_of": 0}, {"tolerance": -0.1}, {"margin_bytes": -1}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        find_largest(up_to(3), **wrong)  # type: ignore[arg-type]


def test_the_users_own_exception_comes_through() -> None:
    def broken(size: int) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        find_largest(broken)


# -- predictions


def measured(memory: FakeMemory, sizes: Iterable[int]) -> list[Measurement]:
    return [memory(size) for size in sizes]


def test_the_lines_see_through_an_optimizer_that_hides_the_batch() -> None:
    memory = limited_to(5000, "optimizer")
    first, second = measured(memory, (1, 40))
    assert first.peak_allocated_bytes == second.peak_allocated_bytes
    lines = forecast([first, second], memory.capacity_bytes)
    assert lines is not None
    assert lines.largest == pytest.approx(5000, rel=0.01)


def test_the_lines_end_where_a_lump_ends() -> None:
    memory = FakeMemory(capacity_bytes=1050 * MIB, resident_bytes=40 * MIB, sample_bytes=MIB // 2, lump_bytes=20 * MIB)
    lines = forecast(measured(memory, (1, 100, 400)), memory.capacity_bytes)
    assert lines is not None
    assert (lines.largest, lines.lump) == (2000, 40)


def test_no_line_is_drawn_where_nothing_grows_or_capacity_is_unknown() -> None:
    flat = FakeMemory(capacity_bytes=2**30, resident_bytes=MIB, sample_bytes=0)
    assert forecast(measured(flat, (1, 2)), flat.capacity_bytes) is None
    assert forecast(measured(limited_to(9), (1, 2)), None) is None
    assert forecast(measured(limited_to(9), (1,)), 2**40) is None


def test_the_lines_take_in_that_more_is_lost_with_a_larger_batch() -> None:
    memory = FakeMemory(capacity_bytes=1200 * MIB, resident_bytes=100 * MIB, sample_bytes=MIB)

    def fragmented(size: int) -> Measurement:
        peak = PhasePeak(
            phase=Phase.BACKWARD,
            allocated_bytes=memory.peaks(size)[1].allocated_bytes,
            reserved_bytes=(100 + 2 * size) * MIB,  # as much lost as used
        )
        return Measurement(batch_size=size, outcome=Outcome.FITS, steps=1, peaks=(peak,))

    lines = forecast([fragmented(20), fragmented(100)], memory.capacity_bytes)
    assert lines is not None
    assert lines.largest == 550


def test_what_a_failed_trial_was_short_of_beyond_the_line_is_taken_to_grow_with_the_batch() -> None:
    memory = limited_to(4000)
    fitting = measured(memory, (100, 3000))
    failed = Measurement(
        batch_size=3900,
        outcome=Outcome.OUT_OF_MEMORY,
        peaks=memory.peaks(3900),
        requested_bytes=memory.capacity_bytes - memory.peaks(3900)[1].allocated_bytes + 500 * memory.sample_bytes,
        held_bytes=memory.peaks(3900)[1].allocated_bytes,
    )
    before = forecast(fitting, memory.capacity_bytes)
    after = forecast(fitting, memory.capacity_bytes, failed)
    assert before is not None
    assert after is not None
    assert before.largest == pytest.approx(4000, abs=1)
    unseen = 600 / 3900  # of a sample, for each sample: 500 that were missing, and 100 that the line held to be free
    assert after.bound == pytest.approx(4000 / (1 + unseen), abs=2)
    assert (before.bound, after.largest) == (BEYOND, before.largest)
    assert next_size(after, fits=3000, fails=3900) == after.bound


def test_a_bound_that_rules_out_a_single_size_does_not_lead_down_one_by_one() -> None:
    assert next_size(Forecast(largest=4000, bound=3899, lump=1), fits=3000, fails=3900) < 3890
    assert next_size(Forecast(largest=3880, bound=3899, lump=1), fits=3000, fails=3900) == 3880


@pytest.mark.parametrize("unseen", [200, 400, 800])
def test_scratch_memory_that_no_counter_sees_costs_few_trials(unseen: int) -> None:
    for largest in (300, 2000, 50_000):
        memory = limited_to(largest)
        memory = replace(memory, unseen_bytes=unseen, asked=[])
        result = search(memory)
        assert_proved(result)
        assert len(memory.asked) <= 7


@given(st.integers(0, 2**36), st.integers(1, 2**30), st.floats(0, 0.5), st.floats(1, 1000), st.integers(1, 50))
def test_a_jump_in_proportion_always_fits(
    resident: int, sample: int, gradients: float, capacity: float, size: int
) -> None:
    memory = FakeMemory(
        capacity_bytes=0, resident_bytes=resident, sample_bytes=sample, gradient_bytes=int(gradients * resident)
    )
    first = memory(size).__class__(  # the trial as it would be with memory to spare
        batch_size=size,
        outcome=Outcome.FITS,
        peaks=memory.peaks(size),
        resident_bytes=resident,
        steps=1,
    )
    capacity_bytes = int(first.peak_reserved_bytes * capacity)
    jump = proportional(first, capacity_bytes)
    assert jump == 0 or memory.peaks(jump)[-1].reserved_bytes <= capacity_bytes
