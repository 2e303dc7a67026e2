"""The promises of real trials, on a CUDA (or ROCm) device. Run with `make gpu-test`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import vram
from vram_cli.commands.breakdown import breakdown
from vram_cli.commands.find_batch import find_batch
from vram_cli.config import Config, load_config
from vram_cli.probe import WorkerProbe
from vram_cli.records import Category, Detail, FindBatchResult, Limit, Outcome, Phase
from vram_cli.units import GIB, MIB

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.gpu]

CONTEXT_AT_MOST = 3 * GIB


def config(name: str, *overrides: str) -> Config:
    return load_config(name, ["device.name=cuda", "data.source=synthetic", *overrides])


@pytest.fixture(scope="module")
def small() -> FindBatchResult:
    """A search on a GPU cut down to 2 GiB."""
    return find_batch(config("resnet18_cifar10.yaml", "device.memory_limit=2GiB", "search.limit_to_dataset=false"))


@pytest.fixture(scope="module")
def probe() -> Iterator[WorkerProbe]:
    with WorkerProbe(config("resnet18_cifar10.yaml", "device.memory_limit=4GiB")) as opened:
        yield opened


def test_the_certificate_is_a_size_that_ran_and_the_next_that_did_not(small: FindBatchResult) -> None:
    assert small.limited_by is Limit.MEMORY
    certificate = small.certificate
    assert certificate is not None
    assert certificate.smallest_failed == certificate.largest_ok + 1
    assert certificate.outcome is Outcome.OUT_OF_MEMORY
    assert certificate.phase in (Phase.FORWARD, Phase.BACKWARD)
    assert "out of memory" in certificate.message
    assert len(small.trials) <= 40


def test_memory_limit_includes_the_context(small: FindBatchResult) -> None:
    assert small.run.device.capacity_bytes == 2 * GIB
    assert small.breakdown is not None
    assert 0 < small.breakdown.bytes_of(Category.CONTEXT) < CONTEXT_AT_MOST
    assert small.breakdown.bytes_of(Category.FREE) >= 0
    reserved = max(trial.peak_reserved_bytes for trial in small.trials if trial.fits)
    assert reserved + small.breakdown.bytes_of(Category.CONTEXT) <= 2 * GIB


def test_the_recommended_size_leaves_the_margin_and_did_not_thrash(small: FindBatchResult) -> None:
    size = small.recommended_batch_size
    assert size is not None
    assert size % 8 == 0
    trial = next(trial for trial in small.trials if trial.batch_size == size and trial.fits)
    assert trial.allocator_retries == 0


def test_rows_add_up_to_the_drivers_figure() -> None:
    result = breakdown(config("resnet18_cifar10.yaml"), batch_size=256)
    total = torch.cuda.mem_get_info(0)[1]
    assert result.breakdown is not None
    assert result.breakdown.total_bytes == total == sum(row.bytes for row in result.breakdown.rows)
    assert all(row.bytes >= 0 for row in result.breakdown.rows)
    parameters = 4 * 11_181_642
    # Buffers of batch norm: two floats a channel and a counter of 8 bytes for each of 20 layers, 4,800 channels.
    assert result.breakdown.bytes_of(Category.PARAMETERS) == parameters + 2 * 4 * 4800 + 20 * 8
    assert result.breakdown.bytes_of(Category.OPTIMIZER_STATE) == parameters
    assert result.breakdown.bytes_of(Category.BATCH_DATA) == 256 * (3 * 32 * 32 * 4 + 8)


def test_the_ledger_on_the_last_step_leaves_the_peak_as_it_is(probe: WorkerProbe) -> None:
    plain, explained = probe.measure(512), probe.measure(512, Detail.ROWS)
    assert explained.peak_allocated_bytes == plain.peak_allocated_bytes
    assert explained.breakdown is not None
    ours = sum(
        explained.breakdown.bytes_of(category)
        for category in Category
        if category not in (Category.ALLOCATOR_SLACK, Category.CONTEXT, Category.FREE)
    )
    # Requested bytes are allocated bytes before they are rounded up to blocks.
    assert 0.9 * plain.peak_allocated_bytes < ours <= plain.peak_allocated_bytes


def test_the_size_that_failed_says_what_it_held(small: FindBatchResult) -> None:
    assert small.certificate is not None
    (failed,) = {trial.held_bytes for trial in small.trials if trial.batch_size == small.certificate.smallest_failed}
    assert failed is not None
    assert max(trial.peak_allocated_bytes for trial in small.trials if trial.fits) / 2 < failed <= 2 * GIB


def test_the_same_process_goes_on_after_running_out_of_memory(probe: WorkerProbe) -> None:
    before, pid = probe.measure(128), probe.pid
    failed = probe.measure(1_000_000)
    after = probe.measure(128)
    assert failed.outcome is Outcome.OUT_OF_MEMORY
    assert failed.requested_bytes is not None
    assert failed.held_bytes is not None
    assert failed.held_bytes + failed.requested_bytes > failed.peak_allocated_bytes
    assert (after.outcome, probe.pid) == (Outcome.FITS, pid)
    assert after.peak_allocated_bytes == before.peak_allocated_bytes


def test_phases_and_peaks_are_those_of_pytorchs_counters(probe: WorkerProbe) -> None:
    measured = probe.measure(256)
    assert [peak.phase for peak in measured.peaks] == list(Phase)
    assert all(0 < peak.allocated_bytes <= peak.reserved_bytes for peak in measured.peaks)
    assert measured.resident_bytes >= 2 * 4 * 11_181_642


@pytest.mark.parametrize("precision", ["fp32", "tf32", "amp-bf16", "amp-fp16", "bf16"])
def test_every_precision_runs_and_makes_the_optimizers_state(precision: str) -> None:
    result = breakdown(config("resnet18_cifar10.yaml", f"precision={precision}"), batch_size=64)
    assert result.breakdown is not None
    width = 2 if precision == "bf16" else 4
    assert result.breakdown.bytes_of(Category.OPTIMIZER_STATE) == width * 11_181_642


@pytest.mark.parametrize("optimizer", ["adam, fused: true", "adamw, foreach: true", "rmsprop", "adagrad", "sgd"])
def test_every_optimizer_runs(optimizer: str) -> None:
    result = breakdown(config("cnn_cifar10.yaml", f"optimizer={{name: {optimizer}}}"), batch_size=64)
    assert result.breakdown is not None
    assert result.measurement.steps == 3


def test_memory_in_which_cudnn_searched_for_its_plans_is_not_the_trainings() -> None:
    """The search may take all that is free on the GPU; the steps after it take what they take without."""
    off, on = (
        breakdown(config("resnet18_cifar10.yaml", f"device.cudnn_benchmark={value}"), batch_size=512).measurement
        for value in ("false", "true")
    )
    assert on.fits
    assert on.allocator_retries == 0
    assert on.peak_reserved_bytes < 2 * off.peak_reserved_bytes


def test_other_processes_on_the_card_are_named_and_left_out_of_a_budget() -> None:
    hog = subprocess.Popen(
        ["python3", "-c", "import torch, sys; x = torch.empty(2**30, device='cuda'); print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert hog.stdout is not None
        hog.stdout.readline()
        whole = breakdown(config("mlp_mnist.yaml"), batch_size=64)
        assert whole.breakdown is not None
        assert whole.breakdown.bytes_of(Category.CONTEXT) > 4 * GIB
        if whole.run.device.other_processes:
            cut = breakdown(config("mlp_mnist.yaml", "device.memory_limit=4GiB"), batch_size=64)
            assert cut.breakdown is not None
            assert cut.breakdown.bytes_of(Category.CONTEXT) < CONTEXT_AT_MOST
    finally:
        hog.kill()
        hog.wait()


def test_a_budget_below_the_context_is_told_as_not_fitting(tmp_path: Path) -> None:
    answer = vram("find-batch", "--device", "cuda", "--memory-limit", "16MiB", "--quiet", folder=tmp_path)
    assert answer.code == 4
    assert "Traceback" not in answer.stderr


def test_a_device_beyond_the_last_is_told(tmp_path: Path) -> None:
    answer = vram("breakdown", "--device", f"cuda:{torch.cuda.device_count()}", folder=tmp_path)
    assert answer.code == 3
    assert "sees" in answer.stderr


def test_the_command_of_the_ci_job(tmp_path: Path) -> None:
    answer = vram("find-batch", "--config", "mlp_mnist.yaml", "--json", folder=tmp_path)
    assert answer.code == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert result["run"]["device"]["type"].startswith("cuda")
    assert result["max_batch_size"] == 60_000
    assert result["limited_by"] == "dataset"
    assert result["breakdown"]["total_bytes"] == result["run"]["device"]["capacity_bytes"] > 256 * MIB
