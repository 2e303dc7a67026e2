"""Every option of a training, on fake and on real CPU tensors: byte for byte the same in every phase."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from tests.workload.configs import HERE, config
from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.allocator.allocation_trace import AllocationTrace
from vram_cli.config import Config, with_overrides
from vram_cli.fake_tensors import Simulation, UnsupportedError
from vram_cli.fake_tensors.simulated_training import subject_of
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Category, Phase
from vram_cli.workload import Batch, Workload, build_workload, channels_last, open_data, parameter_dtype

CPU = torch.device("cpu")
N = 4
Peaks = dict[Phase, int]

TRAININGS = {
    "conv net": {
        "model": {"factory": "tests.fake_tensors.nets:ConvNet"},
        "data": {"name": "synthetic", "shape": [3, 8, 8], "classes": 10},
    },
    "transformer": {
        "model": {"factory": "tests.fake_tensors.nets:Transformer", "kwargs": {"dropout": 0.1}},
        "data": {
            "inputs": {
                "words": {"shape": [12], "dtype": "int64", "high": 50},
                "labels": {"shape": [12], "dtype": "int64", "high": 50},
            }
        },
    },
}
OPTIONS = {
    "plain": [],
    "checkpointing full": ["train.activation_checkpointing=full"],
    "checkpointing every second": ["train.activation_checkpointing=every-2"],
    "checkpointing by a pattern": ['train.activation_checkpointing="*s.[12]"'],
    "gradient_accumulation_steps": ["train.gradient_accumulation_steps=4"],
    "channels_last": ["train.channels_last=true"],
    "freeze": ['train.freeze=["*s.0.*", "*.bias"]'],
    "ema": ["train.ema=true"],
    "clip_grad_norm": ["train.clip_grad_norm=1"],
    "optimizer_in_backward": ["train.optimizer_in_backward=true"],
    "zero_grad zero": ["train.zero_grad_set_to_none=false"],
    "own step": ["step=tests.fake_tensors.nets:step"],
    "bf16": ["precision=bf16"],
    "all that goes together": [
        "train={activation_checkpointing: every-2, gradient_accumulation_steps: 2, channels_last: true, ema: true}",
        "train.clip_grad_norm=1",
    ],
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are not worth waking others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config_of(training: str, option: str) -> Config:
    plain = Config.model_validate({**TRAININGS[training], "optimizer": {"name": "adamw"}})
    return with_overrides(plain, OPTIONS[option])


def noting(
    step: Callable[..., torch.Tensor], ledger: Callable[[], StorageTracker], peaks: Peaks
) -> Callable[..., None]:
    """Run a step, and note the most that is alive in each of its phases."""

    def run(work: Workload, batch: Batch, enter: Callable[[Phase], None]) -> None:
        phase = Phase.BATCH

        def noted(new: Phase) -> None:
            nonlocal phase
            peaks[phase] = max(ledger().phase_peak_bytes, peaks.get(phase, 0))
            phase = new
            enter(new)

        peaks.clear()
        step(work, batch, noted)
        noted(Phase.BATCH)

    return run


def real(config: Config) -> tuple[StorageTracker, Peaks]:
    """Two real steps; the ledger, and the most alive in each phase of the second."""
    ledger, peaks = StorageTracker(CPU), {}
    with ledger:
        work = build_workload(config, CPU)
        batch = open_data(config).make_batch(N, CPU, parameter_dtype(config))
        batch = channels_last(batch) if config.train.channels_last else batch
        step = noting(work.step, lambda: ledger, peaks)
        for _ in range(2):
            ledger.reset_peak()
            step(work, batch, ledger.enter)
    return ledger, peaks


def fake(config: Config) -> tuple[StorageTracker, Peaks]:
    peaks: Peaks = {}

    def ledger() -> StorageTracker:
        return next(mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, StorageTracker))

    def observed(model: nn.Module, device: torch.device) -> Workload:
        work = subject.workload(model, device)
        return replace(work, step=noting(work.step, ledger, peaks))

    subject = subject_of(config)[0]
    return Simulation(replace(subject, workload=observed), find_gpu("t4"), fused_attention=False, device=CPU).record(
        N
    ), peaks


@cache
def fake_as_watched(training: str, option: str) -> tuple[StorageTracker, Peaks]:
    """Predict a step that a ledger watches.

    A ledger on real tensors makes PyTorch add gradients out of place: the Python objects it asks for hold references.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vram_cli.fake_tensors.autograd_engine._is_ours", lambda *_: False)
        return fake(config_of(training, option))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("training", TRAININGS)
def test_live_bytes_agree_in_every_phase(training: str, option: str) -> None:
    seen, seen_peaks = real(config_of(training, option))
    predicted, predicted_peaks = fake_as_watched(training, option)
    assert predicted_peaks == seen_peaks
    assert set(seen_peaks) >= {Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER}
    assert (predicted.peak_bytes, predicted.peak_phase) == (seen.peak_bytes, seen.peak_phase)


