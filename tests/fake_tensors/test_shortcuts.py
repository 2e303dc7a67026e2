"""The shortcuts for cuDNN's batch norm, against PyTorch's own decompositions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vram_cli.fake_tensors.shortcuts import SHORTCUTS

Metadata = tuple[torch.Size, tuple[int, ...], torch.dtype, torch.device]


def metadata(tensors: Any) -> list[Metadata]:
    return [(tensor.shape, tensor.stride(), tensor.dtype, tensor.device) for tensor in tensors]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "memory_format"),
    [
        ((4, 6), torch.contiguous_format),
        ((4, 6, 5), torch.contiguous_format),
        ((4, 6, 5, 3), torch.contiguous_format),
        ((4, 6, 5, 3), torch.channels_last),
        ((4, 1, 5, 3), torch.channels_last),
        ((2, 6, 5, 3, 2), torch.channels_last_3d),
    ],
)
def test_shortcuts_agree_with_pytorch(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype, training: bool
) -> None:
    aten = torch.ops.aten
    with FakeTensorMode():
        images = torch.empty(shape, dtype=dtype, device="cuda").contiguous(memory_format=memory_format)
        per_channel = [torch.empty(shape[1], device="cuda") for _ in range(4)]
        forward = (images, *per_channel, training, 0.1, 1e-5)
        normed = aten.cudnn_batch_norm.default(*forward)
        assert metadata(SHORTCUTS["aten.cudnn_batch_norm"](*forward)) == metadata(normed)
        if training:
            output, mean, deviation, reserve = normed
            weight, _, *running = per_channel
            backward = (images, torch.empty_like(output), weight, *running, mean, deviation, 1e-5, reserve)
            grads = aten.cudnn_batch_norm_backward.default(*backward)
            assert metadata(SHORTCUTS["aten.cudnn_batch_norm_backward"](*backward)) == metadata(grads)
