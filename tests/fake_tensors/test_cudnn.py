"""cuDNN: cudnn.benchmark and batch norm are predicted, recurrent layers are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch import nn

from tests.fake_tensors.test_cuda import allocated_by, trace_of, training
from vram_cli.allocator.allocation_trace import AllocationTrace, AllocatorCall
from vram_cli.config import load_config
from vram_cli.fake_tensors import UnsupportedError
from vram_cli.probe.worker.trials import open_trials
from vram_cli.records import Phase


def convolutions(*widths: int) -> nn.Module:
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in zip((3, *widths), widths, strict=False)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def searches(trace: AllocationTrace) -> list[Counter[Phase]]:
    """Count how often each phase of each step empties the cache."""
    counts: list[Counter[Phase]] = []
    for step in trace.steps:
        phase, count = Phase.BATCH, Counter[Phase]()
        for action in step:
            phase = action if isinstance(action, Phase) else phase
            count[phase] += action is AllocatorCall.EMPTY_CACHE
        counts.append(+count)
    return counts


def test_first_convolution_of_a_kind_empties_the_cache() -> None:
    """Four convolutions of three kinds: 3 to 8, 8 to 8 twice, 8 to 16. The images need no gradient."""
    model = training(lambda: convolutions(8, 8, 8, 16), (3, 32, 32))
    first, second = searches(trace_of(model, 4, cudnn_benchmark=True))
    assert first == {Phase.FORWARD: 3, Phase.BACKWARD: 2 + 3}
    assert second == {}
    assert searches(trace_of(model, 4)) == [{}, {}]


def test_depthwise_convolution_does_not_use_cudnn() -> None:
    model = lambda: nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Flatten(), nn.Linear(3 * 30 * 30, 10))  # noqa: E731
    assert searches(trace_of(training(model, (3, 32, 32)), 4, cudnn_benchmark=True)) == [{}, {}]


def test_benchmark_adds_a_remark() -> None:
    def remark(*overrides: str) -> str:
        config = load_config("cnn_cifar10", ["device={gpu: l4, engine: fake-tensors}", *overrides])
        return open_trials(config, download=False, calibrated=False).ready.remark

    assert remark() == ""
    assert "cudnn.benchmark is on" in remark("device.cudnn_benchmark=true")


@pytest.mark.parametrize(
    ("config", "overrides", "is_told"),
    [
        ("cnn_cifar10", ["device.gpu=t4"], True),  # before Ampere
        ("cnn_cifar10", ["device.gpu=l4"], False),
        ("cnn_cifar10", ["device.gpu=t4", "precision=amp-fp16"], False),
        ("cnn_cifar10", ["device.gpu=t4", "precision=bf16"], False),
        ("mlp_mnist", ["device.gpu=t4"], False),
    ],
)
def test_convolutions_that_are_predicted_badly_are_told_first(config: str, overrides: list[str], is_told: bool) -> None:
    trials = open_trials(load_config(config, ["device.engine=fake-tensors", *overrides]), download=False)
    assert ("up to 37 % more memory" in trials.ready.remark) == is_told


def test_real_trials_set_benchmark() -> None:
    code = (
        "import torch\nfrom vram_cli.config import load_config\nfrom vram_cli.probe.worker.trials import open_trials\n"
        "overrides = ['device={name: cpu, memory_limit: 4GiB, cudnn_benchmark: true}', 'data.source=synthetic']\n"
        "before = torch.backends.cudnn.benchmark\n"
        "open_trials(load_config('mlp_mnist', overrides), download=False)\n"
        "print(before, torch.backends.cudnn.benchmark)"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("precision", [None, torch.float16], ids=["fp32", "amp-fp16"])
def test_batch_norm_saves_mean_and_deviation(layout: torch.memory_format, precision: torch.dtype | None) -> None:
    def build() -> nn.Module:
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
        return nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), *head).to(memory_format=layout)

    trace = trace_of(training(build, (3, 16, 16), precision=precision), 4)
    output = (2 if precision else 4) * 4 * 8 * 16 * 16
    assert allocated_by(trace, "aten.cudnn_batch_norm") == [output, 4 * 8, 4 * 8, 0]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"layer": kind(16, 32)})
        self.head = nn.Linear(32, 10)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        output = self.inner["layer"](sequence)
        return self.head(output[0] if isinstance(output, tuple) else output)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layer_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(
        UnsupportedError, match=rf"nn\.{kind.__name__}, .* in inner\.layer cannot be predicted"
    ) as error:
        trace_of(training(lambda: Recurrent(kind), (16,)), 8)
    assert "--device cpu" in error.value.hint


class CudnnRnn(nn.Linear):
    """Calls the operation that nn.LSTM runs on a GPU."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = images.new_zeros(1, len(images), 10)
        weights = [images.new_zeros(40, 400), images.new_zeros(40, 10)]
        outputs = torch.ops.aten._cudnn_rnn(
            images[None], weights, 2, None, hidden, hidden, 2, 10, 0, 1, False, 0.0, True, False, [], None
        )
        return super().forward(images) + outputs[0][0]


def test_recurrent_operation_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"aten\._cudnn_rnn, whose reserve"):
        trace_of(training(lambda: CudnnRnn(400, 10), (400,)), 8)


def test_recurrent_cell_is_predicted() -> None:
    """PyTorch's own kernel allocates hidden and cell state, and saves the four gates."""
    trace = trace_of(training(lambda: Recurrent(nn.LSTMCell), (16,)), 8)
    state = 4 * 8 * 32
    assert sorted(allocated_by(trace, "aten._thnn_fused_lstm_cell")) == [state, state, 4 * state]
