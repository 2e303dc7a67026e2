"""Steps of training, of evaluation and of the user, with each option: results and phases."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from tests.fake_tensors.nets import ConvNet
from tests.workload.configs import HERE, config
from vram_cli.accounting.storage_labels import label_storages
from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.errors import ConfigError
from vram_cli.records import Category, Phase
from vram_cli.workload import Workload, build_workload, config_key_of, tensors_of
from vram_cli.workload.weight_average import DECAY, WeightAverage

CPU = torch.device("cpu")
NET = {"factory": "tests.fake_tensors.nets:ConvNet", "kwargs": {"blocks": 2}}
DATA = {"name": "synthetic", "shape": [3, 8, 8], "classes": 10}
BATCH = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])


def work_of(**sections: Any) -> Workload:
    torch.manual_seed(0)
    return build_workload(config(model=NET, data=DATA, **sections), CPU)


def run(work: Workload, batch: Any, enter: Callable[[Phase], None]) -> torch.Tensor:
    return work.step(work, batch, enter)


def ran(work: Workload, steps: int = 1) -> list[Phase]:
    phases: list[Phase] = []
    for _ in range(steps):
        run(work, BATCH, phases.append)
    return phases


def gradients(work: Workload) -> list[torch.Tensor | None]:
    return [parameter.grad for parameter in work.model.parameters()]


@pytest.mark.parametrize("batches", [2, 5])
def test_accumulated_gradients_are_averaged(batches: int) -> None:
    plain, accumulated = work_of(), work_of(train={"gradient_accumulation_steps": batches})
    ran(plain)
    phases = ran(accumulated)
    assert phases == [*[Phase.FORWARD, Phase.BACKWARD] * 2, Phase.OPTIMIZER]
    # No more than two are run: the second is like all that follow.
    for theirs, ours in zip(gradients(plain), gradients(accumulated), strict=True):
        torch.testing.assert_close(ours * batches / 2, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("precision", "most"), [("fp32", 0.01), ("amp-fp16", 0.01), ("fp32", 1e6)])
def test_gradients_are_clipped_after_unscaling(precision: str, most: float) -> None:
    work = work_of(train={"clip_grad_norm": most}, precision=precision)
    work = replace(work, scaler=torch.amp.GradScaler("cpu", init_scale=128.0, enabled=work.scaler.is_enabled()))
    norms: list[float] = []

    def note(*_: Any) -> None:
        norms.append(torch.nn.utils.get_total_norm([g for g in gradients(work) if g is not None]).item())

    work.optimizer.register_step_pre_hook(note)
    ran(work)
    assert norms[0] == pytest.approx(most, rel=1e-3) if most < 1 else 0.01 < norms[0] < 100


@pytest.mark.parametrize("zero", [True, False])
def test_gradients_are_freed_or_zeroed_between_steps(zero: bool) -> None:
    work = work_of(train={"zero_grad_set_to_none": not zero})
    ran(work)
    before = gradients(work)
    seen: list[bool] = []
    run(work, BATCH, lambda phase: seen.append(gradients(work)[0] is not None))
    assert seen == [zero, zero, True]
    assert all((ours is theirs) == zero for ours, theirs in zip(gradients(work), before, strict=True))


def test_average_matches_pytorch() -> None:
    model = ConvNet(blocks=1)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
    theirs.update_parameters(model)  # its first update copies, as ours begins with a copy
    ours = WeightAverage(model)
    for _ in range(3):
        model.train()(torch.randn(2, 3, 8, 8))  # moves the buffers of batch norm, a counter among them
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update(model)
        theirs.update_parameters(model)
    pairs = list(zip(ours.tensors, [*theirs.module.parameters(), *theirs.module.buffers()], strict=True))
    for own, other in pairs:
        if own.is_floating_point():
            torch.testing.assert_close(own, other)
    counters = [own.item() for own, _ in pairs if not own.is_floating_point()]
    assert counters == [3, 3]


def test_average_follows_the_weights() -> None:
    work = work_of(train={"ema": True})
    assert work.average is not None
    before = [tensor.clone() for tensor in work.average.tensors]
    ran(work)
    weights = [*work.model.parameters(), *work.model.buffers()]
    for own, old, new in zip(work.average.tensors, before, weights, strict=True):
        expected = torch.lerp(old, new.detach(), 1 - DECAY) if own.is_floating_point() else new
        torch.testing.assert_close(own, expected)
    assert work_of().average is None


def linear_work(step: str) -> Workload:
    return build_workload(config(step=HERE + step), CPU)


LINEAR_BATCH = torch.ones(3, 4), torch.tensor([0, 1, 0])


def test_user_step_enters_phases() -> None:
    work = linear_work("step")
    before = [parameter.clone() for parameter in work.model.parameters()]
    phases: list[Phase] = []
    loss = run(work, LINEAR_BATCH, phases.append)
    assert phases == [Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER]
    assert (loss.numel(), loss.requires_grad) == (1, False)
    assert not any(map(torch.equal, before, work.model.parameters()))


def test_user_step_enters_each_pass() -> None:
    work = build_workload(config(model=NET, data=DATA, step="tests.fake_tensors.nets:step"), CPU)
    assert ran(work) == [*[Phase.FORWARD, Phase.BACKWARD] * 2, Phase.OPTIMIZER]


@pytest.mark.parametrize("step", ["step", "step_without_loss", "step_that_raises"])
def test_user_step_restores_pytorch(step: str) -> None:
    backward, work = torch.autograd.backward, linear_work(step)
    phases: list[Phase] = []
    with suppress(RuntimeError, ConfigError):
        run(work, LINEAR_BATCH, phases.append)
    assert torch.autograd.backward is backward
    work.optimizer.step()
    assert phases.count(Phase.OPTIMIZER) == (step != "step_that_raises")


def gan_step(model: nn.Module, batch: Any, optimizer: Any) -> torch.Tensor:
    """Step two optimizers, one of them made here; one part of the model runs under checkpoint."""
    judge = model.__dict__.setdefault("judge", torch.optim.Adam(model[3].parameters()))
    for chosen in (judge, optimizer):
        chosen.zero_grad()
        hidden = checkpoint(model[1], batch[0].flatten(1), use_reentrant=False)
        loss = nn.functional.cross_entropy(model[3](hidden), batch[1])
        loss.backward()
        chosen.step()
    return loss


def lbfgs_step(model: nn.Module, batch: Any, _: Any) -> torch.Tensor:
    """Give LBFGS a closure."""
    chosen = model.__dict__.setdefault("chosen", torch.optim.LBFGS(model.parameters(), max_iter=2))

    def closure() -> torch.Tensor:
        chosen.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0].flatten(1)), batch[1])
        loss.backward()
        return loss

    return chosen.step(closure)


def test_each_optimizer_of_a_user_step_has_its_phase_and_its_state() -> None:
    passes = [Phase.FORWARD, Phase.BACKWARD]
    for step, expected in (
        ("gan_step", [*passes, Phase.OPTIMIZER] * 2),
        ("lbfgs_step", [Phase.FORWARD, Phase.OPTIMIZER, *passes * 2]),
    ):
        mlp = {"name": "mlp", "hidden": 4}
        work = build_workload(config(model=mlp, data=DATA, step=f"tests.workload.test_steps:{step}"), CPU)
        tracker = StorageTracker(CPU)
        with tracker:
            assert ran(work) == expected
            label_storages(tracker, work, BATCH)
        (own,) = work.own_optimizers
        assert work.optimizers == [work.optimizer, own]
        held = sum(r.bytes for r in tracker.records if r.category is Category.OPTIMIZER_STATE and r.freed_at is None)
        assert held == sum(tensor.nbytes for state in own.state.values() for tensor in tensors_of(state)) > 0


def test_user_step_without_loss() -> None:
    with pytest.raises(ConfigError, match=r"step\.function: the loss is a NoneType") as caught:
        run(linear_work("step_without_loss"), LINEAR_BATCH, lambda _: None)
    assert caught.value.hint == "return it from the step"


def test_user_step_errors_name_their_key() -> None:
    with pytest.raises(RuntimeError, match="the step is broken") as caught:
        run(linear_work("step_that_raises"), LINEAR_BATCH, lambda _: None)
    assert config_key_of(caught.value) == "step.function"


def evaluation_of(**sections: Any) -> Workload:
    torch.manual_seed(0)
    return build_workload(config(mode="eval", **sections), CPU)


def test_evaluation_is_a_forward_pass_with_its_loss_in_inference_mode() -> None:
    work = evaluation_of(model=NET, data=DATA)
    phases: list[Phase] = []
    loss = run(work, BATCH, phases.append)
    assert phases == [Phase.FORWARD]
    assert (work.optimizer, work.model.training, work.scaler.is_enabled()) == (None, False, False)
    assert loss.is_inference()
    torch.testing.assert_close(loss, nn.functional.cross_entropy(work.model(BATCH[0]), BATCH[1]))
    assert gradients(work) == [None] * len(gradients(work))


def test_evaluation_with_a_user_step_has_no_loss() -> None:
    output = run(evaluation_of(step=HERE + "step"), LINEAR_BATCH, lambda _: None)
    assert output.shape == (3, 2)


def test_evaluation_accepts_predictions_from_a_model_that_makes_its_own_loss() -> None:
    work = evaluation_of(model={"factory": HERE + "Detector"}, loss="model")
    assert run(work, LINEAR_BATCH, lambda _: None)["boxes"].shape == (3, 2)
