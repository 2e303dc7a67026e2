"""A rank whose other one does not exist, against two real ones: its tensors take as many bytes.

Run by test_ranks.py. The CPU counts both with the same tracker; PyTorch's "fake" backend answers at once for the rank
that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import _create_work_from_future

from tests.probe.ranks.searches import fork
from vram_cli.config import Config, load_config
from vram_cli.probe.live.forked_worker import ForkedWorker
from vram_cli.probe.messages import OpenSession, RankPlace
from vram_cli.probe.ranks.local_ranks import LocalRanks, Ranks
from vram_cli.probe.ranks.rank_probe import RankProbe
from vram_cli.probe.worker import rank_trials
from vram_cli.probe.worker.main import TrialService
from vram_cli.probe.worker.trials import Trials
from vram_cli.probe.worker_process import WorkerProcess
from vram_cli.records import Breakdown, Category, Detail

SIZE = 48
TRIES = 5
"""Trials of real ranks: the threads of gloo hold on to a tensor that was sent until the system lets them run."""
DDP, FSDP2 = "strategy: ddp, ranks: 2", "strategy: fsdp2, ranks: 2, modules: '2.*'"
SETTINGS = {
    "ddp": (f"parallel={{{DDP}}}",),
    "ddp views": (f"parallel={{{DDP}, gradient_as_bucket_view: true}}",),
    "ddp bucket": (f"parallel={{{DDP}, bucket_cap_mb: 2}}",),
    "ddp unused": (f"parallel={{{DDP}, find_unused_parameters: true}}",),
    "ddp static": (f"parallel={{{DDP}, static_graph: true}}",),
    "ddp accumulated": (f"parallel={{{DDP}}}", "train.gradient_accumulation_steps=3"),
    "ddp checkpointed": (f"parallel={{{DDP}}}", "train.activation_checkpointing=full"),
    "ddp bf16": (f"parallel={{{DDP}}}", "precision=amp-bf16"),
    "zero": (f"parallel={{{DDP}, zero_redundancy_optimizer: true}}",),
    "fsdp2": (f"parallel={{{FSDP2}}}",),
    "fsdp2 kept": (f"parallel={{{FSDP2}, reshard_after_forward: false}}",),
    "fsdp2 root": ("parallel={strategy: fsdp2, ranks: 2, modules: none}",),
    "fsdp2 reduced in bf16": (f"parallel={{{FSDP2}, reduce_dtype: bfloat16}}",),
    "fsdp2 clipped": (f"parallel={{{FSDP2}}}", "train.clip_grad_norm=1"),
    "fsdp2 checkpointed": (f"parallel={{{FSDP2}}}", "train.activation_checkpointing=full"),
}
SIMILAR = {"ddp", "ddp bucket", "ddp checkpointed", "ddp bf16", "fsdp2 clipped"}
"""Settings that only `python -m benchmarks.ranks` compares: they take the ways of others."""
NOT_TENSORS = (Category.WORKSPACES, Category.ALLOCATOR_SLACK, Category.FREE)
"""Rows that the process's memory decides, with the buffers of gloo in it."""


