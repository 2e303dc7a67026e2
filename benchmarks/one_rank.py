"""DDP and FSDP2 with one rank on this machine's GPU: peaks, and what the communicator takes.

python -m benchmarks.one_rank OUT.json
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel


def model() -> nn.Sequential:
    """Return eight blocks of two linear layers."""
    return nn.Sequential(
        *[nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 1024)) for _ in range(8)]
    ).cuda()


def outside() -> int:
    """Return bytes in use that PyTorch's allocator does not hold."""
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def run(net: nn.Module) -> dict[str, int]:
    """Run three steps of Adam and return the peaks."""
    optimizer = torch.optim.Adam(net.parameters())
    gc.collect()  # the model before this one has reference cycles
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    x = torch.randn(64, 1024, device="cuda")
    for _ in range(3):
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "outside": outside(),
    }


def main() -> None:
    """Measure the strategies one after the other, and write what was measured, also if one of them fails."""
    results: dict[str, Any] = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(0)}
    try:
        measure(results)
    finally:
        Path(sys.argv[1]).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def measure(results: dict[str, Any]) -> None:
    """Add the figures of each strategy to the results."""
    results["plain"] = run(model())
    before = outside()
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    dist.all_reduce(torch.ones(1, device="cuda"))
    results["communicator"] = outside() - before
    for view in (False, True):
        results[f"ddp, bucket view {view}"] = run(DistributedDataParallel(model(), gradient_as_bucket_view=view))
    results["ddp, static graph"] = run(DistributedDataParallel(model(), static_graph=True))
    for policy in (None, MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)):
        for reshard in (True, False):
            net = model()
            kwargs = {"mp_policy": policy} if policy else {}
            for block in net:
                fully_shard(block, reshard_after_forward=reshard, **kwargs)
            fully_shard(net, reshard_after_forward=reshard, **kwargs)
            results[f"fsdp2, {'bf16' if policy else 'fp32'}, reshard {reshard}"] = run(net)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