def test_a_criterion_with_tensors_of_its_own_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vram_cli.fake_tensors.autograd_engine._is_ours", lambda *_: False)
    trained = config(loss={"factory": HERE + "Perceptual", "kwargs": {"width": 100}})
    assert fake(trained)[1] == real(trained)[1]
    at_peak = Simulation(subject_of(trained)[0], find_gpu("t4")).record(N).bytes_at_peak()
    # Two layers of 4 to 2 and of 2 to 100 with their biases, and 100 scales.
    assert at_peak[Category.PARAMETERS] == 4 * (4 * 2 + 2 + 2 * 100 + 100 + 100)


@pytest.mark.parametrize("training", TRAININGS)
def test_options_change_the_memory_that_they_speak_of(training: str) -> None:
    def peaks(option: str) -> Peaks:
        return fake_as_watched(training, option)[1]

    work = build_workload(config_of(training, "plain"), CPU)
    weights = sum(4 * parameter.numel() for parameter in work.model.parameters())
    plain, forward = (
        peaks("plain"),
        {option: peaks(option)[Phase.FORWARD] for option in OPTIONS if "bf16" not in option},
    )
    assert forward["checkpointing full"] < forward["checkpointing every second"] < forward["plain"]
    assert forward["checkpointing full"] < forward["checkpointing by a pattern"] < forward["plain"]
    assert forward["zero_grad zero"] >= forward["plain"] + weights  # gradients
    assert forward["gradient_accumulation_steps"] >= forward["plain"] + weights  # gradients
    assert forward["ema"] >= forward["plain"] + weights  # the average
    assert forward["freeze"] < forward["plain"]
    assert peaks("optimizer_in_backward")[Phase.OPTIMIZER] <= plain[Phase.OPTIMIZER] - weights


def on_a_card(training: str, *overrides: str) -> AllocationTrace:
    config = with_overrides(config_of(training, "plain"), overrides)
    return Simulation(subject_of(config)[0], find_gpu("a100-80gb")).tape(N)


@pytest.mark.parametrize("precision", ["fp32", "amp-fp16", "bf16"])
@pytest.mark.parametrize("training", TRAININGS)
def test_checkpointed_dropout_is_run_twice_on_a_card(training: str, precision: str) -> None:
    """Checkpointing keeps the state of the card's random numbers, and there is no card to ask."""

    def masks(how: str) -> int:
        tape = on_a_card(
            training, "model.kwargs.dropout=0.1", f"train.activation_checkpointing={how}", f"precision={precision}"
        )
        made = [tape.storages[action] for action in tape.steps[-1] if not isinstance(action, Phase) and action >= 0]
        return sum(storage.op == "aten.native_dropout" for storage in made)

    assert masks("full") == 2 * masks("none") > 0


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("training", TRAININGS)
def test_every_option_runs_on_a_card(training: str, option: str) -> None:
    refuses_amp = option in ("optimizer_in_backward", "own step", "bf16")
    tape = on_a_card(training, *([] if refuses_amp else ["precision=amp-fp16"]), *OPTIONS[option])
    phases = [action for action in tape.steps[-1] if isinstance(action, Phase)]
    assert set(phases) == {Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER}
    assert phases.count(Phase.FORWARD) == (2 if "gradient_accumulation" in " ".join(OPTIONS[option]) else 1)


@pytest.mark.parametrize("optimizer", ["adamw", "{name: adamw, fused: true}"])
def test_a_step_of_ones_own_may_scale_gradients(optimizer: str) -> None:
    """A scaler reads whether gradients are infinite before the optimizer's phase begins."""
    key = "optimizer" if "{" in optimizer else "optimizer.name"
    tape = on_a_card("conv net", f"{key}={optimizer}", "step=tests.fake_tensors.nets:scaled_step")
    casts = [storage for storage in tape.storages if storage.op == "aten._to_copy"]
    assert any(storage.module.startswith("blocks") for storage in casts)


def test_a_step_that_reads_its_loss_is_refused_and_no_module_is_blamed() -> None:
    with pytest.raises(UnsupportedError, match=r"_local_scalar_dense\) cannot be predicted") as caught:
        on_a_card("conv net", "step=tests.fake_tensors.nets:logging_step")
    assert caught.value.hint.startswith("leave it out where it is for a log; else run real trials")
    real(with_overrides(config_of("conv net", "plain"), ["step=tests.fake_tensors.nets:logging_step"]))


def test_what_a_step_makes_after_its_backward_pass_belongs_to_no_module() -> None:
    config = config_of("conv net", "own step")
    recorder = Simulation(subject_of(config)[0], find_gpu("t4")).record(N)
    norms = {life.module for life in recorder.lives if life.op == "aten._foreach_norm"}
    assert norms == {""}
    ledger = StorageTracker(CPU)
    work, batch = build_workload(config, CPU), open_data(config).make_batch(N, CPU, torch.float32)
    ledger.modules = ModuleTracker(work.model)
    with ledger.modules.followed(), ledger:
        work.step(work, batch, ledger.enter)
    after = [life for life in ledger.lives if life.phase is Phase.BACKWARD and life.bytes == 4][-3:]
    assert {life.module for life in after} == {""}  # the norm of the gradients, and what they are clipped by
