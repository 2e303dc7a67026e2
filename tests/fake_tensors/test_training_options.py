"""Every training option on fake and on real CPU tensors: the same bytes in every phase."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch

from tests.fake_tensors.phase_peaks import CPU, OUT_OF_PLACE, Peaks, fake, real
from tests.workload.configs import HERE, config
from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.allocator.allocation_trace import AllocationTrace
from vram_cli.config import Config, with_overrides
from vram_cli.fake_tensors import Simulation, UnsupportedError
from vram_cli.fake_tensors.simulated_training import training_from_config
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Category, Phase
from vram_cli.workload import Batch, Workload, build_workload, channels_last, data_dtype, open_data

pytestmark = pytest.mark.slow

N = 4

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
    "checkpointing=full": ["train.activation_checkpointing=full"],
    "checkpointing=every-2": ["train.activation_checkpointing=every-2"],
    "checkpointing=pattern": ['train.activation_checkpointing="*s.[12]"'],
    "accumulation": ["train.gradient_accumulation_steps=4"],
    "channels_last": ["train.channels_last=true"],
    "freeze": ['train.freeze=["*s.0.*", "*.bias"]'],
    "ema": ["train.ema=true"],
    "clip_grad_norm": ["train.clip_grad_norm=1"],
    "optimizer_in_backward": ["train.optimizer_in_backward=true"],
    "zero_grad to zero": ["train.zero_grad_set_to_none=false"],
    "custom step": ["step=tests.fake_tensors.nets:step"],
    "bf16": ["precision=bf16"],
    "combined": [
        "train.activation_checkpointing=every-2",
        "train.gradient_accumulation_steps=2",
        "train.channels_last=true",
        "train.ema=true",
        "train.clip_grad_norm=1",
    ],
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread is faster for tensors this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config_of(training: str, option: str) -> Config:
    plain = Config.model_validate({**TRAININGS[training], "optimizer": {"name": "adamw"}})
    return with_overrides(plain, OPTIONS[option])


def run_real(config: Config) -> tuple[StorageTracker, Peaks]:
    def build() -> tuple[Workload, Batch]:
        work = build_workload(config, CPU)
        batch = open_data(config).make_batch(N, CPU, data_dtype(work.model))
        return work, channels_last(batch) if config.train.channels_last else batch

    return real(build)


def run_fake(config: Config) -> tuple[StorageTracker, Peaks]:
    return fake(training_from_config(config)[0], N)


@cache
def fake_out_of_place(training: str, option: str) -> tuple[StorageTracker, Peaks]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OUT_OF_PLACE, lambda *_: False)
        return run_fake(config_of(training, option))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("training", TRAININGS)
def test_peaks_agree_in_every_phase(training: str, option: str) -> None:
    measured, measured_peaks = run_real(config_of(training, option))
    predicted, predicted_peaks = fake_out_of_place(training, option)
    assert predicted_peaks == measured_peaks
    assert set(measured_peaks) >= {Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER}
    assert (predicted.peak_bytes, predicted.peak_phase) == (measured.peak_bytes, measured.peak_phase)


def test_tensors_of_the_criterion_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OUT_OF_PLACE, lambda *_: False)
    perceptual = config(loss={"factory": HERE + "Perceptual", "kwargs": {"width": 100}})
    assert run_fake(perceptual)[1] == run_real(perceptual)[1]
    bytes_at_peak = Simulation(training_from_config(perceptual)[0], find_gpu("t4")).run(N).bytes_at_peak()
    # Layers of 4 x 2 and 2 x 100 with their biases, and 100 scales.
    assert bytes_at_peak[Category.PARAMETERS] == 4 * (4 * 2 + 2 + 2 * 100 + 100 + 100)


@pytest.mark.parametrize("training", TRAININGS)
def test_options_change_memory_as_intended(training: str) -> None:
    def peaks(option: str) -> Peaks:
        return fake_out_of_place(training, option)[1]

    work = build_workload(config_of(training, "plain"), CPU)
    weights = sum(4 * parameter.numel() for parameter in work.model.parameters())
    forward = {option: peaks(option)[Phase.FORWARD] for option in OPTIONS if option != "bf16"}
    assert forward["checkpointing=full"] < forward["checkpointing=every-2"] < forward["plain"]
    assert forward["checkpointing=full"] < forward["checkpointing=pattern"] < forward["plain"]
    assert forward["zero_grad to zero"] >= forward["plain"] + weights  # gradients
    assert forward["accumulation"] >= forward["plain"] + weights  # gradients
    assert forward["ema"] >= forward["plain"] + weights  # the average
    assert forward["freeze"] < forward["plain"]
    assert peaks("optimizer_in_backward")[Phase.OPTIMIZER] <= peaks("plain")[Phase.OPTIMIZER] - weights


def trace_on_gpu(training: str, *overrides: str) -> AllocationTrace:
    config = with_overrides(config_of(training, "plain"), overrides)
    return Simulation(training_from_config(config)[0], find_gpu("a100-80gb")).trace(N)


@pytest.mark.parametrize("precision", ["fp32", "amp-fp16", "bf16"])
@pytest.mark.parametrize("training", TRAININGS)
def test_checkpointing_recomputes_dropout(training: str, precision: str) -> None:
    """Checkpointing saves the GPU's random state, which must work without a GPU."""

    def masks(blocks: str) -> int:
        trace = trace_on_gpu(
            training, "model.kwargs.dropout=0.1", f"train.activation_checkpointing={blocks}", f"precision={precision}"
        )
        allocated = [trace.storages[i] for i in trace.steps[-1] if not isinstance(i, Phase) and i >= 0]
        return sum(storage.op == "aten.native_dropout" for storage in allocated)

    assert masks("full") == 2 * masks("none") > 0


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("training", TRAININGS)
def test_every_option_runs_on_a_gpu(training: str, option: str) -> None:
    refuses_amp = option in ("optimizer_in_backward", "custom step", "bf16")
    trace = trace_on_gpu(training, *([] if refuses_amp else ["precision=amp-fp16"]), *OPTIONS[option])
    phases = [action for action in trace.steps[-1] if isinstance(action, Phase)]
    assert set(phases) == {Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER}
    runs_twice = option == "custom step" or "gradient_accumulation" in " ".join(OPTIONS[option])
    assert phases.count(Phase.FORWARD) == (2 if runs_twice else 1)


