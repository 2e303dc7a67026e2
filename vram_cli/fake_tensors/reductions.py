"""The buffer that a sum over few outputs and many inputs allocates: partial sums of blocks that work on one output.

The rules are those of setReduceConfig and gpu_reduce_kernel in ATen/native/cuda/Reduce.cuh, which is in PyTorch's
wheels; brackets name its functions and members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch

_ACCUMULATOR_BYTES = {torch.float64: 8, torch.int64: 8, torch.complex64: 8, torch.complex128: 16}
_MOST_THREADS = 512
_WARP = 32
_FEWEST_VALUES, _MOST_VALUES = 16, 256
"""Values per thread (min_values_per_thread, max_values_per_thread)."""
_MOST_BYTES_OF_INDEX = 2**31 - 1


@dataclass(frozen=True)
class Processors:
    """What a GPU can run at the same time."""

    multiprocessors: int
    threads_per_multiprocessor: int


def sum_buffers(tensor: torch.Tensor, dims: Sequence[int] | None, processors: Processors) -> list[int]:
    """Return the bytes of the buffer and of the semaphores of a sum over dimensions (None: over all); [] if none."""
    if not tensor.numel() or tensor.numel() * tensor.element_size() > _MOST_BYTES_OF_INDEX:
        return []  # larger tensors are summed in parts, each with a buffer of its own
    reduced, kept = _coalesced(tensor, dims)
    if not reduced:
        return []
    outputs, inputs = prod(size for size, _ in kept), prod(size for size, _ in reduced)
    along_inputs = not kept or reduced[0][1] < kept[0][1]
    vector = 1
    if along_inputs:
        width_limit, height_limit = inputs, outputs
        if reduced[0][1] == 1 and inputs >= 128 and len(reduced) == 1:
            width_limit //= 8 if tensor.element_size() == 2 else 4  # input_vec_size
    else:
        width_limit, height_limit = outputs, inputs
        if kept[0][1] == 1:
            vector = _vector_size(reduced, kept)
            width_limit //= vector
    width, height = _block(width_limit, height_limit, _MOST_THREADS // vector)
    per_thread = _up(inputs, width) if along_inputs else inputs
    if per_thread < min(height * 16, _MOST_VALUES):
        return []
    per_thread = _up(per_thread, height)
    grid = _up(outputs // vector, 1 if along_inputs else width)
    target = processors.multiprocessors * (processors.threads_per_multiprocessor // (width * height))
    if per_thread < _MOST_VALUES or grid > target:
        return []
    blocks = min(max(_up(target, grid), _up(per_thread, _MOST_VALUES)), _up(per_thread, _FEWEST_VALUES))
    if blocks <= 1:
        return []
    size = _ACCUMULATOR_BYTES.get(tensor.dtype, 4) * outputs * blocks
    return [size if along_inputs else size * width * vector, 4 * grid]


_Dimension = tuple[int, int]
"""(size, stride in elements)."""


def _coalesced(tensor: torch.Tensor, dims: Sequence[int] | None) -> tuple[list[_Dimension], list[_Dimension]]:
    """Return the reduced and the kept dimensions, the fastest first, neighbours merged (coalesce_dimensions)."""
    chosen = {dim % tensor.dim() for dim in dims} if dims else set(range(tensor.dim()))
    parts: tuple[list[_Dimension], list[_Dimension]] = ([], [])
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if size != 1:
            parts[dim not in chosen].append((size, stride))
    return _merged(parts[0]), _merged(parts[1])


def _merged(dimensions: list[_Dimension]) -> list[_Dimension]:
    result: list[_Dimension] = []
    for size, stride in sorted(dimensions, key=lambda dimension: dimension[1]):
        if result and result[-1][0] * result[-1][1] == stride:
            result[-1] = (result[-1][0] * size, result[-1][1])
        else:
            result.append((size, stride))
    return result


def _vector_size(reduced: list[_Dimension], kept: list[_Dimension]) -> int:
    """Return how many neighbouring outputs a thread sums (get_output_vec_size)."""
    vector = 4
    for value in (kept[0][0], *(stride for _, stride in [*reduced, *kept[1:]])):
        while value % vector:
            vector //= 2
    return vector


def _block(width_limit: int, height_limit: int, threads: int) -> tuple[int, int]:
    """Return the width and the height of a block (set_block_dimension)."""
    widest, highest = (min(_last_power(limit), threads) for limit in (width_limit, height_limit))
    width = min(widest, _WARP)
    height = min(highest, threads // width)
    return min(widest, threads // height), height


def _last_power(value: int) -> int:
    """Return the largest power of 2 up to the value (last_pow2)."""
    return 1 << max(value.bit_length() - 1, 0)


def _up(value: int, divisor: int) -> int:
    return -(-value // divisor)
