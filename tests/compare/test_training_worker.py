"""Trainings as the child runs them, in this process: on data that can be learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.workload.configs import HERE, config
from vram_cli.compare.messages import OpenTraining, RunTraining, TrainingProgress
from vram_cli.compare.records import ComparePlan, Run
from vram_cli.compare.training_loop import LOOKS
from vram_cli.compare.training_worker import TrainingWorker
from vram_cli.config import Config
from vram_cli.errors import ConfigError, WorkloadError


def blobs(**sections: Any) -> Config:
    return config(**{"data": {"factory": HERE + "Blobs"}, "train": {"learning_rate": 0.1, "batch_size": 8}, **sections})


def course(settings: Config, **changes: Any) -> OpenTraining:
    plan = {"samples": 200, "holdout": 0.2, "folds": 1, "epochs": 10, "scaling": "none", "warmup": 0.0, "seed": 0}
    return OpenTraining(
        config=settings.model_dump(mode="json"),
        download=False,
        folder="",
        device="cpu",
        plan=ComparePlan(**{**plan, **changes}),
        largest=64,
    )


def trained(settings: Config, size: int = 8, *, parts: int = 1, repeat: int = 0, rate: float = 0.1, **plan: Any) -> Run:
    before = torch.get_rng_state()
    task = RunTraining(batch_size=size, parts=parts, repeat=repeat, fold=0, learning_rate=rate)
    with torch.random.fork_rng():
        done = TrainingWorker(settings, course(settings, **plan)).train(task, lambda _: None)
    torch.set_rng_state(before)
    assert done.run is not None, done.message
    return done.run


def test_training_learns_what_can_be_learned() -> None:
    run = trained(blobs())
    assert run.accuracy is not None
    assert run.accuracy > 0.95
    assert (run.steps, run.images) == (10 * 20, 10 * 160)
    assert run.curve[-1].loss < run.curve[0].loss / 2
    assert run.loss is not None
    assert run.loss < run.curve[0].loss
    assert run.loss_noise is not None
    assert len(run.noise) <= LOOKS
    assert run.noise[-1].images == run.images
    assert all(point.variance > 0 for point in run.noise)


def test_the_same_seed_trains_the_same_and_another_repeat_differently() -> None:
    one, same, other = (trained(blobs(), repeat=repeat) for repeat in (0, 0, 1))
    assert (one.loss, one.curve) == (same.loss, same.curve)
    assert other.loss != one.loss


def test_a_batch_in_parts_trains_as_the_whole_one_does() -> None:
    whole, parts = trained(blobs(), 32), trained(blobs(), 32, parts=4)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-4)
    assert parts.steps == whole.steps
    assert whole.loss_noise is None or parts.loss_noise is None


def test_looking_at_gradients_does_not_change_the_training() -> None:
    dropping = blobs(model={"factory": HERE + "dropping"})
    looked = trained(dropping)
    assert looked.noise
    assert trained(dropping).loss == looked.loss
    short = course(dropping)
    learner = TrainingWorker(dropping, short)
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("vram_cli.compare.training_loop.GROUPS", 10**6)  # then a group would have no sample
        task = RunTraining(batch_size=8, parts=1, repeat=0, fold=0, learning_rate=0.1)
        blind = learner.train(task, lambda _: None).run
    assert blind is not None
    assert blind.noise == ()
    assert blind.loss == looked.loss


def test_a_step_with_all_samples_has_no_noise() -> None:
    run = trained(blobs(), 160, epochs=30)
    assert run.steps == 30
    assert run.loss_noise is None


def test_a_raised_rate_is_reached_by_warm_up_from_the_configs_own() -> None:
    with pytest.MonkeyPatch.context() as patch:
        rates: list[float] = []
        real = torch.optim.SGD.step

        def step(own: torch.optim.SGD, *_: Any) -> None:
            rates.append(own.param_groups[0]["lr"])
            real(own)

        patch.setattr(torch.optim.SGD, "step", step)
        trained(blobs(), 16, rate=0.9, warmup=2.0)
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(0.1 + 0.8 / 2)
    assert rates[20:] == pytest.approx([0.9] * 80)
    assert rates == sorted(rates)


def test_a_training_that_diverges_says_where_and_ends() -> None:
    run = trained(blobs(model={"factory": HERE + "deep"}), rate=1e20)
    assert run.diverged_at is not None
    assert run.loss is None
    assert run.accuracy is None


def test_outputs_that_are_no_classes_have_a_loss_and_no_accuracy() -> None:
    run = trained(blobs(data={"factory": HERE + "Line"}, loss={"factory": "torch.nn:MSELoss"}))
    assert run.accuracy is None
    assert run.loss is not None
    assert run.loss < 1


def test_progress_is_told_with_the_number_of_steps() -> None:
    told: list[TrainingProgress] = []
    settings = blobs()
    task = RunTraining(batch_size=8, parts=1, repeat=0, fold=0, learning_rate=0.1)
    with torch.random.fork_rng():
        TrainingWorker(settings, course(settings)).train(task, told.append)
    assert [at.steps for at in told] == [200] * len(told)
    assert told[-1].step == 200


def test_made_up_data_is_refused() -> None:
    made_up = config()
    with pytest.raises(ConfigError, match="nothing to learn"):
        TrainingWorker(made_up, course(made_up))


def test_what_the_users_code_raises_is_theirs() -> None:
    settings = blobs(loss={"factory": HERE + "raises_in_loss"})
    with pytest.raises(WorkloadError, match="training with a batch of 8 fails, and not for memory") as caught:
        trained(settings)
    assert "usercode.py" in caught.value.traceback
