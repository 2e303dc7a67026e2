"""Kernels, layouts and refusals that PyTorch chooses by its build are the same on every build.

On a build with CUDA these tests pin what PyTorch does; on one without, that vram makes up for the difference.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.fake_tensors.test_cuda import training
from vram_cli.allocator.allocation_trace import AllocationTrace
from vram_cli.errors import MachineError
from vram_cli.fake_tensors import Simulation, UnsupportedError, device_guard
from vram_cli.hardware.gpus import find_gpu

Call = Callable[[torch.Tensor], torch.Tensor]


class Model(nn.Module):
    def __init__(self, call: Call, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.call, self.layer = nn.Conv2d(3, 8, 3, padding=1), call, layer or nn.Identity()
        self.last = nn.Linear(1, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        called = self.call(self.layer(self.first(images)))
        return self.last(called.flatten(1).mean(1, keepdim=True))


def as_it_is(images: torch.Tensor) -> torch.Tensor:
    return images


def trace_of(
    call: Call = as_it_is, layer: nn.Module | None = None, precision: torch.dtype | None = None
) -> AllocationTrace:
    return Simulation(training(lambda: Model(call, layer), (3, 16, 16), precision=precision), find_gpu("t4")).trace(4)


def operations(*args: object, **options: object) -> set[str]:
    return {storage.op.removeprefix("aten.") for storage in trace_of(*args, **options).storages}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "runs", "runs_not"),
    [
        (nn.SiLU(), {"silu", "silu_backward"}, {"sigmoid"}),
        (nn.BatchNorm2d(8), {"cudnn_batch_norm", "cudnn_batch_norm_backward"}, {"native_batch_norm"}),
        (nn.BatchNorm2d(8, track_running_stats=False), {"cudnn_batch_norm"}, {"native_batch_norm"}),
        (nn.InstanceNorm2d(8, affine=True), {"cudnn_batch_norm"}, {"native_batch_norm"}),
        (nn.BatchNorm2d(8, affine=False), {"native_batch_norm"}, {"cudnn_batch_norm"}),
        (nn.BatchNorm2d(8).eval(), {"cudnn_batch_norm"}, set()),
    ],
    ids=["silu", "batch norm", "without statistics", "instance norm", "without weights", "not training"],
)
def test_layers_run_the_kernels_of_cuda_and_cudnn(layer: nn.Module, runs: set[str], runs_not: set[str]) -> None:
    ran = operations(as_it_is, layer)
    assert runs <= ran
    assert not runs_not & ran


def test_batch_norm_of_bfloat16_and_of_plain_vectors_is_pytorchs_own() -> None:
    def normalize(images: torch.Tensor) -> torch.Tensor:
        weight, bias = images.new_ones(8), images.new_zeros(8)
        return functional.batch_norm(images.mean((2, 3)), None, None, weight, bias, training=True)

    assert "cudnn_batch_norm" not in operations(normalize)
    half = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    assert "cudnn_batch_norm" in operations(as_it_is, half)
    assert "cudnn_batch_norm" not in operations(as_it_is, half, torch.bfloat16)


@pytest.mark.parametrize(
    ("layer", "dtype", "last"),
    [
        (nn.Conv2d(8, 4, 3), torch.float32, True),
        (nn.Conv2d(8, 4, 3), torch.float64, False),
        (nn.Conv2d(8, 8, 3, groups=8), torch.float32, True),
        (nn.ConvTranspose2d(8, 4, 2, stride=2), torch.float32, True),
    ],
    ids=["float32", "float64", "depthwise", "transposed"],
)
def test_a_convolution_lays_its_result_out_as_cudnn_does(layer: nn.Module, dtype: torch.dtype, last: bool) -> None:
    seen: list[bool] = []

    def convolve(images: torch.Tensor) -> torch.Tensor:
        weight = layer.weight.to(images.device, dtype)  # type: ignore[operator]
        images = images.to(dtype, memory_format=torch.channels_last)
        convolution = functional.conv_transpose2d if isinstance(layer, nn.ConvTranspose2d) else functional.conv2d
        settings = {"stride": layer.stride, "groups": layer.groups}
        result = convolution(images, torch.empty_like(weight, device=images.device), **settings)  # type: ignore[arg-type]
        seen.append(result.is_contiguous(memory_format=torch.channels_last))
        return result.float()

    trace_of(convolve)
    assert set(seen) == {last}


@pytest.mark.parametrize("word", ["cuda", "cuda:0"])
def test_tensors_are_moved_to_a_gpu_with_and_without_its_number(word: str) -> None:
    assert trace_of(lambda images: images.to(word)) == trace_of()
    assert trace_of(lambda images: images.cuda()) == trace_of()
    assert trace_of(lambda images: images.to(torch.accelerator.current_accelerator())) == trace_of()


@pytest.mark.parametrize(
    "call",
    [
        lambda images: (torch.cuda.synchronize(), images)[1],
        lambda images: (torch.cuda.get_device_properties(0), images)[1],
        lambda images: torch._VF.lstm(  # type: ignore[attr-defined]
            images[:, 0],
            (images.new_zeros(1, 16, 4), images.new_zeros(1, 16, 4)),
            [images.new_zeros(16, 16), images.new_zeros(16, 4), images.new_zeros(16), images.new_zeros(16)],
            *(True, 1, 0.0, True, False, False),
        )[0],
    ],
    ids=["waiting for it", "its properties", "an LSTM"],
)
def test_what_asks_the_gpu_is_refused(call: Call) -> None:
    with pytest.raises(UnsupportedError):
        trace_of(call)


def test_a_build_that_hides_its_guards_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it was made by a compiler that names things otherwise."""
    device_guard.ensure_device_guard.cache_clear()
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    monkeypatch.setattr(device_guard, "_guarded", lambda: False)
    with pytest.raises(MachineError, match="built without CUDA") as caught:
        trace_of()
    assert caught.value.exit_code == 3
    assert "pip install torch" in caught.value.hint
    device_guard.ensure_device_guard.cache_clear()
