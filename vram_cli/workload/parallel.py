"""Several ranks: the model and the optimizer as one rank trains them, with PyTorch's own DDP and FSDP2.

Nothing here knows the device, the backend or whether the other ranks exist: the process group is open before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vram_cli.config import Config
from vram_cli.config.parallel_section import ParallelConfig
from vram_cli.workload.activation_checkpointing import match_names, repeated_blocks

Parameters = list[nn.Parameter]
_KEY = "parallel.modules"


def leave_group() -> None:
    """Leave the process group, if there is one: the next training may have another number of ranks."""
    if dist.is_available() and dist.is_initialized():
        _mesh.cache_clear()
        dist.destroy_process_group()


def groups(config: Config, device: torch.device) -> list[dist.ProcessGroup]:
    """Return the groups among which the ranks of a training exchange tensors; they are made if they are missing."""
    parallel = config.parallel
    if parallel is None or not parallel.shards:
        return [cast("dist.ProcessGroup", dist.group.WORLD)]
    mesh = _mesh(device.type, parallel.replicas, parallel.shard_ranks)
    return [mesh.get_group(dimension) for dimension in range(mesh.ndim)]


def fullest_rank(config: Config, model: nn.Module) -> int:
    """Return a rank that holds at least as much memory as every other.

    DDP: all are equal. FSDP2 gives rank r the r-th of equal chunks along dimension 0, of which only the last ones may
    be shorter (torch.chunk), so every tensor of rank 0 is at least as large as that of another; in a mesh with
    replicas, rank 0 has the first shard as well. ZeroRedundancyOptimizer gives each parameter, the largest first, to
    the rank with the fewest elements (_partition_parameters): the rank with the most has the largest state.
    """
    parallel = config.parallel
    if parallel is None or not parallel.zero_redundancy_optimizer:
        return 0
    elements = [0] * parallel.ranks
    for size in sorted((p.numel() for p in model.parameters() if p.requires_grad), reverse=True):
        elements[elements.index(min(elements))] += size
    return elements.index(max(elements))


def shard(config: Config, model: nn.Module, device: torch.device) -> nn.Module:
    """Shard a model over the ranks, in place, and move it to the device: one module after the other, never all of it.

    Parameters on the meta device are made on the device without values, as a training does that loads them afterwards.

    Raises:
        ConfigError: no module has the name that the config gives.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # 0.3 s that other trainings do not need

    parallel = cast("ParallelConfig", config.parallel)
    policy = MixedPrecisionPolicy(param_dtype=_dtype(parallel.param_dtype), reduce_dtype=_dtype(parallel.reduce_dtype))
    mesh = _mesh(device.type, parallel.replicas, parallel.shard_ranks)
    for module in (*_modules(model, parallel.modules), model):
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=parallel.reshard_after_forward)
    if any(parameter.is_meta for parameter in model.parameters()):
        model.to_empty(device=device)
    return model


def replicate(config: Config, model: nn.Module) -> nn.Module:
    """Return a model whose gradients are averaged over the ranks, if the config says so; else the model."""
    parallel = config.parallel
    if parallel is None or parallel.shards or config.mode == "eval":
        return model
    return DistributedDataParallel(
        model,
        bucket_cap_mb=parallel.bucket_cap_mb,
        gradient_as_bucket_view=parallel.gradient_as_bucket_view,
        find_unused_parameters=parallel.find_unused_parameters,
        static_graph=parallel.static_graph,
    )


def divided_optimizer(
    make: Callable[[Parameters], torch.optim.Optimizer], parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Return an optimizer that keeps the state of this rank's share of the parameters."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    return ZeroRedundancyOptimizer(parameters, optimizer_class=make)  # type: ignore[arg-type]


def local_optimizer(optimizer: Any) -> Any:
    """Return the optimizer that steps this rank's share of the parameters: itself, unless it divides them."""
    divides = type(optimizer).__name__ == "ZeroRedundancyOptimizer"
    return optimizer.optim if divides else optimizer


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the user's model inside the wrappers of torch.compile and DDP."""
    model = getattr(model, "_orig_mod", model)
    return cast("nn.Module", model.module) if isinstance(model, DistributedDataParallel) else model


def is_sharded_by_fsdp1(model: nn.Module) -> bool:
    """Return whether a module of a model is torch.distributed.fsdp.FullyShardedDataParallel, without importing that."""
    return any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())


def accumulating(model: nn.Module) -> AbstractContextManager[object]:
    """Return the context of a micro-batch that is not the last: DDP averages the gradients of the last alone.

    FSDP2 reduces those of every micro-batch, since it would hold gradients of all parameters otherwise.
    """
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


@cache
def _mesh(device_type: str, replicas: int, shards: int) -> Any:
    """Return the ranks as a mesh; made once, since each mesh with replicas makes groups of its own."""
    from torch.distributed.device_mesh import init_device_mesh

    if replicas == 1:
        return init_device_mesh(device_type, (shards,))
    return init_device_mesh(device_type, (replicas, shards), mesh_dim_names=("replicas", "shards"))


def _modules(model: nn.Module, selection: str) -> list[nn.Module]:
    if selection == "none":
        return []
    blocks = repeated_blocks(model) if selection == "blocks" else match_names(model, selection, _KEY)
    return list(blocks.values())


def _dtype(name: str | None) -> torch.dtype | None:
    return None if name is None else cast("torch.dtype", getattr(torch, name))
