"""`vram advise` with several ranks: the batch of all of them together, and the fewest GPUs that train it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.commands.advise.formula_probe import CONTEXT, SAMPLE, WEIGHTS, FormulaBackend, training
from vram_cli.config import Config, with_overrides
from vram_cli.errors import ConfigError
from vram_cli.records import Advice, RankPlan

VIRTUAL = {"kind": "simulated", "name": "Tesla T4", "type": "cuda:0", "engine": "virtual-gpu"}
COUNTS = (2, 3, 4, 5, 6, 7, 8, 16, 24, 32, 40, 48, 56, 64)
DDP = ("parallel.ranks=4",)
FSDP2 = ("parallel.ranks=4", "parallel.strategy=fsdp2")


def backend_with(room: int = 4096 * 2**20, **options: Any) -> FormulaBackend:
    return FormulaBackend(capacity=room + CONTEXT, device=VIRTUAL, **options)


def plans(advice: Advice) -> dict[str | None, RankPlan]:
    return {plan.strategy: plan for plan in advice.fewest_gpus}


def fewest(backend: FormulaBackend, config: Config, strategy: str, batch_size: int) -> int | None:
    """Return the fewest GPUs of all that are tried, by the formula."""
    for ranks in COUNTS:
        if batch_size % ranks == 0:
            changed = with_overrides(config, [f"parallel.strategy={strategy}", f"parallel.ranks={ranks}"])
            if batch_size // ranks <= backend.largest(changed):
                return ranks
    return None


@pytest.mark.parametrize("room", [(6 * WEIGHTS + 40 * SAMPLE), 2 * 2**30, 4 * 2**30])
@pytest.mark.parametrize("batch_size", [1024, 1920, 3360, 4001, 10_000, 48_000])
@pytest.mark.parametrize("overrides", [(), DDP, FSDP2, (*DDP, "parallel.zero_redundancy_optimizer=true")])
def test_fewest_gpus_of_each_strategy(room: int, batch_size: int, overrides: tuple[str, ...]) -> None:
    backend, config = backend_with(room), training(*overrides)
    batch_size *= 1 if batch_size % config.ranks == 0 else config.ranks
    advice = backend.advise(config, fit_batch=batch_size)
    assert [plan.strategy for plan in advice.fewest_gpus] == ["ddp", "fsdp2"]
    for plan in advice.fewest_gpus:
        assert plan.strategy is not None
        assert plan.ranks == fewest(backend, config, plan.strategy, batch_size)
        if plan.ranks is None:
            assert plan.reason
            assert plan.overrides == ()
        else:
            assert plan.batch_size == batch_size // plan.ranks
            assert with_overrides(config, plan.overrides).ranks == plan.ranks


def test_model_that_no_gpu_holds_is_never_copied_to_several() -> None:
    """Nine times the weights are needed with Adam, and 1.5 times and a bit with FSDP2 on 8 GPUs."""
    backend = backend_with(4 * WEIGHTS + 4 * SAMPLE)
    advice = backend.advise(training(), fit_batch=32)
    assert (advice.max_batch_size, advice.fit_batch and advice.fit_batch.micro_batch_size) == (None, None)
    found = plans(advice)
    assert (found["ddp"].ranks, found["fsdp2"].ranks) == (None, 8)
    assert found["ddp"].reason == "not even one sample fits on one GPU, and each has a copy of the whole model"
    assert not any(config.parallel and not config.parallel.shards for config in backend.opened)
    assert advice.learning_rate is not None, "the batch can be trained"
    assert advice.learning_rate.batch_size == 32


def test_none_is_enough() -> None:
    found = plans(backend_with(WEIGHTS).advise(training(), fit_batch=64))
    assert found["fsdp2"].reason == "does not fit on 64 GPUs either"
    found = plans(backend_with().advise(training(), fit_batch=67 * 67))
    assert found["fsdp2"].reason == "no number of GPUs to try divides 4,489 into sizes that may fit"


def test_user_error_with_a_strategy_is_its_reason() -> None:
    backend = backend_with(
        user_error=lambda config: "TypeError: DTensor" if config.parallel and config.parallel.shards else ""
    )
    found = plans(backend.advise(training(), fit_batch=1024))
    assert found["ddp"].ranks == 8
    assert "for a reason other than memory: TypeError: DTensor" in found["fsdp2"].reason


def test_few_numbers_of_gpus_are_tried() -> None:
    backend = backend_with()
    backend.advise(training(), fit_batch=13_440)
    assert len({config.ranks for config in backend.opened} - {1}) <= 6, "of 12 that divide it"


def test_numbers_of_gpus_are_multiples_of_the_replicas() -> None:
    config = training(*FSDP2, "parallel.replicas=4")
    backend = backend_with()
    plan = plans(backend.advise(config, fit_batch=1400))["fsdp2"]
    assert (plan.ranks, plan.batch_size) == (8, 175)
    assert "parallel.replicas: 4" not in plan.reason


@pytest.mark.parametrize(
    ("overrides", "backend"),
    [
        (("mode=eval",), backend_with()),
        ((), FormulaBackend()),  # fake tensors have no ranks
        ((), replace(backend_with(), device={"kind": "real", "name": "Tesla T4", "type": "cuda:0"})),
    ],
)
def test_ranks_are_left_out_if_they_cannot_be_predicted(overrides: tuple[str, ...], backend: FormulaBackend) -> None:
    assert backend.advise(training(*overrides), fit_batch=100_000).fewest_gpus == ()


def test_no_ranks_if_the_batch_fits_on_one_gpu() -> None:
    """232 samples fit without changes; in float16 almost twice as many."""
    for batch_size in (232, 300):
        advice = backend_with().advise(training(), fit_batch=batch_size)
        assert advice.fit_batch is not None
        assert advice.fit_batch.micro_batch_size == batch_size
        assert advice.fewest_gpus == ()
    (plan,) = backend_with().advise(training(*DDP), fit_batch=232).fewest_gpus
    assert (plan.strategy, plan.ranks, plan.batch_size, plan.overrides) == (None, 1, 232, ("parallel=null",))


# The batch of all ranks together


def test_batch_is_divided_among_ranks() -> None:
    backend, config = backend_with(), training(*DDP, "train.gradient_accumulation_steps=2", "train.batch_size=8")
    advice = backend.advise(config, fit_batch=512, effective_batch=8192)
    assert advice.fit_batch is not None
    assert (advice.fit_batch.batch_size, advice.fit_batch.micro_batch_size) == (512, 128)
    assert advice.fit_batch.note == "fits without changes"
    assert advice.effective_batch is not None
    assert (advice.effective_batch.batch_size, advice.effective_batch.micro_batch_size) == (8192, 128)
    assert advice.effective_batch.gradient_accumulation_steps == 16
    rate = advice.learning_rate
    assert rate is not None
    assert (rate.from_batch_size, rate.batch_size) == (64, 8192)
    rate = backend.advise(config, fit_batch=512).learning_rate
    assert rate is not None
    assert (rate.from_batch_size, rate.batch_size) == (64, 1024), "with two micro-batches per step"


def test_nearby_size_is_that_of_all_ranks() -> None:
    plan = backend_with().advise(training(*DDP), effective_batch=4 * 1021).effective_batch
    assert plan is not None
    assert plan.gradient_accumulation_steps == 1021
    assert plan.note == "5 micro-batches of 204 would make 4,080"


@pytest.mark.parametrize("flag", ["fit_batch", "effective_batch"])
def test_batch_that_ranks_cannot_divide(flag: str) -> None:
    backend = backend_with()
    message = f"--{flag.replace('_', '-')}: 510 samples cannot be divided among 4 ranks"
    with pytest.raises(ConfigError, match=message):
        backend.advise(training(*DDP), **{flag: 510})
    assert backend.opened == []


def test_more_ranks_count_with_their_batches_and_are_in_no_combination() -> None:
    advice = backend_with().advise(training(*FSDP2), also_try=["parallel.ranks=6"])
    results = {result.name: result for result in advice.optimizations}
    twice, requested = results["8 ranks"], results["parallel.ranks=6"]
    assert (twice.rank_ratio, requested.rank_ratio) == (2, 1.5)
    assert twice.helps
    assert (twice.saved_bytes or 0) >= 4 * WEIGHTS // 8, "a smaller shard"
    assert advice.best is not None
    assert "ranks" not in advice.best.name
