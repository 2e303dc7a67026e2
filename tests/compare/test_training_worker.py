"""Trainings of the worker, run in this process, on data that a small model learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.workload.configs import HERE, config
from vram_cli.compare.messages import OpenTraining, RunTraining, TrainingProgress
from vram_cli.compare.records import ComparePlan, TrainingRun
from vram_cli.compare.training_loop import NUM_GRADIENT_SAMPLES
from vram_cli.compare.training_worker import TrainingWorker
from vram_cli.config import Config
from vram_cli.errors import ConfigError, WorkloadError


def blobs(**sections: Any) -> Config:
    return config(**{"data": {"factory": HERE + "Blobs"}, "train": {"learning_rate": 0.1, "batch_size": 8}, **sections})


def open_training(settings: Config, **changes: Any) -> OpenTraining:
    plan = {"samples": 200, "holdout": 0.2, "folds": 1, "epochs": 10, "lr_scaling": "none", "warmup": 0.0, "seed": 0}
    return OpenTraining(
        config=settings.model_dump(mode="json"),
        download=False,
        folder="",
        device="cpu",
        plan=ComparePlan(**{**plan, **changes}),
        max_eval_batch=64,
    )


def train(
    settings: Config, size: int = 8, *, micro_batches: int = 1, repeat: int = 0, rate: float = 0.1, **plan: Any
) -> TrainingRun:
    before = torch.get_rng_state()
    request = RunTraining(batch_size=size, micro_batches=micro_batches, repeat=repeat, fold=0, learning_rate=rate)
    with torch.random.fork_rng():
        reply = TrainingWorker(settings, open_training(settings, **plan)).train(request, lambda _: None)
    torch.set_rng_state(before)
    assert reply.run is not None, reply.message
    return reply.run


def test_training_learns() -> None:
    run = train(blobs())
    assert run.accuracy is not None
    assert run.accuracy > 0.95
    assert (run.steps, run.samples) == (10 * 20, 10 * 160)
    assert run.curve[-1].loss < run.curve[0].loss / 2
    assert run.loss is not None
    assert run.loss < run.curve[0].loss
    assert run.loss_noise is not None
    assert len(run.gradient_noise) <= NUM_GRADIENT_SAMPLES
    assert run.gradient_noise[-1].samples == run.samples
    assert all(point.variance > 0 for point in run.gradient_noise)


def test_repeats_differ_and_seeds_reproduce() -> None:
    one, same, other = (train(blobs(), repeat=repeat) for repeat in (0, 0, 1))
    assert (one.loss, one.curve) == (same.loss, same.curve)
    assert other.loss != one.loss


def test_micro_batches_match_the_whole_batch() -> None:
    whole, split = train(blobs(), 32), train(blobs(), 32, micro_batches=4)
    assert split.loss == pytest.approx(whole.loss, rel=1e-4)
    assert split.steps == whole.steps
    assert whole.loss_noise is None or split.loss_noise is None


def test_sampling_gradients_does_not_change_training() -> None:
    settings = blobs(model={"factory": HERE + "dropping"})
    sampled = train(settings)
    assert sampled.gradient_noise
    assert train(settings).loss == sampled.loss
    session = open_training(settings)
    worker = TrainingWorker(settings, session)
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("vram_cli.compare.training_loop.NUM_GROUPS", 10**6)  # leaves no samples per group
        request = RunTraining(batch_size=8, micro_batches=1, repeat=0, fold=0, learning_rate=0.1)
        unsampled = worker.train(request, lambda _: None).run
    assert unsampled is not None
    assert unsampled.gradient_noise == ()
    assert unsampled.loss == sampled.loss


def test_full_batch_has_no_loss_noise() -> None:
    run = train(blobs(), 160, epochs=30)
    assert run.steps == 30
    assert run.loss_noise is None


def test_warmup_raises_the_rate_from_the_configs() -> None:
    with pytest.MonkeyPatch.context() as patch:
        rates: list[float] = []
        original = torch.optim.SGD.step

        def step(own: torch.optim.SGD, *_: Any) -> None:
            rates.append(own.param_groups[0]["lr"])
            original(own)

        patch.setattr(torch.optim.SGD, "step", step)
        train(blobs(), 16, rate=0.9, warmup=2.0)
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(0.1 + 0.8 / 2)
    assert rates[20:] == pytest.approx([0.9] * 80)
    assert rates == sorted(rates)


def test_divergence() -> None:
    run = train(blobs(model={"factory": HERE + "deep"}), rate=1e20)
    assert run.diverged_at is not None
    assert run.loss is None
    assert run.accuracy is None


def test_regression_has_loss_but_no_accuracy() -> None:
    run = train(blobs(data={"factory": HERE + "Line"}, loss={"factory": "torch.nn:MSELoss"}))
    assert run.accuracy is None
    assert run.loss is not None
    assert run.loss < 1


def test_progress() -> None:
    events: list[TrainingProgress] = []
    settings = blobs()
    request = RunTraining(batch_size=8, micro_batches=1, repeat=0, fold=0, learning_rate=0.1)
    with torch.random.fork_rng():
        TrainingWorker(settings, open_training(settings)).train(request, events.append)
    assert [event.steps for event in events] == [200] * len(events)
    assert events[-1].step == 200


def test_synthetic_data_is_refused() -> None:
    settings = config()
    with pytest.raises(ConfigError, match="nothing to learn"):
        TrainingWorker(settings, open_training(settings))


def test_error_in_the_users_loss() -> None:
    settings = blobs(loss={"factory": HERE + "raises_in_loss"})
    with pytest.raises(WorkloadError, match="training with a batch of 8 fails, but not for lack of memory") as caught:
        train(settings)
    assert "usercode.py" in caught.value.traceback