@pytest.mark.parametrize("optimizer", ["adamw", "{name: adamw, fused: true}"])
def test_custom_step_may_use_a_gradient_scaler(optimizer: str) -> None:
    """A scaler checks for infinite gradients before the optimizer phase begins."""
    key = "optimizer" if "{" in optimizer else "optimizer.name"
    trace = trace_on_gpu("conv net", f"{key}={optimizer}", "step=tests.fake_tensors.nets:scaled_step")
    casts = [storage for storage in trace.storages if storage.op == "aten._to_copy"]
    assert any(storage.module.startswith("blocks") for storage in casts)


def test_step_that_reads_its_loss_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"_local_scalar_dense\) cannot be predicted") as caught:
        trace_on_gpu("conv net", "step=tests.fake_tensors.nets:logging_step")
    assert caught.value.hint.startswith("if it is only for logging, remove it; otherwise run real trials")
    run_real(with_overrides(config_of("conv net", "plain"), ["step=tests.fake_tensors.nets:logging_step"]))


def test_tensors_after_the_backward_pass_belong_to_no_module() -> None:
    config = config_of("conv net", "custom step")
    recorder = Simulation(training_from_config(config)[0], find_gpu("t4")).run(N)
    norms = {record.module for record in recorder.records if record.op == "aten._foreach_norm"}
    assert norms == {""}
    tracker = StorageTracker(CPU)
    work, batch = build_workload(config, CPU), open_data(config).make_batch(N, CPU, torch.float32)
    tracker.modules = ModuleTracker(work.model)
    with tracker.modules.tracking(), tracker:
        work.step(work, batch, tracker.enter_phase)
    after = [record for record in tracker.records if record.phase is Phase.BACKWARD and record.bytes == 4][-3:]
    assert {record.module for record in after} == {""}  # the norm of the gradients and the clip factor