class Block(nn.Module):
    """Two layers whose sizes are odd, so that shards are uneven."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.norm = nn.Linear(width, 3 * width), nn.LayerNorm(3 * width)
        self.narrow = nn.Linear(3 * width, width)

    def forward(self, inputs: Any) -> Any:
        """Return inputs of the next block."""
        return inputs + self.narrow(self.norm(self.wide(inputs)).relu())


def build(width: int = 301, blocks: int = 3) -> nn.Module:
    """Return a model with repeated blocks."""
    layers = nn.Sequential(*(Block(width) for _ in range(blocks)))
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, width), layers, nn.BatchNorm1d(width), nn.Linear(width, 7))


class AbsentPeer(dist.ProcessGroup):
    """A group of two on the CPU, of which this process is rank 0: what gloo allocates, without the other rank."""

    def __init__(self) -> None:
        super().__init__(0, 2)

    def size(self) -> int:
        """Return the number of ranks."""
        return 2

    @property
    def group_name(self) -> str:
        """The name under which PyTorch knows the group."""
        return str(dist.distributed_c10d._world.pg_names[self])

    def getBackendName(self) -> str:
        """Return the name of the backend."""
        return "absent"

    def allreduce(self, tensors: Any, *_: Any) -> Any:
        """Leave the tensors as they are: the other rank's are equal."""
        return completed(tensors)

    def reduce_scatter_single(self, output: torch.Tensor, whole: torch.Tensor, *_: Any) -> Any:
        """Hold a copy of the input, as gloo does (ProcessGroupGloo.cpp, reduce_scatter_tensor_coalesced)."""
        copy = whole.clone()
        output.copy_(copy.view(-1)[: output.numel()].view_as(output))
        return completed([output])

    def allgather(self, outputs: Any, inputs: Any, *_: Any) -> Any:
        """Give the other rank's tensors the values of this one's."""
        for gathered, own in zip(outputs, inputs, strict=True):
            for output in gathered:
                output.copy_(own)
        return completed(outputs)

    def all_gather_single(self, output: torch.Tensor, own: torch.Tensor, *_: Any) -> Any:
        """Fill both halves with this rank's."""
        for half in output.chunk(2):
            half.copy_(own)
        return completed([output])

    allreduce_coalesced = broadcast = allreduce
    _allgather_base, _reduce_scatter_base = all_gather_single, reduce_scatter_single


def completed(result: Any) -> Any:
    future: torch.futures.Future[Any] = torch.futures.Future()
    future.set_result(result)
    return _create_work_from_future(future)


class OneOfTwo(TrialService):
    """Runs rank 0 of two without the other."""

    def open(self, request: OpenSession) -> Trials:
        """Open a session in a group whose other rank does not exist."""

        def join(place: RankPlace, *_: Any) -> None:
            dist.Backend.register_backend("absent", lambda *_: AbsentPeer(), devices=["cpu"])
            dist.init_process_group("absent", store=dist.HashStore(), rank=place.rank, world_size=2)

        rank_trials.join_group = join
        return super().open(request)


class RankZero:
    """Rank 0 of two, alone."""

    count = 2

    def __init__(self) -> None:
        self._ranks = LocalRanks(2)

    def start(self, environment: Mapping[str, str]) -> list[WorkerProcess]:
        """Start its worker."""
        return [ForkedWorker(environment, OneOfTwo())]

    def places(self) -> list[RankPlace]:
        """Return its place."""
        return self._ranks.places()[:1]

    def close(self) -> None:
        """Remove the files."""
        self._ranks.close()


def config(*overrides: str) -> Config:
    basic = (
        f"model={{factory: '{__name__}:build'}}",
        "optimizer={name: adam}",
        "device.name=cpu",
        "parallel.memory_limits=[1GiB, 2GiB]",
    )
    data = "data={inputs: {x: {shape: [3, 8, 8]}}, targets: {shape: [], dtype: int64, high: 7}}"
    return load_config("mlp_mnist.yaml", [data, *overrides, *basic])


def breakdown(training: Config, ranks: Ranks) -> Breakdown:
    with RankProbe(training, ranks=ranks) as probe:
        measurement = probe.measure(SIZE, Detail.MODULES)
    assert measurement.breakdown is not None, measurement.message
    return measurement.breakdown


def tensors(found: Breakdown) -> dict[Category, int]:
    return {row.category: row.bytes for row in found.rows if row.category not in NOT_TENSORS and row.bytes}


def peak_of(training: Config, ranks: Ranks) -> int:
    found = breakdown(training, ranks)
    assert found.timeline is not None
    assert found.timeline.peak.bytes == sum(tensors(found).values())
    return found.timeline.peak.bytes


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - SIMILAR))
def test_one_rank_without_the_other_is_equal_to_the_byte(name: str) -> None:
    training = config(*SETTINGS[name])
    predicted, measured = peak_of(training, RankZero()), 0
    for _ in range(TRIES):
        measured = peak_of(training, LocalRanks(2, fork))
        assert measured >= predicted
        if measured == predicted:
            break
    assert measured == predicted
