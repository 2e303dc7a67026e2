"""The whole question, in worlds where a training's memory is a formula of its config."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.commands.advise.worlds import CONTEXT, SAMPLE, WEIGHTS, World, training
from tests.fakes import RecordingProgress
from vram_cli.config import Config, with_overrides
from vram_cli.errors import ConfigError, Interrupted, WorkloadError
from vram_cli.records import Advice, Category, OptimizationResult
from vram_cli.units import GIB

CPU = {"kind": "real", "name": "CPU (two cores)", "type": "cpu"}


def lever(advice: Advice, name: str) -> OptimizationResult:
    return next(found for found in advice.levers if found.name == name)


def changed(config: Config, *levers: OptimizationResult) -> Config:
    return with_overrides(config, [text for found in levers for text in found.sets])


# Each change by itself


def test_every_figure_is_that_of_the_config_with_the_change() -> None:
    made, config = World(), training()
    advice = made.advise(config)
    assert advice.max_batch_size == made.largest(config) == 232  # (4096 - 6 * 64) MiB / 16 MiB
    assert [found.max_batch_size for found in advice.levers] == [
        made.largest(changed(config, found)) for found in advice.levers
    ]
    assert len(advice.levers) == 9  # a T4 takes no bfloat16, and what is predicted no 8 bits


def test_savings_are_taken_a_sixteenth_below_the_largest() -> None:
    made = World()
    advice = made.advise(training())
    assert advice.at_batch_size == 232 - 14
    assert advice.breakdown is not None
    assert advice.breakdown.batch_size == 218
    full = lever(advice, "checkpoint every block")
    assert (full.saved_bytes, full.saved_from) == (218 * SAMPLE // 2, Category.ACTIVATIONS)
    momentum = lever(advice, "SGD with momentum")
    assert (momentum.saved_bytes, momentum.saved_from) == (WEIGHTS, Category.OPTIMIZER_STATE)
    assert momentum.helps
    segments = lever(advice, "expandable segments")
    assert (segments.saved_bytes, segments.saved_from) == (2 * WEIGHTS, Category.ALLOCATOR_SLACK)


def test_where_a_step_cannot_be_watched_there_savings_are_taken_further_below() -> None:
    made = World(watched=200)
    advice = made.advise(training())
    assert advice.at_batch_size == 232 - 58
    full = lever(advice, "checkpoint every block")
    assert (full.saved_bytes, full.saved_from) == ((232 - 58) * SAMPLE // 2, Category.ACTIVATIONS)


def test_where_no_step_can_be_watched_there_are_sizes_and_no_savings() -> None:
    made = World(watched=1)
    advice = made.advise(training())
    assert advice.breakdown is None
    assert [size for config, size, explain in made.measured if explain and config == training()] == [218, 174, 116]
    full = lever(advice, "checkpoint every block")
    assert (full.helps, full.saved_bytes) == (True, None)
    assert full.max_batch_size == made.largest(changed(training(), full))


def test_where_few_samples_fit_no_size_is_measured_twice_for_savings() -> None:
    made = World(capacity=CONTEXT + 6 * WEIGHTS + 2 * SAMPLE, watched=1)
    advice = made.advise(training())
    assert (advice.max_batch_size, advice.at_batch_size) == (2, 1)
    assert [size for config, size, explain in made.measured if explain and config == training()] == [2, 1]


def test_what_does_not_help_says_why() -> None:
    made = World()
    advice = made.advise(training(), own=["train.learning_rate=0.5"])
    own = lever(advice, "train.learning_rate=0.5")
    assert not own.helps
    assert (own.saved_bytes, own.saved_from, own.max_batch_size) == (0, None, 232)
    assert own.why == "saves nothing at the peak, in backward"


def test_costs_are_counted_where_predicted_and_measured_where_real() -> None:
    made = World()
    full = lever(made.advise(training()), "checkpoint every block")
    assert full.compute == pytest.approx(4 / 3)
    made = World(device=CPU)
    full = lever(made.advise(training("device.name=cpu", "device.memory_limit=2GiB")), "checkpoint every block")
    assert full.seconds == pytest.approx(1.2)


def test_accumulation_makes_a_batch_of_pieces_and_counts_as_that() -> None:
    made, config = World(), training()
    accumulated = lever(made.advise(config), "accumulate 2 batches")
    assert accumulated.pieces == 2
    assert (
        accumulated.max_batch_size
        == made.largest(with_overrides(config, ["train.gradient_accumulation_steps=2"]))
        == 228
    )
    assert accumulated.helps  # 456 samples to a step
    assert accumulated.saved_bytes == -WEIGHTS
    assert accumulated.compute is None  # of a step that does twice as much


def test_a_change_that_is_refused_is_told_and_the_next_one_is_tried() -> None:
    made = World(refuses=lambda config: "no blocks in it" if config.train.activation_checkpointing != "none" else "")
    advice = made.advise(training())
    for name in ("checkpoint every 2nd block", "checkpoint every block"):
        refused = lever(advice, name)
        assert (refused.helps, refused.max_batch_size, refused.why) == (False, None, "no blocks in it")
    assert lever(advice, "autocast to float16").helps
    assert advice.best is not None
    assert advice.best.max_batch_size == made.largest(changed(training(), advice.best))


def test_facts_are_those_of_the_training_as_it_is_even_if_the_last_change_is_refused() -> None:
    made = World(refuses=lambda config: "not this one" if config.train.ema else "", length=10)
    advice = made.advise(training(), own=["train.ema=true"])
    assert made.opened[-1].train.ema is False  # the best set comes after it
    made = World(refuses=lambda config: "not this one" if config != training() else "", length=10)
    advice = made.advise(training())
    assert (advice.run.device.name, advice.run.versions, advice.run.remark) == (
        "Tesla T4",
        {"vram": "0.1.0"},
        "a remark",
    )
    assert {found.why for found in advice.levers} == {"not this one"}
    assert advice.best is None


def test_a_change_with_which_the_users_code_raises_is_told() -> None:
    made = World(breaks=lambda config: "TypeError: half" if config.precision == "amp-fp16" else "")
    broken = lever(made.advise(training()), "autocast to float16")
    assert broken.why == "a batch of 2 fails in forward, for a reason other than memory: TypeError: half"


def test_code_that_raises_as_it_is_is_the_users_own_error() -> None:
    made = World(breaks=lambda _: "ValueError: mine")
    with pytest.raises(WorkloadError, match="ValueError: mine") as caught:
        made.advise(training())
    assert caught.value.traceback == "Traceback: ValueError: mine"


def test_sizes_that_thrash_do_not_count() -> None:
    made = World(thrashes=lambda config, n: n > 200)
    advice = made.advise(training())
    assert advice.max_batch_size == 200
    assert made.largest(training()) == 232
    assert any("gives its cache back" in note for note in advice.notes)
    made = World(thrashes=lambda config, n: config.device.expandable_segments and n > 150)
    segments = lever(made.advise(training()), "expandable segments")
    assert (segments.max_batch_size, segments.helps) == (150, False)
    assert segments.why == "does not fit at 218, as the training as it is does"


# Together


def test_the_best_set_ran_as_a_whole() -> None:
    made, config = World(), training()
    advice = made.advise(config)
    assert advice.best is not None
    best = changed(config, advice.best)
    assert advice.best.max_batch_size == made.largest(best)
    assert (best.train.activation_checkpointing, best.precision) == ("full", "amp-fp16")
    assert best.device.expandable_segments
    assert best.train.gradient_accumulation_steps == 1  # pieces are no larger batch
    assert advice.best.price.count("computes activations twice") == 1
    assert (best, advice.best.max_batch_size + 1, False) in made.measured


def test_nothing_helps() -> None:
    made = World(refuses=lambda config: "only as it is" if config != training() else "")
    advice = made.advise(training())
    assert advice.best is None
    assert advice.max_batch_size == made.largest(training())


def test_a_training_that_fits_with_a_change_only() -> None:
    """Six times the weights leave no room for a sample: four times do."""
    made = World(capacity=6 * WEIGHTS + SAMPLE // 2 + CONTEXT)
    advice = made.advise(training())
    assert advice.max_batch_size is None
    assert advice.breakdown is None
    assert advice.best is not None
    assert advice.best.max_batch_size is not None
    assert lever(advice, "expandable segments").helps
    assert lever(advice, "expandable segments").saved_bytes is None
    assert lever(advice, "fused optimizer").why == "nothing fits with it either"
    assert advice.rate is None or advice.rate.batch_size > 0


def test_nothing_fits_with_anything() -> None:
    made = World(capacity=WEIGHTS + CONTEXT)
    advice = made.advise(training())
    assert (advice.max_batch_size, advice.best, advice.rate) == (None, None, None)
    assert {found.why for found in advice.levers} == {"nothing fits with it either"}


# What the user asks


def test_a_batch_that_fits_as_it_is_takes_no_change() -> None:
    made = World()
    fit = made.advise(training(), fit_batch=232).fit
    assert fit is not None
    assert (fit.micro_batch_size, fit.accumulate, fit.sets, fit.note) == (232, 1, (), "it fits as it is")


def test_the_cheapest_changes_that_make_a_batch_fit_are_found() -> None:
    """In bfloat16: 464 as it is, 472 with the optimizer in backward, 480 with expandable segments, 488 with both."""
    made, config = World(), training("precision=bf16")
    segments, in_backward = "device.expandable_segments=true", "train.optimizer_in_backward=true"
    for wanted, sets in (
        (480, (segments,)),
        (481, (segments, in_backward)),
        (489, ("train.activation_checkpointing=every-2",)),
    ):
        fit = made.advise(config, fit_batch=wanted).fit
        assert fit is not None
        assert fit.sets == sets
        assert fit.micro_batch_size == wanted <= made.largest(with_overrides(config, sets))


def test_what_a_search_has_told_already_is_not_run_again() -> None:
    config = training("precision=bf16")
    counts = []
    for asked in (None, 480, 481):
        made = World()
        made.advise(config, fit_batch=asked)
        counts.append(len(made.measured))
    assert counts == [counts[0], counts[0], counts[0] + 1]


def test_a_batch_beyond_all_changes_is_cut_into_pieces() -> None:
    made, config = World(), training()
    advice = made.advise(config, fit_batch=100_000)
    fit = advice.fit
    assert fit is not None
    assert fit.micro_batch_size is not None
    assert fit.micro_batch_size * fit.accumulate == 100_000
    assert fit.micro_batch_size == 200  # 228 fit with gradients kept; the divisors near it are 200 and 250
    assert fit.micro_batch_size <= made.largest(
        with_overrides(config, [f"train.gradient_accumulation_steps={fit.accumulate}"])
    )
    assert "no set of changes" in fit.note


def test_an_effective_batch_is_cut_into_as_few_pieces_as_fit() -> None:
    made = World()
    split = made.advise(training(), effective_batch=1024).effective
    assert split is not None
    assert (split.micro_batch_size, split.accumulate) == (128, 8)  # 256 do not fit
    split = made.advise(training(), effective_batch=462).effective
    assert split is not None
    assert (split.micro_batch_size, split.accumulate) == (154, 3)  # 231 fit only where no gradients wait


def test_a_prime_number_is_cut_into_samples_and_a_better_one_is_named() -> None:
    made = World()
    split = made.advise(training(), effective_batch=1021).effective
    assert split is not None
    assert (split.micro_batch_size, split.accumulate) == (1, 1021)
    assert split.note == "5 pieces of 204 would make 1,020"


def test_pieces_that_cannot_be_had_say_why() -> None:
    made = World()
    split = made.advise(training("train.optimizer_in_backward=true"), effective_batch=1024).effective
    assert split is not None
    assert split.micro_batch_size is None
    assert "cannot be combined with train.optimizer_in_backward" in split.note
    made = World(capacity=6 * WEIGHTS + SAMPLE + CONTEXT)
    split = made.advise(training(), effective_batch=2).effective
    assert split is not None
    assert split.note == "not even one sample fits with gradients kept"
    made = World(capacity=CONTEXT + 1)
    split = made.advise(training(), effective_batch=2).effective
    assert split is not None
    assert split.note == "nothing fits as it is"


def test_accumulation_that_is_there_already_is_counted() -> None:
    made = World()
    config = training("train.gradient_accumulation_steps=4", "train.batch_size=50", "train.learning_rate=0.001")
    advice = made.advise(config, effective_batch=200)
    assert advice.effective is not None
    assert advice.effective.sets == ("train.gradient_accumulation_steps=1",)
    assert advice.rate is None  # it is of 200 samples already
    rate = made.advise(config, effective_batch=800).rate
    assert rate is not None
    assert (rate.from_batch_size, rate.batch_size, rate.rate) == (200, 800, 0.002)
    fit = made.advise(config, fit_batch=100_000).fit
    assert fit is not None
    assert (fit.micro_batch_size or 0) * fit.accumulate == 400_000


@pytest.mark.parametrize("wanted", [10**9, 2**40])
def test_huge_batches_are_cut_at_once(wanted: int) -> None:
    made = World()
    split = made.advise(training(), effective_batch=wanted).effective
    assert split is not None
    assert (split.micro_batch_size or 0) * split.accumulate == wanted
    assert 100 < (split.micro_batch_size or 0) <= 228


def test_the_rate_is_for_what_is_asked_or_else_for_the_largest_that_the_data_allow() -> None:
    def samples(**asked: int) -> int:
        rate = made.advise(training(), **asked).rate  # type: ignore[arg-type]
        assert rate is not None
        return rate.batch_size

    made = World(length=50)
    assert samples() == 50
    assert samples(fit_batch=60) == 60
    assert samples(fit_batch=60, effective_batch=1000) == 1000


def test_the_rate_is_not_for_another_optimizer() -> None:
    made = World()
    advice = made.advise(training())
    assert advice.best is not None
    assert "SGD with momentum" in advice.best.name
    assert advice.rate is not None
    assert advice.rate.rule == "square root"
    assert advice.rate.batch_size == made.largest(training())
    made = World(refuses=lambda config: "no" if config.optimizer.name == "adam" and config != training() else "")
    advice = made.advise(training(), fit_batch=236)
    assert advice.fit is not None
    assert advice.fit.note == "SGD with momentum"
    assert advice.rate is None


def test_cards_are_compared_each_with_its_own_changes() -> None:
    made = World(refuses=lambda config: "not for it" if config.device.gpu == "h100" else "")
    advice = made.advise(training(), gpus=["t4", "a100-80gb", "h100"])
    names = [card.name for card in advice.cards]
    assert names[:2] == ["t4", "a100-80gb"]
    t4, a100, h100 = advice.cards
    assert t4.max_batch_size == a100.max_batch_size == made.largest(training())
    assert t4.best is not None
    assert a100.best is not None
    assert "bfloat16" in a100.best.name
    assert "float16" in t4.best.name
    assert "bfloat16" not in t4.best.name
    assert (h100.max_batch_size, h100.best) == (None, None)


def test_a_budget_is_of_this_device_and_not_of_the_cards() -> None:
    made = World()
    advice = made.advise(training("device.memory_limit=2GiB"), gpus=["l4"])
    assert advice.run.device.capacity_bytes == 2 * GIB
    assert advice.cards[0].capacity_bytes == made.capacity


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"own": ["train.checkpoint=full"]}, "did you mean train.activation_checkpointing"),
        ({"own": ["train.gradient_accumulation_steps=none"]}, "train.gradient_accumulation_steps"),
        ({"own": ["optimizer"]}, "expected section.key=value"),
        ({"gpus": ["t4", "rtx-4091"]}, "unknown GPU 'rtx-4091'"),
    ],
)
def test_what_is_asked_wrongly_is_told_before_anything_runs(asked: dict[str, list[str]], message: str) -> None:
    made = World()
    with pytest.raises(ConfigError, match=message):
        made.advise(training(), **asked)  # type: ignore[arg-type]
    assert made.opened == []


# Notes, and the memory of the CPU


def test_notes() -> None:
    made = World(length=300)
    assert [note for note in made.advise(training()).notes if "300 samples" in note]
    made = World()
    assert [
        note
        for note in made.advise(training("search.max_batch_size=100")).notes
        if "search.max_batch_size ends every search at 100" in note
    ]
    made = World()
    assert (
        "search.max_batch_size ends the search at 100"
        in lever(made.advise(training("search.max_batch_size=100")), "checkpoint every block").why
    )
    made = World()
    assert [
        note
        for note in made.advise(training("search.max_batch_size=400")).notes
        if "search.max_batch_size ended searches at 400" in note
    ]
    made = World()
    assert not [
        note for note in made.advise(training("search.max_batch_size=100000")).notes if "search.max_batch_size" in note
    ]
    made = World(length=100_000, device=CPU)
    (note,) = made.advise(training("device.name=cpu", "device.memory_limit=2GiB")).notes
    assert "within 2 %" in note
    made = World(device=CPU)
    (note,) = made.advise(training("device.name=cpu", "device.memory_limit=2GiB", "search.tolerance=0.1")).notes
    assert "within 10 %" in note


def test_what_gains_less_than_a_search_may_miss_is_not_said_to_help() -> None:
    place = ("device.name=cpu", "device.memory_limit=2GiB")
    made = World(device=CPU)
    advice = made.advise(training(*place, "search.tolerance=0.05"))
    largest = advice.max_batch_size or 0
    grown = [found for found in advice.levers if largest * 1.01 < (found.max_batch_size or 0) <= largest * 1.05]
    assert grown
    assert not any(found.helps for found in grown)
    assert any(found.helps and (found.max_batch_size or 0) > largest * 1.05 for found in advice.levers)
    made = World(device=CPU)
    exact = made.advise(training(*place))
    assert any(lever(exact, found.name).helps for found in grown)


def test_on_the_cpu_every_change_gets_the_memory_that_was_found_first() -> None:
    made = World(device=CPU)
    advice = made.advise(training("device.name=cpu"))
    assert advice.run.device.memory_limit_bytes is None
    assert {config.device.memory_limit for config in made.opened[1:]} == {made.capacity}
    assert len(made.opened) > 5


def test_real_searches_stop_within_their_tolerance() -> None:
    made = World(device=CPU, capacity=40 * GIB)
    advice = made.advise(training("device.name=cpu"))
    exact = made.largest(training("device.name=cpu"))
    assert advice.max_batch_size is not None
    assert exact * 0.98 <= advice.max_batch_size <= exact


def test_each_config_is_opened_once_and_told_once() -> None:
    made, progress = World(), RecordingProgress()
    made.advise(training(), progress=progress)
    told = progress.statuses
    assert all(before != after for before, after in pairwise(made.opened))
    assert len(made.opened) == 1 + 9 + len([text for text in told if " + " in text])
    assert len(told) == len(set(told))
    assert told[:2] == ["starting the worker process", "trying the training as it is"]


# Ctrl-C


def test_whenever_ctrl_c_comes_what_is_known_is_told() -> None:
    made = World()
    asked = {"fit_batch": 240, "effective_batch": 1000, "gpus": ["l4"]}
    whole = made.advise(training(), **asked)  # type: ignore[arg-type]
    total, known, best = len(made.measured), 0, 0
    for moment in range(1, total + 1, 6):
        made = World(interrupt_at=moment)
        with pytest.raises(Interrupted) as caught:
            made.advise(training(), **asked)  # type: ignore[arg-type]
        advice = caught.value.partial
        assert advice.interrupted
        assert advice.levers == whole.levers[: len(advice.levers)]
        assert (advice.max_batch_size or 0) <= (whole.max_batch_size or 0)
        assert advice.fit in (None, whole.fit)
        assert advice.effective in (None, whole.effective)
        assert advice.run.device == whole.run.device
        reached = (advice.best.max_batch_size or 0) if advice.best else 0
        assert len(advice.levers) >= known
        assert reached >= best
        known, best = len(advice.levers), reached
    assert known == len(whole.levers)
    assert whole.best is not None
    assert best == whole.best.max_batch_size
    assert not whole.interrupted


def test_ctrl_c_in_the_first_search_tells_the_largest_that_ran() -> None:
    made = World(interrupt_at=4)
    with pytest.raises(Interrupted) as caught:
        made.advise(training())
    sizes = [n for _, n, _ in made.measured[:3] if n <= made.largest(training())]
    assert caught.value.partial.max_batch_size == max(sizes)
    assert caught.value.partial.levers == ()
