"""Changes of the ways in which several ranks share a training."""

from __future__ import annotations

from collections.abc import Iterable

from vram_cli.commands.advise.memory_optimization import Cost, MemoryOptimization
from vram_cli.config import Config
from vram_cli.config.parallel_section import MOST_RANKS, ParallelConfig


def parallel_optimizations(
    config: Config, parallel: ParallelConfig, *, is_predicted: bool, rounds_to_bfloat16: bool
) -> Iterable[MemoryOptimization]:
    """Yield the changes that suit the config's strategy and that it does not have yet.

    Args:
        config: the training without changes.
        parallel: its section about ranks.
        is_predicted: whether there may be more ranks than this machine has GPUs.
        rounds_to_bfloat16: whether the GPU computes in bfloat16.
    """
    if parallel.shards:
        yield from _of_fsdp2(parallel)
        if rounds_to_bfloat16 and parallel.param_dtype is None and config.precision in ("fp32", "tf32", "amp-bf16"):
            yield _gathered_in_bfloat16(parallel)
    elif config.mode == "train":  # an evaluation is not wrapped in DDP
        yield from _of_ddp(config, parallel)
    if not parallel.shards and _can_be_sharded(config):
        cost_text = "gathers parameters in forward and backward"
        yield MemoryOptimization("FSDP2 instead of DDP", fsdp2_overrides(config), Cost.COMMUNICATION, cost_text)
    if is_predicted and (ranks := 2 * parallel.ranks) <= MOST_RANKS:
        yield MemoryOptimization(f"{ranks:,} ranks", (f"parallel.ranks={ranks}",), Cost.GPUS, "twice as many GPUs")


def fsdp2_overrides(config: Config) -> tuple[str, ...]:
    """Return the overrides that shard a training."""
    keeps_fused = not config.optimizer.fused or can_fuse_sharded(config)
    return ("parallel.strategy=fsdp2", *(() if keeps_fused else ("optimizer.fused=null",)))


def can_fuse_sharded(config: Config) -> bool:
    """Return whether an optimizer of sharded parameters can be fused: in torch 2.14, DTensor knows only Adam's kernels.

    See `aten._fused_adam_` in torch/distributed/tensor/_ops/_pointwise_ops.py.
    """
    return config.optimizer.family == "adam"


def _can_be_sharded(config: Config) -> bool:
    return not (config.train.channels_last or config.train.ema or config.optimizer.needs_gpu)


def _of_ddp(config: Config, parallel: ParallelConfig) -> Iterable[MemoryOptimization]:
    if not parallel.gradient_as_bucket_view:
        overrides = ("parallel.gradient_as_bucket_view=true",)
        yield MemoryOptimization("gradients as views of buckets", overrides, Cost.NOTHING)
    has_state = config.optimizer.name != "sgd" or config.optimizer.momentum > 0
    if has_state and not parallel.zero_redundancy_optimizer:
        overrides = ("parallel.zero_redundancy_optimizer=true",)
        cost_text = "broadcasts parameters in each step"
        yield MemoryOptimization("ZeroRedundancyOptimizer", overrides, Cost.COMMUNICATION, cost_text)


def _of_fsdp2(parallel: ParallelConfig) -> Iterable[MemoryOptimization]:
    if not parallel.reshard_after_forward:  # PyTorch's default keeps the parameters of the outermost module
        overrides = ("parallel.reshard_after_forward=true",)
        cost_text = "gathers more parameters again in backward"
        yield MemoryOptimization("reshard after forward", overrides, Cost.COMMUNICATION, cost_text)
    if parallel.modules == "none":
        cost_text = "more and smaller collectives"
        yield MemoryOptimization("shard every block", ("parallel.modules=blocks",), Cost.COMMUNICATION, cost_text)
    if parallel.replicas > 1:
        cost_text = "gathers parameters from all ranks"
        yield MemoryOptimization("shard over all ranks", ("parallel.replicas=1",), Cost.COMMUNICATION, cost_text)


def _gathered_in_bfloat16(parallel: ParallelConfig) -> MemoryOptimization:
    reduces = () if parallel.reduce_dtype else ("parallel.reduce_dtype=float32",)  # else in bfloat16 as well
    overrides = ("parallel.param_dtype=bfloat16", *reduces)
    return MemoryOptimization("gather in bfloat16", overrides, Cost.PRECISION, "rounds to 8 significant bits")
