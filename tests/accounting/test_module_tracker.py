"""The modules that a real step's storages are attributed to."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils.checkpoint import checkpoint

from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.records import Phase

N = 1000


def step(model: nn.Module) -> Counter[tuple[str, Phase, int]]:
    """Count allocations by module, phase and size."""
    tracker = StorageTracker(torch.device("cpu"))
    tracker.modules = ModuleTracker(model)
    batch = torch.randn(N, 8)
    with tracker.modules.tracking(), tracker:
        tracker.enter_phase(Phase.FORWARD)
        loss = model(batch).sum()
        tracker.enter_phase(Phase.BACKWARD)
        loss.backward()
    return Counter((record.module, record.phase, record.bytes) for record in tracker.records)


def test_forward_and_backward_belong_to_the_module() -> None:
    model = nn.Sequential()
    model.add_module("wide", nn.Linear(8, 32))
    model.add_module("relu", nn.ReLU())
    allocations = step(model)
    assert allocations["wide", Phase.FORWARD, N * 32 * 4] == 1
    assert allocations["relu", Phase.FORWARD, N * 32 * 4] == 1
    assert allocations["relu", Phase.BACKWARD, N * 32 * 4] == 1
    assert allocations["wide", Phase.BACKWARD, 32 * 8 * 4] == 1  # the gradient of its weight
    assert allocations["", Phase.FORWARD, 4] == 1  # the loss


class Residual(nn.Module):
    """Computes in its own forward pass, in a child, and in a module created on the fly."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.Tanh())

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return nn.Softplus()(self.inner(batch) * batch)


def test_own_computation_belongs_to_the_parent() -> None:
    allocations = step(nn.Sequential(Residual()))
    size = N * 8 * 4
    assert allocations["0.inner.1", Phase.FORWARD, size] == 1
    assert allocations["0", Phase.FORWARD, size] == 2
    assert allocations["0", Phase.BACKWARD, size] == 2


def test_checkpoint_recomputation_belongs_to_the_same_modules() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Linear(8, 64), nn.Tanh())

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = checkpoint(self.block, batch, use_reentrant=False)
            return result

    allocations = step(Checkpointed())
    assert allocations["block.0", Phase.FORWARD, N * 64 * 4] == 1
    assert allocations["block.0", Phase.BACKWARD, N * 64 * 4] == 1


def test_exception_leaves_no_hooks_and_no_module() -> None:
    class Broken(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            raise ArithmeticError("broken")

    modules = ModuleTracker(nn.Sequential(Broken()))
    hooks = (torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks)
    before = [dict(registry) for registry in hooks]
    with pytest.raises(ArithmeticError), modules.tracking():
        modules._model(torch.zeros(1))
    modules.begin_phase()
    assert modules.current == ""
    assert [dict(registry) for registry in hooks] == before
