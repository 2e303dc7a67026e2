"""Which sizes are timed, what their seconds say, and what is known where it ends early."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import RecordingProgress, limited_to
from vram_cli.commands.throughput import ThroughputSweep, refuse_to_predict
from vram_cli.config import load_config
from vram_cli.errors import ConfigError, ProbeError
from vram_cli.records import Detail, Limit, Measurement, Outcome, SearchResult, Throughput, ThroughputPoint
from vram_cli.search import find_largest, sizes_to_time, throughput_of, throughput_point

SIZES = st.integers(1, 2**40)
SECONDS = st.floats(1e-6, 1e4)


@given(SIZES, SIZES, st.lists(st.none() | SIZES, max_size=3))
def test_sizes_rise_from_the_smallest_to_the_largest_and_never_more_than_double(
    one: int, other: int, more: list[int | None]
) -> None:
    smallest, largest = sorted((one, other))
    sizes = sizes_to_time(smallest, largest, more)
    assert (sizes[0], sizes[-1]) == (smallest, largest)
    assert all(before < after <= 2 * before for before, after in itertools.pairwise(sizes))
    assert {size for size in more if size and smallest <= size <= largest} <= set(sizes)


def test_sizes_are_the_powers_of_two_and_those_that_the_search_names() -> None:
    assert sizes_to_time(1, 100, (96,)) == (1, 2, 4, 8, 16, 32, 64, 96, 100)
    assert sizes_to_time(2, 8, (8,)) == (2, 4, 8)
    assert sizes_to_time(1, 1, (None,)) == (1,)
    with pytest.raises(ValueError, match="from 3 to 2"):
        sizes_to_time(3, 2)


@given(SIZES, st.integers(1, 64), st.lists(SECONDS, min_size=1, max_size=30))
def test_a_pace_counts_samples_in_the_median_step_and_half_of_the_steps_are_in_its_spread(
    size: int, accumulate: int, seconds: list[float]
) -> None:
    pace = throughput_point(size, accumulate, seconds)
    assert (pace.samples, pace.steps) == (size * accumulate, len(seconds))
    assert pace.samples_per_second == pytest.approx(size * accumulate / pace.step_seconds)
    assert 0 < pace.q25 <= pace.samples_per_second <= pace.q75
    speeds = [pace.samples / second for second in seconds]
    slack = 1 + 1e-9
    assert 2 * sum(pace.q25 / slack <= speed <= pace.q75 * slack for speed in speeds) >= len(speeds)


def test_a_step_that_was_held_up_moves_neither_the_pace_nor_its_spread() -> None:
    quiet = throughput_point(8, 1, [1.0, 1.1, 1.2, 1.3, 1.4])
    held_up = throughput_point(8, 1, [1.0, 1.1, 1.2, 1.3, 900.0])
    assert held_up == quiet
    assert quiet.samples_per_second == pytest.approx(8 / 1.2)
    assert (quiet.q25, quiet.q75) == pytest.approx((8 / 1.3, 8 / 1.1))


@pytest.mark.parametrize("seconds", [[], [1.0, 0.0]])
def test_no_steps_and_steps_that_take_no_time_are_no_pace(seconds: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        throughput_point(1, 1, seconds)


def paces() -> st.SearchStrategy[list[ThroughputPoint]]:
    timed = st.dictionaries(SIZES, st.lists(SECONDS, min_size=1, max_size=6), min_size=1, max_size=12)
    return timed.map(lambda sizes: [throughput_point(size, 1, seconds) for size, seconds in sizes.items()])


@given(paces())
def test_the_knee_is_the_smallest_size_within_5_percent_of_the_fastest(timed: list[ThroughputPoint]) -> None:
    found = throughput_of(timed, len(timed))
    assert found is not None
    best = max(pace.samples_per_second for pace in timed)
    assert found.at(found.fastest_batch_size).samples_per_second == best
    assert found.at(found.knee_batch_size).samples_per_second >= 0.95 * best
    smaller = [pace.samples_per_second for pace in timed if pace.batch_size < found.knee_batch_size]
    assert all(speed < 0.95 * best for speed in smaller)
    assert found.knee_batch_size <= found.fastest_batch_size
    assert list(found.points) == sorted(timed, key=lambda pace: pace.batch_size)


@given(paces())
def test_a_size_is_as_fast_exactly_where_its_spread_meets_that_of_the_fastest(timed: list[ThroughputPoint]) -> None:
    found = throughput_of(timed, len(timed))
    assert found is not None
    best = found.at(found.fastest_batch_size)
    for pace in timed:
        meets = pace.q75 >= best.q25 and pace.q25 <= best.q75
        assert (pace.batch_size in found.tied_with_fastest) == (meets and pace != best)


def steady(batch_size: int, speed: float) -> ThroughputPoint:
    return throughput_point(batch_size, 1, [batch_size / speed * share for share in (0.999, 1.0, 1.001)])


def test_fastest_and_knee_of_a_curve_that_levels_off() -> None:
    speeds = {1: 100, 2: 190, 4: 350, 8: 560, 16: 940, 32: 980, 64: 975, 100: 940}
    found = throughput_of([steady(size, speed) for size, speed in speeds.items()], 8)
    assert found is not None
    assert (found.fastest_batch_size, found.knee_batch_size, found.tied_with_fastest) == (32, 16, ())
    assert not found.is_noisy
    assert throughput_of([], 8) is None


def test_noise_is_called_so_where_it_is_wider_than_the_knee_may_be_slow() -> None:
    noisy = throughput_of([throughput_point(8, 1, [0.9, 1.0, 1.2])], 1)
    assert noisy is not None
    assert noisy.is_noisy


def test_a_throughput_names_only_sizes_that_were_timed() -> None:
    with pytest.raises(ValueError, match="batch size 3 was not timed"):
        Throughput(
            points=(steady(2, 9),),
            sizes=1,
            fastest_batch_size=2,
            knee_batch_size=3,
            knee_tolerance=0.05,
            tied_with_fastest=(),
        )
    with pytest.raises(ValueError, match="not between"):
        replace(steady(2, 9), q25=10.0)
    with pytest.raises(ValueError, match="in 0 steps"):
        replace(steady(2, 9), steps=0)


@dataclass
class Machine:
    """A probe of a fake device; `stop` is raised at a size that is timed."""

    memory: Callable[[int], Measurement]
    stop: tuple[int, BaseException] | None = None
    fails: int | None = None
    asked: list[tuple[int, bool]] = field(default_factory=list)

    def measure(self, size: int, detail: Detail = Detail.NONE) -> Measurement:
        self.asked.append((size, detail is Detail.TIMES))
        if detail is not Detail.TIMES:
            return self.memory(size)
        if self.stop and self.stop[0] == size:
            raise self.stop[1]
        if self.fails == size:
            return Measurement(batch_size=size, outcome=Outcome.TIMED_OUT, message="stopped after 9 s")
        return Measurement(batch_size=size, outcome=Outcome.FITS, steps=3, timed_seconds=(1.0, 1.01, 1.02))


def searched(largest: int) -> tuple[Callable[[int], Measurement], SearchResult]:
    memory = limited_to(largest)
    return memory, find_largest(memory, capacity_bytes=memory.capacity_bytes)


def test_each_size_is_run_for_its_memory_once_and_then_timed() -> None:
    memory, found = searched(100)
    known = {trial.batch_size for trial in found.trials}
    machine, progress = Machine(memory), RecordingProgress()
    pacing = ThroughputSweep(load_config(overrides=["train.gradient_accumulation_steps=4"]), found, progress=progress)
    pacing.run(machine)
    sizes = [1, 2, 4, 8, 16, 32, 64, 96, 100]
    assert [size for size, timing in machine.asked if not timing] == [size for size in sizes if size not in known]
    assert [size for size, timing in machine.asked if timing] == sizes
    assert {trial.batch_size for trial in pacing.search.trials} >= set(sizes)
    assert pacing.throughput is not None
    assert list(pacing.throughput.points) == progress.points
    assert [pace.samples for pace in progress.points] == [4 * size for size in sizes]
    assert (pacing.search.max_batch_size, pacing.search.limited_by) == (100, Limit.MEMORY)


def test_ctrl_c_leaves_what_was_timed_by_then() -> None:
    memory, found = searched(100)
    machine = Machine(memory, stop=(8, KeyboardInterrupt()))
    pacing = ThroughputSweep(load_config(), found)
    with pytest.raises(KeyboardInterrupt):
        pacing.run(machine)
    assert pacing.throughput is not None
    assert [pace.batch_size for pace in pacing.throughput.points] == [1, 2, 4]
    assert pacing.throughput.sizes == 9


def test_an_error_of_the_machine_does_not_take_the_largest_size_away() -> None:
    memory, found = searched(100)
    machine = Machine(memory, stop=(4, ProbeError("the process broke")))
    pacing = ThroughputSweep(load_config(), found)
    pacing.run(machine)
    assert pacing.search.max_batch_size == 100
    assert pacing.search.notes[-1] == "throughput was not measured to the end: the process broke"
    assert pacing.throughput is not None


def test_a_size_that_cannot_be_timed_is_named_and_left_out() -> None:
    memory, found = searched(100)
    machine = Machine(memory, fails=64)
    pacing = ThroughputSweep(load_config(), found)
    pacing.run(machine)
    assert pacing.throughput is not None
    assert 64 not in [pace.batch_size for pace in pacing.throughput.points]
    assert "batch size 64 could not be timed: stopped after 9 s" in pacing.search.notes


def test_a_size_that_fails_for_memory_is_never_timed() -> None:
    memory, found = searched(100)
    island = 4

    def lumpy(size: int) -> Measurement:
        return (
            Measurement(batch_size=size, outcome=Outcome.OUT_OF_MEMORY, message="lump")
            if size == island
            else memory(size)
        )

    trials = tuple(trial for trial in found.trials if trial.batch_size != island)
    machine = Machine(lumpy)
    pacing = ThroughputSweep(load_config(), replace(found, trials=trials))
    pacing.run(machine)
    assert (island, True) not in machine.asked
    assert "batch size 4 failed in a trial and was not timed: lump" in pacing.search.notes


def test_where_time_is_over_nothing_is_begun() -> None:
    memory, found = searched(100)
    machine = Machine(memory)
    pacing = ThroughputSweep(load_config(), found, deadline=0.0)
    pacing.run(machine)
    assert machine.asked == []
    assert pacing.throughput is None
    assert pacing.search.notes[-1] == "the time was over before all sizes were timed"


def test_throughput_of_a_card_that_is_not_here_is_refused_by_key() -> None:
    wanted = load_config(overrides=["search.objective=throughput"])
    with pytest.raises(ConfigError, match=r"search\.objective: throughput .* cannot be predicted for l4") as caught:
        refuse_to_predict(wanted, "l4")
    assert caught.value.exit_code == 2
    assert "--objective largest" in caught.value.hint
    refuse_to_predict(wanted, None)
    refuse_to_predict(load_config(), "l4")


def test_an_objective_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"search\.objective"):
        load_config(overrides=["search.objective=fastest"])
