"""What of cuDNN is predicted (cudnn.benchmark, batch norm), and what is refused (recurrent layers)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch import nn

from tests.fake_tensors.test_cuda import made_by, subject, tape_of
from tests.fake_tensors.test_tape import life
from vram_cli.allocator.allocation_trace import AllocationTrace, Mark, line_through, record
from vram_cli.allocator.replay import play
from vram_cli.allocator.snapshot import snapshot_of
from vram_cli.config import load_config
from vram_cli.fake_tensors import Simulation, UnsupportedError, subject_of
from vram_cli.hardware.gpus import find_gpu
from vram_cli.probe.worker.trials import open_trials
from vram_cli.records import Phase
from vram_cli.units import MIB


def convolutions(*widths: int) -> nn.Module:
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in zip((3, *widths), widths, strict=False)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def searches(tape: AllocationTrace) -> list[Counter[Phase]]:
    """How often the cache is emptied in each phase of each step."""
    counts: list[Counter[Phase]] = []
    for step in tape.steps:
        phase, found = Phase.BATCH, Counter[Phase]()
        for action in step:
            phase = action if isinstance(action, Phase) else phase
            found[phase] += action is Mark.EMPTY_CACHE
        counts.append(+found)
    return counts


def test_the_first_convolution_of_a_kind_empties_the_cache() -> None:
    """Four convolutions of three kinds: 3 to 8, 8 to 8 twice, 8 to 16. The images need no gradient."""
    trained = subject(lambda: convolutions(8, 8, 8, 16), (3, 32, 32))
    first, second = searches(tape_of(trained, 4, cudnn_benchmark=True))
    assert first == {Phase.FORWARD: 3, Phase.BACKWARD: 2 + 3}
    assert second == {}
    assert searches(tape_of(trained, 4)) == [{}, {}]


def test_a_depthwise_convolution_is_not_cudnns() -> None:
    model = lambda: nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Flatten(), nn.Linear(3 * 30 * 30, 10))  # noqa: E731
    assert searches(tape_of(subject(model, (3, 32, 32)), 4, cudnn_benchmark=True)) == [{}, {}]


def test_what_a_mark_gives_back_is_reserved_no_longer() -> None:
    """30 MiB are freed and cached; 40 MiB do not fit in there. A snapshot shows when they were given back."""
    lives = [life(30 * MIB, 1, 2), life(40 * MIB, 3, 4)]
    phases: list[tuple[int, Phase | Mark | None]] = [(0, None), (0, Phase.FORWARD)]
    kept = record(lives, [*phases, (4, None)])
    emptied = record(lives, [*phases, (2, Mark.EMPTY_CACHE), (4, None)])
    assert emptied.steps == ((Phase.FORWARD, 0, ~0, Mark.EMPTY_CACHE, 1, ~1),)
    assert [play(tape).peaks[-1].reserved_bytes for tape in (kept, emptied)] == [70 * MIB, 40 * MIB]
    assert [play(tape, 60 * MIB, steps=1).retries for tape in (kept, emptied)] == [1, 0]
    actions = [event["action"] for event in snapshot_of(emptied)["device_traces"][0]]
    assert actions.index("segment_free") < actions.index("alloc", actions.index("free_completed"))


def test_a_line_is_exact_with_marks_too() -> None:
    trained, _ = subject_of(load_config("cnn_cifar10", ["precision=amp-fp16"]))
    simulation = Simulation(trained, find_gpu("a100-80gb"), cudnn_benchmark=True)
    line = line_through(simulation.tape(2), 2, simulation.tape(9), 9)
    assert line is not None
    assert line.at(300) == simulation.tape(300)


def test_a_prediction_with_benchmark_on_says_what_it_leaves_out() -> None:
    def remark(*overrides: str) -> str:
        config = load_config("cnn_cifar10", ["device.gpu=t4", *overrides])
        return open_trials(config, download=False, calibrated=False).ready.remark

    assert remark() == ""
    assert "cudnn.benchmark is on" in remark("device.cudnn_benchmark=true")


def test_real_trials_set_it_in_their_process() -> None:
    code = (
        "import torch\nfrom vram_cli.config import load_config\nfrom vram_cli.probe.worker.trials import open_trials\n"
        "overrides = ['device={name: cpu, memory_limit: 4GiB, cudnn_benchmark: true}', 'data.source=synthetic']\n"
        "before = torch.backends.cudnn.benchmark\n"
        "open_trials(load_config('mlp_mnist', overrides), download=False)\n"
        "print(before, torch.backends.cudnn.benchmark)"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("precision", [None, torch.float16], ids=["fp32", "amp-fp16"])
def test_batch_norm_keeps_mean_and_deviation_and_no_reserve(
    layout: torch.memory_format, precision: torch.dtype | None
) -> None:
    def build() -> nn.Module:
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
        return nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), *head).to(memory_format=layout)

    tape = tape_of(subject(build, (3, 16, 16), precision=precision), 4)
    output = (2 if precision else 4) * 4 * 8 * 16 * 16
    assert made_by(tape, "aten.cudnn_batch_norm") == [output, 4 * 8, 4 * 8, 0]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"layer": kind(16, 32)})
        self.head = nn.Linear(32, 10)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        output = self.inner["layer"](sequence)
        return self.head(output[0] if isinstance(output, tuple) else output)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_refused_by_name(kind: type[nn.Module]) -> None:
    with pytest.raises(
        UnsupportedError, match=rf"nn\.{kind.__name__}, .* in inner\.layer cannot be predicted"
    ) as caught:
        tape_of(subject(lambda: Recurrent(kind), (16,)), 8)
    assert "--device cpu" in caught.value.hint


class CudnnRnn(nn.Linear):
    """Calls what nn.LSTM comes to where PyTorch sees a GPU."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = images.new_zeros(1, len(images), 10)
        weights = [images.new_zeros(40, 400), images.new_zeros(40, 10)]
        outputs = torch.ops.aten._cudnn_rnn(
            images[None], weights, 2, None, hidden, hidden, 2, 10, 0, 1, False, 0.0, True, False, [], None
        )
        return super().forward(images) + outputs[0][0]


def test_the_operation_behind_them_is_refused_too() -> None:
    with pytest.raises(UnsupportedError, match=r"aten\._cudnn_rnn, whose reserve"):
        tape_of(subject(lambda: CudnnRnn(400, 10), (400,)), 8)


def test_a_recurrent_cell_is_predicted() -> None:
    """PyTorch's own kernel makes hidden and cell state, and keeps the four gates."""
    tape = tape_of(subject(lambda: Recurrent(nn.LSTMCell), (16,)), 8)
    state = 4 * 8 * 32
    assert sorted(made_by(tape, "aten._thnn_fused_lstm_cell")) == [state, state, 4 * state]
