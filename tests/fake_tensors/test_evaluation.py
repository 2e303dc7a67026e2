"""Evaluation: the same bytes on fakes and on the CPU, far fewer than in training, and no layer's output kept."""

from __future__ import annotations

import pytest
import torch

from tests.fake_tensors.test_training_options import TRAININGS, N, config_of, run_fake, run_real
from tests.workload.configs import config
from vram_cli.config import Config, load_config, with_overrides
from vram_cli.fake_tensors import FakeTensorProbe, Simulation, UnsupportedError
from vram_cli.fake_tensors.simulated_training import training_from_config
from vram_cli.hardware.gpus import find_gpu
from vram_cli.probe.devices.open_monitor import open_monitor
from vram_cli.probe.worker.memory_trial import MemoryTrial
from vram_cli.records import Category, Detail, Measurement, Phase
from vram_cli.workload import open_data

pytestmark = pytest.mark.slow

WORKLOADS = {
    "mlp": load_config("mlp_mnist", ["data.source=synthetic"]),
    "cnn": load_config("cnn_cifar10", ["data.source=synthetic"]),
    **{name: config_of(name, "plain") for name in TRAININGS},
}
CHAIN = {
    "model": {"factory": "tests.workload.usercode:chain", "kwargs": {"layers": 8}},
    "data": {"inputs": {"x": {"shape": [1000]}}, "targets": {"shape": [], "dtype": "int64", "high": 1000}},
}


def evaluation(training: Config, *overrides: str) -> Config:
    return with_overrides(training, ["mode=eval", *overrides])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "amp-bf16"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_live_bytes_agree_in_every_phase(name: str, precision: str) -> None:
    settings = evaluation(WORKLOADS[name], f"precision={precision}")
    run_real(settings)  # the first step of a process imports modules that keep tensors of their own
    (expected, expected_peaks), (predicted, predicted_peaks) = run_real(settings), run_fake(settings)
    assert predicted_peaks == expected_peaks
    assert set(expected_peaks) == {Phase.BATCH, Phase.FORWARD}
    assert (predicted.peak_bytes, predicted.peak_phase) == (expected.peak_bytes, Phase.FORWARD)


def trial(settings: Config, size: int = N) -> Measurement:
    monitor = open_monitor("cpu", None)
    measurement, _ = MemoryTrial(monitor, lambda _: None, Detail.ROWS).run(settings, open_data(settings), size, 2)
    assert measurement.fits, measurement.traceback
    return measurement


@pytest.mark.parametrize("name", WORKLOADS)
def test_real_trials_have_no_gradients_and_no_optimizer(name: str) -> None:
    training, evaluated = trial(WORKLOADS[name], 64), trial(evaluation(WORKLOADS[name]), 64)
    assert [peak.phase for peak in evaluated.peaks] == [Phase.BUILD, Phase.BATCH, Phase.FORWARD]
    rows = {row.category: row.bytes for row in evaluated.breakdown.rows}
    assert rows[Category.GRADIENTS] == rows[Category.OPTIMIZER_STATE] == 0
    assert evaluated.peak_allocated_bytes < 0.8 * training.peak_allocated_bytes


def test_outputs_are_freed_before_the_next_but_one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight layers of 1000 x 1000: at most the outputs of two neighbours, the input being part of the batch."""
    n, outputs = 512, 512 * 1000 * 4
    monkeypatch.setattr("tests.fake_tensors.test_training_options.N", n)
    training = Config.model_validate({**CHAIN, "optimizer": {"name": "sgd"}})
    fixed = 8 * 1000 * 1000 * 4 + outputs + n * 8  # weights and batch
    evaluated_peak, training_peak = (
        run_real(settings)[1][Phase.FORWARD] for settings in (evaluation(training), training)
    )
    assert evaluated_peak <= fixed + 2 * outputs + n * 8 + 4
    assert training_peak >= fixed + 8 * outputs


@pytest.mark.parametrize("name", WORKLOADS)
def test_predictions_for_a_gpu_need_less_than_training(name: str) -> None:
    def peak(settings: Config) -> int:
        measurement = FakeTensorProbe(settings, find_gpu("t4")).measure(256)
        assert measurement.fits
        return measurement.peak_allocated_bytes

    assert peak(evaluation(WORKLOADS[name])) < 0.9 * peak(WORKLOADS[name])


def test_predictions_have_a_breakdown_by_module() -> None:
    probe = FakeTensorProbe(evaluation(WORKLOADS["cnn"]), find_gpu("t4"))
    measurement = probe.measure(64, detail=True)
    assert measurement.breakdown is not None
    assert measurement.breakdown.modules
    assert [peak.phase for peak in measurement.peaks] == [Phase.BUILD, Phase.BATCH, Phase.FORWARD]


def test_attention_takes_the_fused_kernel_of_the_gpu() -> None:
    """In inference mode attention arrives whole: it must not fall back to the formula with a matrix of scores."""
    settings = evaluation(WORKLOADS["transformer"], "precision=bf16")
    operations = {
        record.op for record in Simulation(training_from_config(settings)[0], find_gpu("a100-80gb")).run(N).records
    }
    assert "aten._scaled_dot_product_flash_attention" in operations
    assert "aten._softmax" not in operations
    assert {"aten.addmm", "aten.native_layer_norm"} <= operations  # parts, where the workspaces' rules look


def test_fused_layers_of_evaluation_are_refused_by_name() -> None:
    model = {"factory": "tests.workload.usercode:encoder_layer"}
    data = {"inputs": {"x": {"shape": [12, 16]}}, "targets": {"shape": [16], "dtype": "int64", "high": 12}}
    settings = config(model=model, data=data)
    assert Simulation(training_from_config(settings)[0], find_gpu("t4")).run(N).peak_bytes > 0
    with pytest.raises(UnsupportedError, match="_transformer_encoder_layer_fwd") as caught:
        Simulation(training_from_config(evaluation(settings))[0], find_gpu("t4")).run(N)
    assert "set_fastpath_enabled(False)" in caught.value.hint


def test_optimizers_of_a_gpu_do_not_matter() -> None:
    settings = evaluation(config(optimizer={"name": "adamw8bit"}))
    assert (
        Simulation(training_from_config(settings)[0], find_gpu("t4"), device=torch.device("cpu")).run(N).peak_bytes > 0
    )
