"""Optimizers from a factory, predicted: the same bytes as on the CPU, or refused by name."""

from __future__ import annotations

import pytest
import torch

from tests.fake_tensors.test_training_options import CPU, OUT_OF_PLACE, N, Peaks, run_fake, run_real
from tests.workload.configs import HERE, config
from vram_cli.accounting.storage_labels import label_storages
from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.fake_tensors import Simulation, UnsupportedError
from vram_cli.fake_tensors.simulated_training import training_from_config
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Category
from vram_cli.workload import build_workload, open_data, train_step

WEIGHTS = 4 * (4 * 2 + 2)


@pytest.mark.parametrize("in_backward", [False, True])
def test_a_factory_takes_the_same_bytes_on_fakes(in_backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OUT_OF_PLACE, lambda *_: False)
    settings = config(optimizer={"factory": HERE + "SignDescent"}, train={"optimizer_in_backward": in_backward})
    run_real(settings)  # the first step of a process imports modules that keep tensors of their own
    (expected, expected_peaks), (predicted, predicted_peaks) = run_real(settings), run_fake(settings)
    assert predicted_peaks == expected_peaks
    assert predicted.peak_bytes == expected.peak_bytes
    assert predicted.bytes_at_peak()[Category.OPTIMIZER_STATE] == WEIGHTS


def test_a_factory_is_predicted_like_its_preset() -> None:
    def peaks(optimizer: dict[str, str]) -> Peaks:
        return run_fake(config(optimizer=optimizer))[1]

    assert peaks({"factory": "torch.optim:AdamW"}) == peaks({"name": "adamw"})


def test_state_in_tensor_subclasses_is_refused_by_name() -> None:
    settings = config(optimizer={"factory": HERE + "SubclassState"})
    with pytest.raises(UnsupportedError, match="optimizer SubclassState, whose state holds tensors of class Quantized"):
        Simulation(training_from_config(settings)[0], find_gpu("t4"), device=CPU).run(N)


def test_state_in_tensor_subclasses_counts_the_tensors_inside() -> None:
    settings = config(optimizer={"factory": HERE + "SubclassState"})
    tracker = StorageTracker(CPU)
    with tracker:
        work, batch = build_workload(settings, CPU), open_data(settings).make_batch(N, CPU, torch.float32)
        train_step(work, batch, tracker.enter_phase)
        label_storages(tracker, work, batch)
    state = sum(record.bytes for record in tracker.records if record.category is Category.OPTIMIZER_STATE)
    assert state == WEIGHTS + WEIGHTS // 4


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ({"name": "adamw8bit"}, "optimizer.name: adamw8bit"),
        ({"factory": "bitsandbytes.optim:AdamW8bit"}, "optimizer.factory: bitsandbytes.optim:AdamW8bit"),
    ],
)
def test_bitsandbytes_is_refused_by_name(optimizer: dict[str, str], words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        training_from_config(config(optimizer=optimizer))


def test_errors_of_a_factory_name_it_in_predictions() -> None:
    with pytest.raises(RuntimeError, match="no kernel for this step") as caught:
        Simulation(training_from_config(config(optimizer={"factory": HERE + "BrokenStep"}))[0], find_gpu("t4")).run(N)
    assert caught.value.vram_key == f"optimizer.factory ({HERE}BrokenStep)"
    assert torch.is_grad_enabled()


def test_failure_on_an_assumed_value_is_refused() -> None:
    """NAdam divides by 1 minus a product that it reads: real steps run, so the prediction is at fault."""
    settings = config(optimizer={"factory": "torch.optim:NAdam"})
    assert run_real(settings)[0].peak_bytes > 0
    with pytest.raises(UnsupportedError, match=r"optimizer that reads its own state \(.*ZeroDivisionError") as caught:
        Simulation(training_from_config(settings)[0], find_gpu("t4")).run(N)
    assert "--device cpu" in caught.value.hint
