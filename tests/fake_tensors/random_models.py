"""Random small trainings: a real step on the CPU and its prediction on fake tensors of the CPU take the same bytes.

    python -m tests.fake_tensors.random_models 1000

tries as many. What cannot be predicted must be refused by name.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from unittest import mock

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.fake_tensors.phase_peaks import CPU, OUT_OF_PLACE, fake, real
from vram_cli.errors import UnsupportedError
from vram_cli.fake_tensors import SimulatedTraining
from vram_cli.workload import Batch, Workload, supervised, train_step
from vram_cli.workload.weight_average import WeightAverage

OUTCOMES: Counter[str] = Counter()

_CLASSES = 5


class Residual(nn.Module):
    """Adds what a layer of the same sizes returns."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer(x)


class Checkpointed(Residual):
    """Runs a layer again in backward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.layer, x, use_reentrant=False)  # type: ignore[no-any-return]


class Mean(nn.Module):
    """The mean over the tokens."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


@dataclass(frozen=True)
class Training:
    """A training in words that Python can evaluate, so that a failure can be read and run again."""

    layers: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    frozen: frozenset[int]
    """Layers whose parameters are not trained."""
    loss: str
    optimizer: str
    autocast: bool
    options: tuple[str, ...]
    n: int

    def simulated(self) -> SimulatedTraining:
        return SimulatedTraining(self._build, self._workload, lambda n, device, _: self._batch(n, device))

    def _build(self) -> nn.Module:
        names = {**vars(nn), "Residual": Residual, "Checkpointed": Checkpointed, "Mean": Mean}
        model = nn.Sequential(*(eval(layer, names) for layer in self.layers))
        for index in self.frozen:
            model[index].requires_grad_(False)
        return model.to(getattr(torch, self.dtype))

    def _workload(self, model: nn.Module, device: torch.device) -> Workload:
        kind, _, arguments = self.optimizer.partition("(")
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = eval(f"optim.{kind}(trained, {arguments}", {"optim": torch.optim, "trained": trained})
        return Workload(
            model=model,
            loss=supervised(eval(self.loss, dict(vars(nn)))),
            optimizer=optimizer,
            scaler=torch.amp.GradScaler(device.type, enabled=False),
            device=device,
            autocast_dtype=torch.bfloat16 if self.autocast else None,
            step=train_step,
            zero_grad_to_none="zero grad" not in self.options,
            gradient_accumulation_steps=2 if "accumulate" in self.options else 1,
            micro_batches=2 if "accumulate" in self.options else 1,
            clip_grad_norm=1.0 if "clip" in self.options else None,
            average=WeightAverage(model) if "average" in self.options else None,
        )

    def _batch(self, n: int, device: torch.device) -> Batch:
        is_words = self.layers[0].startswith("Embedding")
        dtype = torch.int64 if is_words else getattr(torch, self.dtype)
        inputs = torch.zeros(n, *self.shape, device=device, dtype=dtype)
        if "CrossEntropy" in self.loss:
            return inputs, torch.zeros(n, device=device, dtype=torch.int64)
        return inputs, torch.zeros(n, _CLASSES, device=device, dtype=getattr(torch, self.dtype))


ACTIVATIONS = ("ReLU()", "ReLU(inplace=True)", "GELU()", "Tanh()", "SiLU()", "Sigmoid()", "ELU()", "Softplus()",
               "Hardswish()", "LeakyReLU(0.1)", "Mish()", "Dropout(0.1)", "PReLU()", "Identity()")  # fmt: skip


def vectors(draw: st.DrawFn) -> tuple[list[str], tuple[int, ...]]:
    width = first = draw(st.integers(1, 40))
    layers = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["linear", "linear", "activation", "norm", "residual", "checkpoint"]))
        if kind == "linear":
            wider = draw(st.integers(1, 40))
            layers.append(f"Linear({width}, {wider}, bias={draw(st.booleans())})")
            width = wider
        elif kind == "activation":
            layers.append(draw(st.sampled_from(ACTIVATIONS)))
        elif kind == "norm":
            layers.append(draw(st.sampled_from([f"LayerNorm({width})", f"BatchNorm1d({width})", f"RMSNorm({width})"])))
        else:
            inner = f"Sequential(Linear({width}, {width}), {draw(st.sampled_from(ACTIVATIONS))})"
            layers.append(f"{'Residual' if kind == 'residual' else 'Checkpointed'}({inner})")
    return [*layers, f"Linear({width}, {_CLASSES})"], (first,)


