"""One rank's model and optimizer, in a group of one on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vram_cli.config import load_config
from vram_cli.errors import ConfigError
from vram_cli.workload import Workload, build_workload, update
from vram_cli.workload.parallel import fullest_rank, leave_group

CPU = torch.device("cpu")
FSDP2 = "parallel={strategy: fsdp2, ranks: 1}"

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="PyTorch without torch.distributed")


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=20))
    yield
    leave_group()
    assert not dist.is_initialized()


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.ReLU()) for _ in range(3))
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> Any:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def workload(*overrides: str) -> Workload:
    model = "model={factory: 'tests.workload.test_parallel:Blocks'}"
    data = "data={inputs: {x: {shape: [6]}}, targets: {shape: [], dtype: int64, high: 2}}"
    return build_workload(load_config("mlp_mnist.yaml", [model, data, *overrides]), CPU)


def batch() -> Any:
    return {"x": torch.ones(4, 6)}, torch.zeros(4, dtype=torch.long)


def test_ddp_reduces_gradients_of_the_last_micro_batch_alone() -> None:
    work = workload("parallel.ranks=1", "train.gradient_accumulation_steps=4")
    model = work.model
    assert isinstance(model, DistributedDataParallel)
    reduces: list[bool] = []
    model.register_forward_pre_hook(lambda *_: reduces.append(bool(model.require_backward_grad_sync)))
    update(work, [batch()] * 3, lambda _: None)
    assert reduces == [False, False, True]


def test_the_options_of_ddp_reach_it() -> None:
    unused: Any = workload("parallel={ranks: 1, find_unused_parameters: true, bucket_cap_mb: 7}").model
    assert (unused.find_unused_parameters, unused.static_graph, unused.gradient_as_bucket_view) == (True, False, False)
    assert unused.bucket_bytes_cap == 7 * 2**20
    static: Any = workload("parallel={ranks: 1, static_graph: true, gradient_as_bucket_view: true}").model
    assert (static.find_unused_parameters, static.static_graph, static.gradient_as_bucket_view) == (False, True, True)


def test_wrapped_models_train_as_alone() -> None:
    results = []
    for overrides in ((), ("parallel.ranks=1",), (FSDP2,), ("parallel={ranks: 1, zero_redundancy_optimizer: true}",)):
        torch.manual_seed(0)
        work = workload(*overrides, "optimizer={name: adam}", "train.clip_grad_norm=1")
        assert list(dict(work.module.named_modules()))[1] == "layers", "names are the user's"
        for _ in range(2):
            update(work, [batch()], lambda _: None)
        assert sum(len(optimizer.state) for optimizer in work.optimizers) == 8
        weight: Any = next(work.module.parameters())
        results.append(getattr(weight, "_local_tensor", weight).detach().clone())
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize(("modules", "sharded"), [("blocks", 3), ("none", 0), ("layers.*", 3), ("layers.1", 1)])
def test_modules_that_are_sharded_on_their_own(modules: str, sharded: int) -> None:
    from torch.distributed.fsdp import FSDPModule

    model = workload(f"parallel={{strategy: fsdp2, ranks: 1, modules: '{modules}'}}").model
    assert isinstance(model, FSDPModule)
    assert sum(isinstance(module, FSDPModule) for module in model.modules()) == sharded + 1


def test_a_pattern_that_names_no_module_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"parallel.modules: no module is called 'blocks.\*'"):
        workload("parallel={strategy: fsdp2, ranks: 1, modules: 'blocks.*'}")


def test_the_fullest_rank_of_a_divided_optimizer() -> None:
    model = nn.ParameterList(torch.empty(size) for size in (10, 9, 8, 7))
    zero = load_config("mlp_mnist.yaml", ["parallel={ranks: 3, zero_redundancy_optimizer: true}"])
    assert fullest_rank(zero, model) == 2  # 10; 9; 8 + 7
    assert fullest_rank(load_config("mlp_mnist.yaml", ["parallel.ranks=3"]), model) == 0
