"""NCCL's own memory on a GPU, which lies outside PyTorch's allocator: an allowance from what people measured.

It depends on the topology, on the algorithms that NCCL selects and on its version: only the cluster itself can tell.
NVIDIA/nccl#964: 4 A100 with NVLink hold 544 MiB for a group of 2 and 688 MiB for a larger one after a small all-reduce,
for each group. A group of one rank holds 556 MiB on an H200 (measured by us: benchmarks/results/2026-11-27-h200), and
512 MiB on a B300 (#2363). #986: linear in channels and groups; it does not grow beyond two nodes. Other reports:
1.06 GB on 8 H100, CUDA's context included, and 4.34 GB after the first all-to-all (#1685), 1.6 GB for the first group
and about 6 GB for three or more (#864).
"""

from __future__ import annotations

_MIB = 1024**2
_OF_ONE_RANK = 556 * _MIB
_OF_TWO_RANKS = 544 * _MIB
_OF_MORE_RANKS = 688 * _MIB


def nccl_bytes(*group_sizes: int) -> int:
    """Return the allowance for a rank that is in groups of these sizes."""
    return sum(_of_group(ranks) for ranks in group_sizes)


def _of_group(ranks: int) -> int:
    """Return that for one group; a rank alone has a communicator as well."""
    if ranks == 1:
        return _OF_ONE_RANK
    return _OF_TWO_RANKS if ranks == 2 else _OF_MORE_RANKS