def images(draw: st.DrawFn) -> tuple[list[str], tuple[int, ...]]:
    channels = first = draw(st.sampled_from([1, 2, 3, 4, 8]))
    layers = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "conv", "activation", "norm", "pool", "residual", "up"]))
        if kind == "conv":
            wider = draw(st.sampled_from([1, 2, 4, 8]))
            groups = draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == 0 and wider % g == 0]))
            stride, bias = draw(st.integers(1, 2)), draw(st.booleans())
            kernel = draw(st.sampled_from([1, 3]))
            layers.append(
                f"Conv2d({channels}, {wider}, {kernel}, {stride}, {kernel // 2}, groups={groups}, bias={bias})"
            )
            channels = wider
        elif kind == "activation":
            layers.append(draw(st.sampled_from(ACTIVATIONS)))
        elif kind == "norm":
            norms = [
                f"BatchNorm2d({channels})",
                f"GroupNorm(1, {channels})",
                f"InstanceNorm2d({channels}, affine=True)",
            ]
            layers.append(draw(st.sampled_from(norms)))
        elif kind == "pool":
            pools = ["MaxPool2d(2, ceil_mode=True)", "AvgPool2d(2, ceil_mode=True)", "AdaptiveAvgPool2d(4)"]
            layers.append(draw(st.sampled_from(pools)))
        elif kind == "up":
            layers.append(f"Upsample(scale_factor=2, mode='{draw(st.sampled_from(['nearest', 'bilinear']))}')")
        else:
            layers.append(f"Residual(Sequential(Conv2d({channels}, {channels}, 3, padding=1), ReLU()))")
    return [*layers, "AdaptiveAvgPool2d(1)", "Flatten()", f"Linear({channels}, {_CLASSES})"], (first, 8, 8)


def words(draw: st.DrawFn) -> tuple[list[str], tuple[int, ...]]:
    width, length = draw(st.sampled_from([4, 8, 16])), draw(st.integers(1, 12))
    layers = [f"Embedding({draw(st.integers(1, 50))}, {width})"]
    for _ in range(draw(st.integers(1, 3))):
        norm_first = draw(st.booleans())
        layers.append(
            draw(
                st.sampled_from(
                    [
                        f"TransformerEncoderLayer({width}, 2, {2 * width}, batch_first=True, norm_first={norm_first})",
                        f"Residual(Linear({width}, {width}))",
                        f"LayerNorm({width})",
                        "GELU()",
                    ]
                )
            )
        )
    return [*layers, "Mean()", f"Linear({width}, {_CLASSES})"], (length,)


OPTIMIZERS = (
    "SGD(lr=0.01)", "SGD(lr=0.01, momentum=0.9)", "SGD(lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1)",
    "Adam(lr=0.01)", "AdamW(lr=0.01, amsgrad=True)", "Adam(lr=0.01, weight_decay=0.1, foreach=True)",
    "AdamW(lr=0.01, fused=True)", "RMSprop(lr=0.01, centered=True, momentum=0.5)", "Adagrad(lr=0.01)",
    "Adadelta(lr=0.01)", "Adamax(lr=0.01)", "RAdam(lr=0.01)", "NAdam(lr=0.01)", "Adafactor(lr=0.01)",
    "Rprop(lr=0.01)", "ASGD(lr=0.01)",
)  # fmt: skip
LOSSES = (
    "CrossEntropyLoss()", "CrossEntropyLoss(label_smoothing=0.1)", "MSELoss()", "L1Loss(reduction='sum')",
    "SmoothL1Loss()", "BCEWithLogitsLoss()", "HuberLoss()",
)  # fmt: skip


@st.composite
def trainings(draw: st.DrawFn) -> Training:
    layers, shape = draw(st.sampled_from([vectors, images, words]))(draw)
    dtype = draw(st.sampled_from(["float32", "float32", "float64", "bfloat16"]))
    return Training(
        layers=tuple(layers),
        shape=shape,
        dtype=dtype,
        frozen=draw(st.frozensets(st.integers(0, len(layers) - 2), max_size=2)),  # the last layer is trained
        loss=draw(st.sampled_from(LOSSES)),
        optimizer=draw(st.sampled_from(OPTIMIZERS)),
        # On a CPU, normalizations under autocast keep statistics in the dtype of their weights, on a GPU they are cast.
        autocast=dtype == "float32" and not any("Norm" in layer for layer in layers) and draw(st.booleans()),
        options=tuple(
            sorted(draw(st.sets(st.sampled_from(["zero grad", "accumulate", "clip", "average"]), max_size=2)))
        ),
        n=draw(st.integers(2, 6)),
    )


def _never(*_: object) -> bool:
    """Return False; a Mock would keep its arguments alive."""
    return False


def check(training: Training) -> None:
    """Compare the peaks of a real step and of its prediction, phase by phase."""
    simulated = training.simulated()
    torch.manual_seed(0)
    try:
        measured, measured_peaks = real(
            lambda: (
                simulated.workload(simulated.build_model(), CPU),
                simulated.make_batch(training.n, CPU, torch.float32),
            )
        )
    except (RuntimeError, ValueError, NotImplementedError):  # a kernel that the CPU lacks, or one value per channel
        OUTCOMES["does not run"] += 1
        assume(False)
    try:
        with mock.patch(OUT_OF_PLACE, _never):
            predicted, predicted_peaks = fake(simulated, training.n)
    except UnsupportedError as refusal:
        OUTCOMES[f"refused: {refusal.message}"] += 1
        return
    OUTCOMES["compared"] += 1
    assert predicted_peaks == measured_peaks
    assert (predicted.peak_bytes, predicted.peak_phase) == (measured.peak_bytes, measured.peak_phase)


def soak(examples: int) -> None:
    """Check as many random trainings, and print how many were compared or refused."""
    random.seed()
    profile = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        profile(given(trainings())(check))()
    sys.stdout.write("".join(f"{count:6,}  {outcome}\n" for outcome, count in OUTCOMES.most_common()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    soak(int(sys.argv[1]))
