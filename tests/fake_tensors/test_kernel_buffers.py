"""Memory that kernels allocate themselves, against the sizes that PyTorch's own CUDA code asked for on the virtual GPU.

All are of torch 2.14.1 on an A100, whose 108 multiprocessors run 2,048 threads each.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.fake_tensors.test_cuda import A100, T4, training
from vram_cli.fake_tensors import Simulation
from vram_cli.fake_tensors.cuda_workspaces import Workspaces
from vram_cli.fake_tensors.reductions import Processors, sum_buffers
from vram_cli.hardware.gpus import Gpu

PROCESSORS = Processors(multiprocessors=108, threads_per_multiprocessor=2048)


@pytest.mark.parametrize(
    ("shape", "dims", "dtype", "buffer"),
    [
        ((12608, 384), [0], torch.float32, 38_731_776),  # the bias of a linear layer
        ((12608, 1536), [0], torch.float32, 113_246_208),
        ((64, 7, 7, 2560), [0, 1, 2], torch.bfloat16, 64_225_280),
        ((2049, 96), [0], torch.float32, 417_792),
        ((2730, 384), [0], torch.float16, 8_454_144),
        ((64, 64, 56, 56), [0, 2, 3], torch.float32, 1_792),  # the bias of a convolution
        ((64, 256, 14, 14), [0, 2, 3], torch.float32, 0),
        ((256, 10), [0], torch.float32, 0),
    ],
)
def test_buffer_of_a_sum(shape: tuple[int, ...], dims: list[int], dtype: torch.dtype, buffer: int) -> None:
    sizes = sum_buffers(torch.empty(shape, dtype=dtype, device="meta"), dims, PROCESSORS)
    assert (sizes[0] if sizes else 0) == buffer


def test_larger_gpus_split_a_sum_further() -> None:
    tensor = torch.empty(12608, 384, device="meta")
    small, large = (sum_buffers(tensor, [0], Processors(count, 1024))[0] for count in (8, 40))
    assert small < large


def workspace(name: str, *args: Any) -> int:
    allocations = Workspaces(A100, (2, 14), lambda: True, tf32=False)(name, args, {}, None)
    return sum(allocation[0] for allocation in allocations)  # type: ignore[index, misc]


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@pytest.mark.parametrize(
    ("rows", "width", "dtype", "size"),
    [
        (12_608, 384, torch.float32, 0),
        (65_536, 96, torch.float32, 0),
        (65_537, 96, torch.float32, 2 * 786_816 + 417_792),
        (200_704, 96, torch.float16, 2 * 1_204_224 + 1_204_224),
        (300_000, 1000, torch.float32, 2 * 4_096_000 + 8_192_000),
        (100_000, 2048, torch.float32, 0),
    ],
)
def test_layer_norm_backward(rows: int, width: int, dtype: torch.dtype, size: int) -> None:
    source, weight, one = meta(rows, width, dtype=dtype), meta(width, dtype=dtype), meta(rows, 1)
    given = workspace("aten.native_layer_norm_backward", source, source, [width], one, one, weight, weight, [True] * 3)
    assert given == pytest.approx(size, abs=512)


def test_layer_norm_copies_what_is_not_contiguous() -> None:
    source, weight, one = meta(8, 4, 16).transpose(0, 1), meta(16), meta(4, 8, 1)
    assert workspace("aten.native_layer_norm", source, [16], weight, weight, 1e-5) == source.nbytes
    assert workspace("aten.native_layer_norm", source.contiguous(), [16], weight, weight, 1e-5) == 0
    args = (source, source, [16], one, one, weight, weight, [True] * 3)
    assert workspace("aten.native_layer_norm_backward", *args) == 2 * source.nbytes


@pytest.mark.parametrize(
    ("dtype", "width", "length", "tiles"),
    [
        (torch.float32, 64, 200, 524_800),
        (torch.float32, 128, 1024, 4_196_352),
        (torch.float32, 160, 200, 1_573_632),
        (torch.float16, 16, 128, 262_400),
        (torch.float16, 80, 200, 1_048_832),
        (torch.float16, 128, 1024, 4_195_328),
    ],
)
def test_efficient_attention_backward(dtype: torch.dtype, width: int, length: int, tiles: int) -> None:
    query = meta(2, 4, length, width, dtype=dtype)
    product = 4 * query.numel() if dtype is torch.float32 else 0
    row_sums = 4 * 2 * 4 * length
    given = workspace("aten._scaled_dot_product_efficient_attention_backward", *[query] * 6)
    assert given == pytest.approx(product + row_sums + tiles, rel=0.002)


@pytest.mark.parametrize(
    ("rows", "width", "count", "size"),
    [
        (50_000, 768, 3072, 0),
        (50_000, 768, 8192, 5 * 65_536 + 72_088 + 27_681_792),
        (3_000, 64, 4096, 3 * 32_768 + 2 * 24_000 + 27_272 + 872_704),
        (30_000, 1024, 20_000, 5 * 160_000 + 176_000 + 90_112_000),
    ],
)
def test_embedding_backward(rows: int, width: int, count: int, size: int) -> None:
    grad, indices = meta(count, width), meta(count, dtype=torch.int64)
    assert workspace("aten.embedding_dense_backward", grad, indices, rows, -1, False) == size


def test_embedding_bag_backward() -> None:
    grad, indices = meta(4096, 64), meta(204_800, dtype=torch.int64)
    args = (grad, indices, None, None, None, 1_000_000, False)
    assert workspace("aten._embedding_bag_dense_backward", *args, 1, None) == 5 * 1_638_400 + 1_802_240 + 57_671_680


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_volumes_are_copied_to_channels_last(layout: torch.memory_format) -> None:
    source = meta(4, 16, 64, 64, 64, dtype=torch.float16).to(memory_format=layout)
    weight, result = meta(32, 16, 2, 2, 2, dtype=torch.float16), meta(4, 32, 32, 32, 32, dtype=torch.float16)
    args = (source, weight, None, [2] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1)
    allocations = Workspaces(A100, (2, 14), lambda: False, tf32=False)("aten.convolution", args, {}, result)
    copied = source.nbytes + weight.nbytes + result.nbytes
    given = [size for size, _ in allocations]  # type: ignore[misc]
    assert given == ([copied] if layout is torch.contiguous_format else [weight.nbytes])


class Convolution(nn.Module):
    """Checks whether a convolution of channels last gives channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3)
        self.keeps_layout: bool | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = self.convolution(images.contiguous(memory_format=torch.channels_last))
        self.keeps_layout = output.is_contiguous(memory_format=torch.channels_last)
        return functional.adaptive_avg_pool2d(output, 1).flatten(1)


@pytest.mark.parametrize(
    ("gpu", "precision", "keeps"),
    [(A100, torch.bfloat16, True), (T4, torch.bfloat16, False), (T4, torch.float16, True), (T4, None, True)],
)
def test_layout_of_convolutions(gpu: Gpu, precision: torch.dtype | None, keeps: bool) -> None:
    models: list[Convolution] = []

    def build() -> Convolution:
        models.append(Convolution())
        return models[-1]

    Simulation(training(build, (3, 8, 8), precision=precision), gpu).trace(2)
    assert models[0].keeps_layout is keeps
