"""`vram advise` on a device where memory is a formula of the config."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from tests.commands.advise.formula_probe import CONTEXT, SAMPLE, WEIGHTS, FormulaBackend, training
from tests.fakes import RecordingProgress
from vram_cli.commands.advise.accumulation import plan_effective_batch, plan_fit_batch
from vram_cli.config import Config, with_overrides
from vram_cli.errors import ConfigError, Interrupted, WorkloadError
from vram_cli.records import Advice, BatchSizes, Category, OptimizationResult
from vram_cli.units import GIB

CPU = {"kind": "real", "name": "CPU (two cores)", "type": "cpu"}


def result_of(advice: Advice, name: str) -> OptimizationResult:
    return next(result for result in advice.optimizations if result.name == name)


def changed(config: Config, result: OptimizationResult) -> Config:
    return with_overrides(config, result.overrides)


# Changes on their own


def test_max_batch_size_of_each_change() -> None:
    backend, config = FormulaBackend(), training()
    advice = backend.advise(config)
    assert advice.max_batch_size == backend.largest(config) == 232  # (4096 - 6 * 64) MiB / 16 MiB
    assert [result.max_batch_size for result in advice.optimizations] == [
        backend.largest(changed(config, result)) for result in advice.optimizations
    ]
    assert len(advice.optimizations) == 10  # a T4 has no bfloat16, a prediction no 8-bit optimizer


def test_savings_are_measured_a_sixteenth_below_the_largest() -> None:
    backend = FormulaBackend()
    advice = backend.advise(training())
    assert advice.at_batch_size == 232 - 14
    assert advice.breakdown is not None
    assert advice.breakdown.batch_size == 218
    full = result_of(advice, "checkpoint every block")
    assert (full.saved_bytes, full.saved_from) == (218 * SAMPLE // 2, Category.ACTIVATIONS)
    momentum = result_of(advice, "SGD with momentum")
    assert (momentum.saved_bytes, momentum.saved_from) == (WEIGHTS, Category.OPTIMIZER_STATE)
    assert momentum.helps
    segments = result_of(advice, "expandable segments")
    assert (segments.saved_bytes, segments.saved_from) == (2 * WEIGHTS, Category.ALLOCATOR_SLACK)


def test_savings_are_measured_lower_without_room_to_track_a_step() -> None:
    backend = FormulaBackend(max_tracked=200)
    advice = backend.advise(training())
    assert advice.at_batch_size == 232 - 58
    full = result_of(advice, "checkpoint every block")
    assert (full.saved_bytes, full.saved_from) == ((232 - 58) * SAMPLE // 2, Category.ACTIVATIONS)


def test_no_savings_if_no_step_can_be_tracked() -> None:
    backend = FormulaBackend(max_tracked=1)
    advice = backend.advise(training())
    assert advice.breakdown is None
    assert [
        size for config, size, with_breakdown in backend.measurements if with_breakdown and config == training()
    ] == [218, 174, 116]
    full = result_of(advice, "checkpoint every block")
    assert (full.helps, full.saved_bytes) == (True, None)
    assert full.max_batch_size == backend.largest(changed(training(), full))


def test_small_sizes_are_not_measured_twice() -> None:
    backend = FormulaBackend(capacity=CONTEXT + 6 * WEIGHTS + 2 * SAMPLE, max_tracked=1)
    advice = backend.advise(training())
    assert (advice.max_batch_size, advice.at_batch_size) == (2, 1)
    assert [
        size for config, size, with_breakdown in backend.measurements if with_breakdown and config == training()
    ] == [2, 1]


def test_reason_of_a_change_that_does_not_help() -> None:
    backend = FormulaBackend()
    advice = backend.advise(training(), also_try=["train.learning_rate=0.5"])
    result = result_of(advice, "train.learning_rate=0.5")
    assert not result.helps
    assert (result.saved_bytes, result.saved_from, result.max_batch_size) == (0, None, 232)
    assert result.reason == "saves nothing at the peak, in backward"


def test_flops_are_predicted_and_times_measured() -> None:
    backend = FormulaBackend()
    full = result_of(backend.advise(training()), "checkpoint every block")
    assert full.flops_ratio == pytest.approx(4 / 3)
    backend = FormulaBackend(device=CPU)
    full = result_of(backend.advise(training("device.name=cpu", "device.memory_limit=2GiB")), "checkpoint every block")
    assert full.step_time_ratio == pytest.approx(1.2)


def test_accumulation_counts_the_samples_per_step() -> None:
    backend, config = FormulaBackend(), training()
    accumulated = result_of(backend.advise(config), "accumulate 2 batches")
    assert accumulated.micro_batches == 2
    assert (
        accumulated.max_batch_size
        == backend.largest(with_overrides(config, ["train.gradient_accumulation_steps=2"]))
        == 228
    )
    assert accumulated.helps  # 456 samples per step
    assert accumulated.saved_bytes == -WEIGHTS
    assert accumulated.flops_ratio is None  # a step does twice as much


def test_refused_change_has_a_reason() -> None:
    backend = FormulaBackend(
        refusal=lambda config: "no blocks in it" if config.train.activation_checkpointing != "none" else ""
    )
    advice = backend.advise(training())
    for name in ("checkpoint every 2nd block", "checkpoint every block"):
        result = result_of(advice, name)
        assert (result.helps, result.max_batch_size, result.reason) == (False, None, "no blocks in it")
    assert result_of(advice, "autocast to float16").helps
    assert advice.best is not None
    assert advice.best.max_batch_size == backend.largest(changed(training(), advice.best))


def test_run_info_is_of_the_training_without_changes() -> None:
    backend = FormulaBackend(refusal=lambda config: "not with this change" if config.train.ema else "", num_samples=10)
    advice = backend.advise(training(), also_try=["train.ema=true"])
    assert backend.opened[-1].train.ema is False  # the best set comes after it
    backend = FormulaBackend(
        refusal=lambda config: "not with this change" if config != training() else "", num_samples=10
    )
    advice = backend.advise(training())
    assert (advice.run.device.name, advice.run.versions, advice.run.remark) == (
        "Tesla T4",
        {"vram": "0.1.0"},
        "a remark",
    )
    assert {result.reason for result in advice.optimizations} == {"not with this change"}
    assert advice.best is None


def test_change_that_breaks_user_code_has_a_reason() -> None:
    backend = FormulaBackend(user_error=lambda config: "TypeError: half" if config.precision == "amp-fp16" else "")
    broken = result_of(backend.advise(training()), "autocast to float16")
    assert broken.reason == "a batch of 128 fails in forward, for a reason other than memory: TypeError: half"


def test_user_error_without_changes_is_raised() -> None:
    backend = FormulaBackend(user_error=lambda _: "ValueError: mine")
    with pytest.raises(WorkloadError, match="ValueError: mine") as caught:
        backend.advise(training())
    assert caught.value.traceback == "Traceback: ValueError: mine"


def test_sizes_that_thrash_do_not_count() -> None:
    backend = FormulaBackend(thrashes=lambda config, n: n > 200)
    advice = backend.advise(training())
    assert advice.max_batch_size == 200
    assert backend.largest(training()) == 232
    assert any("releases its cache" in note for note in advice.notes)
    backend = FormulaBackend(thrashes=lambda config, n: config.device.expandable_segments and n > 150)
    segments = result_of(backend.advise(training()), "expandable segments")
    assert (segments.max_batch_size, segments.helps) == (150, False)
    assert segments.reason == "does not fit at 218, which fits without it"


# Combinations


def test_best_combination_was_tried() -> None:
    backend, config = FormulaBackend(), training()
    advice = backend.advise(config)
    assert advice.best is not None
    best = changed(config, advice.best)
    assert advice.best.max_batch_size == backend.largest(best)
    assert (best.train.activation_checkpointing, best.precision) == ("full", "amp-fp16")
    assert best.device.expandable_segments
    assert best.train.gradient_accumulation_steps == 1  # accumulation makes no larger micro-batch fit
    assert advice.best.cost.count("recomputes activations") == 1
    assert (best, advice.best.max_batch_size + 1, False) in backend.measurements


def test_nothing_helps() -> None:
    backend = FormulaBackend(refusal=lambda config: "only without changes" if config != training() else "")
    advice = backend.advise(training())
    assert advice.best is None
    assert advice.max_batch_size == backend.largest(training())


def test_fits_only_with_a_change() -> None:
    """Memory for six times the weights has no room for a sample, for four times it has."""
    backend = FormulaBackend(capacity=6 * WEIGHTS + SAMPLE // 2 + CONTEXT)
    advice = backend.advise(training())
    assert advice.max_batch_size is None
    assert advice.breakdown is None
    assert advice.best is not None
    assert advice.best.max_batch_size is not None
    assert result_of(advice, "expandable segments").helps
    assert result_of(advice, "expandable segments").saved_bytes is None
    assert result_of(advice, "fused optimizer").reason == "nothing fits with it either"
    assert advice.learning_rate is None or advice.learning_rate.batch_size > 0


def test_nothing_fits() -> None:
    backend = FormulaBackend(capacity=WEIGHTS + CONTEXT)
    advice = backend.advise(training())
    assert (advice.max_batch_size, advice.best, advice.learning_rate) == (None, None, None)
    assert {result.reason for result in advice.optimizations} == {"nothing fits with it either"}


# Plans for a batch size, and GPUs


def test_fit_batch_without_changes() -> None:
    backend = FormulaBackend()
    plan = backend.advise(training(), fit_batch=232).fit_batch
    assert plan is not None
    assert (plan.micro_batch_size, plan.gradient_accumulation_steps, plan.overrides, plan.note) == (
        232,
        1,
        (),
        "fits without changes",
    )


def test_fit_batch_with_the_cheapest_changes() -> None:
    """Largest in bfloat16: 464; optimizer in backward 472, expandable segments 480, both 488."""
    backend, config = FormulaBackend(), training("precision=bf16")
    segments, in_backward = "device.expandable_segments=true", "train.optimizer_in_backward=true"
    for batch_size, overrides in (
        (480, (segments,)),
        (481, (segments, in_backward)),
        (489, ("train.activation_checkpointing=every-2",)),
    ):
        plan = backend.advise(config, fit_batch=batch_size).fit_batch
        assert plan is not None
        assert plan.overrides == overrides
        assert plan.micro_batch_size == batch_size <= backend.largest(with_overrides(config, overrides))


def test_fit_batch_reuses_searches() -> None:
    config = training("precision=bf16")
    counts = []
    for fit_batch in (None, 480, 481):
        backend = FormulaBackend()
        backend.advise(config, fit_batch=fit_batch)
        counts.append(len(backend.measurements))
    assert counts == [counts[0], counts[0], counts[0] + 1]


def test_fit_batch_falls_back_to_accumulation() -> None:
    backend, config = FormulaBackend(), training()
    advice = backend.advise(config, fit_batch=100_000)
    plan = advice.fit_batch
    assert plan is not None
    assert plan.micro_batch_size is not None
    assert plan.micro_batch_size * plan.gradient_accumulation_steps == 100_000
    assert plan.micro_batch_size == 200  # 228 fit beside accumulated gradients; the divisors near it are 200 and 250
    assert plan.micro_batch_size <= backend.largest(
        with_overrides(config, [f"train.gradient_accumulation_steps={plan.gradient_accumulation_steps}"])
    )
    assert "no combination" in plan.note


def test_effective_batch_uses_the_fewest_micro_batches() -> None:
    backend = FormulaBackend()
    plan = backend.advise(training(), effective_batch=1024).effective_batch
    assert plan is not None
    assert (plan.micro_batch_size, plan.gradient_accumulation_steps) == (128, 8)  # 256 do not fit
    plan = backend.advise(training(), effective_batch=462).effective_batch
    assert plan is not None
    assert (plan.micro_batch_size, plan.gradient_accumulation_steps) == (
        154,
        3,
    )  # 231 fit only without accumulated gradients


def test_prime_effective_batch_names_a_nearby_size() -> None:
    backend = FormulaBackend()
    plan = backend.advise(training(), effective_batch=1021).effective_batch
    assert plan is not None
    assert (plan.micro_batch_size, plan.gradient_accumulation_steps) == (1, 1021)
    assert plan.note == "5 micro-batches of 204 would make 1,020"


def test_impossible_effective_batch_has_a_reason() -> None:
    backend = FormulaBackend()
    plan = backend.advise(training("train.optimizer_in_backward=true"), effective_batch=1024).effective_batch
    assert plan is not None
    assert plan.micro_batch_size is None
    assert "cannot be combined with train.optimizer_in_backward" in plan.note
    backend = FormulaBackend(capacity=6 * WEIGHTS + SAMPLE + CONTEXT)
    plan = backend.advise(training(), effective_batch=2).effective_batch
    assert plan is not None
    assert plan.note == "not even one sample fits beside accumulated gradients"
    backend = FormulaBackend(capacity=CONTEXT + 1)
    plan = backend.advise(training(), effective_batch=2).effective_batch
    assert plan is not None
    assert plan.note == "nothing fits"


def test_accumulation_in_the_config() -> None:
    backend = FormulaBackend()
    config = training("train.gradient_accumulation_steps=4", "train.batch_size=50", "train.learning_rate=0.001")
    advice = backend.advise(config, effective_batch=200)
    assert advice.effective_batch is not None
    assert advice.effective_batch.overrides == ("train.gradient_accumulation_steps=1",)
    assert advice.learning_rate is None  # the config has 200 samples per step already
    rate = backend.advise(config, effective_batch=800).learning_rate
    assert rate is not None
    assert (rate.from_batch_size, rate.batch_size, rate.learning_rate) == (200, 800, 0.002)
    plan = backend.advise(config, fit_batch=100_000).fit_batch
    assert plan is not None
    assert (plan.micro_batch_size or 0) * plan.gradient_accumulation_steps == 400_000


@pytest.mark.parametrize("batch_size", [10**9, 2**40])
def test_huge_effective_batch(batch_size: int) -> None:
    backend = FormulaBackend()
    plan = backend.advise(training(), effective_batch=batch_size).effective_batch
    assert plan is not None
    assert (plan.micro_batch_size or 0) * plan.gradient_accumulation_steps == batch_size
    assert 100 < (plan.micro_batch_size or 0) <= 228


def test_learning_rate_is_for_the_requested_or_the_largest_batch() -> None:
    def samples(**options: int) -> int:
        rate = backend.advise(training(), **options).learning_rate  # type: ignore[arg-type]
        assert rate is not None
        return rate.batch_size

    backend = FormulaBackend(num_samples=50)
    assert samples() == 50
    assert samples(fit_batch=60) == 60
    assert samples(fit_batch=60, effective_batch=1000) == 1000


def test_no_learning_rate_for_another_optimizer() -> None:
    backend = FormulaBackend()
    advice = backend.advise(training())
    assert advice.best is not None
    assert "SGD with momentum" in advice.best.name
    assert advice.learning_rate is not None
    assert advice.learning_rate.rule == "square root"
    assert advice.learning_rate.batch_size == backend.largest(training())
    backend = FormulaBackend(
        refusal=lambda config: "no" if config.optimizer.name == "adam" and config != training() else ""
    )
    advice = backend.advise(training(), fit_batch=236)
    assert advice.fit_batch is not None
    assert advice.fit_batch.note == "SGD with momentum"
    assert advice.learning_rate is None


def test_gpus_have_their_own_changes() -> None:
    backend = FormulaBackend(refusal=lambda config: "not for it" if config.device.gpu == "h100" else "")
    advice = backend.advise(training(), gpus=["t4", "a100-80gb", "h100"])
    names = [gpu.name for gpu in advice.gpus]
    assert names[:2] == ["t4", "a100-80gb"]
    t4, a100, h100 = advice.gpus
    assert t4.max_batch_size == a100.max_batch_size == backend.largest(training())
    assert t4.best is not None
    assert a100.best is not None
    assert "bfloat16" in a100.best.name
    assert "float16" in t4.best.name
    assert "bfloat16" not in t4.best.name
    assert (h100.max_batch_size, h100.best) == (None, None)


def test_memory_limit_does_not_apply_to_other_gpus() -> None:
    backend = FormulaBackend()
    advice = backend.advise(training("device.memory_limit=2GiB"), gpus=["l4"])
    assert advice.run.device.capacity_bytes == 2 * GIB
    assert advice.gpus[0].capacity_bytes == backend.capacity


def test_effective_batch_is_refused_in_evaluation() -> None:
    backend = FormulaBackend()
    with pytest.raises(ConfigError, match="mode is eval") as caught:
        backend.advise(training("mode=eval"), effective_batch=1024)
    assert "set mode to train" in caught.value.hint
    assert backend.opened == []


def test_fit_batch_in_evaluation_is_never_accumulated() -> None:
    plan = FormulaBackend().advise(training("mode=eval"), fit_batch=100_000).fit_batch
    assert plan is not None
    assert (plan.micro_batch_size, plan.gradient_accumulation_steps) == (None, 1)
    assert plan.note == "no combination of the changes tried makes it fit whole"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"also_try": ["train.checkpoint=full"]}, "did you mean train.activation_checkpointing"),
        ({"also_try": ["train.gradient_accumulation_steps=none"]}, "train.gradient_accumulation_steps"),
        ({"also_try": ["optimizer"]}, "expected section.key=value"),
        ({"gpus": ["t4", "rtx-4091"]}, "unknown GPU 'rtx-4091'"),
    ],
)
def test_wrong_argument_fails_before_any_trial(options: dict[str, list[str]], message: str) -> None:
    backend = FormulaBackend()
    with pytest.raises(ConfigError, match=message):
        backend.advise(training(), **options)  # type: ignore[arg-type]
    assert backend.opened == []


# Notes, and the memory of the CPU


def test_notes() -> None:
    backend = FormulaBackend(num_samples=300)
    assert [note for note in backend.advise(training()).notes if "300 samples" in note]
    backend = FormulaBackend()
    assert [
        note
        for note in backend.advise(training("search.max_batch_size=100")).notes
        if "search.max_batch_size ends every search at 100" in note
    ]
    backend = FormulaBackend()
    assert (
        "search.max_batch_size ends the search at 100"
        in result_of(backend.advise(training("search.max_batch_size=100")), "checkpoint every block").reason
    )
    backend = FormulaBackend()
    assert [
        note
        for note in backend.advise(training("search.max_batch_size=400")).notes
        if "search.max_batch_size ended searches at 400" in note
    ]
    backend = FormulaBackend()
    assert not [
        note
        for note in backend.advise(training("search.max_batch_size=100000")).notes
        if "search.max_batch_size" in note
    ]
    backend = FormulaBackend(num_samples=100_000, device=CPU)
    (note,) = backend.advise(training("device.name=cpu", "device.memory_limit=2GiB")).notes
    assert "within 2 %" in note
    backend = FormulaBackend(device=CPU)
    (note,) = backend.advise(training("device.name=cpu", "device.memory_limit=2GiB", "search.tolerance=0.1")).notes
    assert "within 10 %" in note


def test_gain_within_the_search_tolerance_does_not_help() -> None:
    place = ("device.name=cpu", "device.memory_limit=2GiB")
    backend = FormulaBackend(device=CPU)
    advice = backend.advise(training(*place, "search.tolerance=0.05"))
    largest = advice.max_batch_size or 0
    grown = [
        result for result in advice.optimizations if largest * 1.01 < (result.max_batch_size or 0) <= largest * 1.05
    ]
    assert grown
    assert not any(result.helps for result in grown)
    assert any(result.helps and (result.max_batch_size or 0) > largest * 1.05 for result in advice.optimizations)
    backend = FormulaBackend(device=CPU)
    exact = backend.advise(training(*place))
    assert any(result_of(exact, result.name).helps for result in grown)


def test_cpu_trials_share_the_initial_memory() -> None:
    backend = FormulaBackend(device=CPU)
    advice = backend.advise(training("device.name=cpu"))
    assert advice.run.device.memory_limit_bytes is None
    assert {config.device.memory_limit for config in backend.opened[1:]} == {backend.capacity}
    assert len(backend.opened) > 5


def test_real_searches_stop_within_their_tolerance() -> None:
    backend = FormulaBackend(device=CPU, capacity=40 * GIB)
    advice = backend.advise(training("device.name=cpu"))
    exact = backend.largest(training("device.name=cpu"))
    assert advice.max_batch_size is not None
    assert exact * 0.98 <= advice.max_batch_size <= exact


def test_each_config_is_opened_and_reported_once() -> None:
    backend, progress = FormulaBackend(), RecordingProgress()
    backend.advise(training(), progress=progress)
    statuses = progress.statuses
    assert all(before != after for before, after in pairwise(backend.opened))
    assert len(backend.opened) == 1 + 10 + len([text for text in statuses if " + " in text])
    assert len(statuses) == len(set(statuses))
    assert statuses[:2] == ["starting the worker process", "trying the training without changes"]


# Ctrl-C


def test_ctrl_c_reports_the_results_so_far() -> None:
    backend = FormulaBackend()
    options = {"fit_batch": 240, "effective_batch": 1000, "gpus": ["l4"]}
    whole = backend.advise(training(), **options)  # type: ignore[arg-type]
    total, results, best = len(backend.measurements), 0, 0
    for moment in range(1, total + 1, 6):
        backend = FormulaBackend(interrupt_at=moment)
        with pytest.raises(Interrupted) as caught:
            backend.advise(training(), **options)  # type: ignore[arg-type]
        advice = caught.value.partial
        assert advice.interrupted
        assert advice.optimizations == whole.optimizations[: len(advice.optimizations)]
        assert (advice.max_batch_size or 0) <= (whole.max_batch_size or 0)
        assert advice.fit_batch in (None, whole.fit_batch)
        assert advice.effective_batch in (None, whole.effective_batch)
        assert advice.run.device == whole.run.device
        best_batch_size = (advice.best.max_batch_size or 0) if advice.best else 0
        assert len(advice.optimizations) >= results
        assert best_batch_size >= best
        results, best = len(advice.optimizations), best_batch_size
    assert results == len(whole.optimizations)
    assert whole.best is not None
    assert best == whole.best.max_batch_size
    assert not whole.interrupted


def test_ctrl_c_in_the_first_search() -> None:
    backend = FormulaBackend(interrupt_at=4)
    with pytest.raises(Interrupted) as caught:
        backend.advise(training())
    sizes = [n for _, n, _ in backend.measurements[:3] if n <= backend.largest(training())]
    assert caught.value.partial.max_batch_size == max(sizes)
    assert caught.value.partial.optimizations == ()


def run_that_accepts(sizes: BatchSizes, largest: int) -> Any:
    """Return what plans need of an advice run, with a training in which everything up to the largest size fits."""
    return SimpleNamespace(
        config=training(),
        accepted_sizes=sizes,
        max_batch_size=largest,
        best_batch_size=largest,
        fits=lambda config, size, description: size <= largest,
        cheapest_combination=lambda size: None,
    )


def test_plans_keep_to_the_sizes_that_the_training_accepts() -> None:
    run = run_that_accepts(BatchSizes(multiple_of=32), 640)
    plan = plan_effective_batch(run, 1920)
    assert (plan.micro_batch_size, plan.gradient_accumulation_steps) == (640, 3)
    plan = plan_effective_batch(run, 96 * 7)
    assert (plan.micro_batch_size, plan.gradient_accumulation_steps) == (224, 3)
    assert "only multiples of 32 ran" in plan_effective_batch(run, 1000).note
    assert plan_effective_batch(run, 640).note == "fits without accumulation"
    refused = plan_fit_batch(run, 33)
    assert (refused.micro_batch_size, refused.note) == (
        None,
        "the training refuses it: of the sizes tried, only multiples of 32 ran",
    )
    assert plan_fit_batch(run, 64).note == "fits without changes"
