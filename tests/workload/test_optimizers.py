"""Optimizers: presets, factories, and both of them in backward."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from tests.workload.configs import HERE, config
from tests.workload.test_steps import CPU, gradients, ran, work_of
from vram_cli.errors import ConfigError, MachineError
from vram_cli.records import Phase
from vram_cli.workload import build_workload, config_key_of

OPTIMIZERS = [
    {"name": "sgd", "momentum": 0.9},
    {"name": "adam"},
    {"name": "adamw", "weight_decay": 0.1},
    {"name": "rmsprop", "momentum": 0.5},
    {"name": "adagrad"},
]
FACTORY = {"factory": HERE + "SignDescent", "kwargs": {"momentum": 0.5}}


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer["name"])
def test_optimizer_in_backward_gives_the_same_weights(optimizer: dict[str, Any]) -> None:
    plain, own = work_of(optimizer=optimizer), work_of(optimizer=optimizer, train={"optimizer_in_backward": True})
    assert ran(plain, 3) == ran(own, 3)
    for theirs, ours in zip(plain.model.parameters(), own.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert gradients(own) == [None] * len(gradients(own))
    assert own.optimizer.state.keys() == set(own.model.parameters())
    assert all(own.optimizer.state.values())


def test_optimizer_in_backward_frees_gradients_at_once() -> None:
    work = work_of(train={"optimizer_in_backward": True})
    alive: list[int] = []
    for parameter in work.model.parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda _: alive.append(sum(g is not None for g in gradients(work)))
        )
    ran(work)
    assert max(alive) == 0


def test_optimizer_in_backward_lets_its_parameters_go() -> None:
    work = work_of(train={"optimizer_in_backward": True})
    ran(work)
    parameter = weakref.ref(next(work.model.parameters()))
    del work
    gc.collect()
    assert parameter() is None


def groups(optimizer: dict[str, Any], **sections: Any) -> dict[str, Any]:
    group = build_workload(config(optimizer=optimizer, **sections), CPU).optimizer.param_groups[0]
    return {key: value for key, value in group.items() if key != "params"}


def test_a_factory_gets_the_learning_rate_and_its_kwargs() -> None:
    rate = {"learning_rate": 0.25}
    assert groups(FACTORY, train=rate) == {"lr": 0.25, "momentum": 0.5}
    assert groups({**FACTORY, "kwargs": {"lr": 2.0}}, train=rate) == {"lr": 2.0, "momentum": 0.9}
    assert groups({"factory": HERE + "sign_descent_without_lr"}, train=rate)["lr"] == 0.5
    adamw = groups({"factory": "torch.optim:AdamW", "kwargs": {"betas": [0.9, 0.95]}}, train=rate)
    assert (adamw["lr"], list(adamw["betas"]), adamw["weight_decay"]) == (0.25, [0.9, 0.95], 0.01)


def test_a_factory_gets_the_trained_parameters_only() -> None:
    work = work_of(optimizer=FACTORY, train={"freeze": ["*.bias"]})
    trained = [parameter for parameter in work.model.parameters() if parameter.requires_grad]
    assert work.optimizer.param_groups[0]["params"] == trained


def test_a_factory_works_in_backward() -> None:
    plain, in_backward = work_of(optimizer=FACTORY), work_of(optimizer=FACTORY, train={"optimizer_in_backward": True})
    assert ran(plain, 3) == ran(in_backward, 3)
    for expected, parameter in zip(plain.model.parameters(), in_backward.model.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected)
    assert gradients(in_backward) == [None] * len(gradients(in_backward))


@pytest.mark.parametrize("in_backward", [False, True])
def test_an_optimizer_with_modes_is_put_into_train_mode(in_backward: bool) -> None:
    work = work_of(optimizer={"factory": HERE + "ModalSignDescent"}, train={"optimizer_in_backward": in_backward})
    assert Phase.OPTIMIZER in ran(work)


def test_a_factory_that_makes_no_optimizer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.factory: .*no_optimizer returns a str, not an optimizer"):
        work_of(optimizer={"factory": HERE + "no_optimizer"})


@pytest.mark.parametrize(
    ("optimizer", "train"),
    [
        ({"factory": HERE + "SignDescent", "kwargs": {"momentun": 0.5}}, {}),
        ({"factory": "torch.optim:Muon"}, {}),  # takes matrices only
        ({"factory": HERE + "BrokenStep"}, {}),
        ({"factory": HERE + "BrokenStep"}, {"optimizer_in_backward": True}),
    ],
)
def test_errors_of_an_optimizer_name_its_factory(optimizer: dict[str, Any], train: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
        ran(work_of(optimizer=optimizer, train=train))
    assert config_key_of(caught.value) == f"optimizer.factory ({optimizer['factory']})"


def test_bitsandbytes_needs_a_gpu() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.name: adam8bit runs on a CUDA GPU only"):
        work_of(optimizer={"name": "adam8bit"})
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(MachineError, match="needs bitsandbytes") as caught:
            build_workload_on_cuda()
        assert caught.value.hint == "pip install bitsandbytes"


def build_workload_on_cuda() -> None:
    from vram_cli.workload.optimizers import build_optimizer

    build_optimizer(config(optimizer={"name": "paged_adamw8bit"}), nn.Linear(2, 2).parameters(), torch.device("cuda"))
