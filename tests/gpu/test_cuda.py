"""The promises of real trials, on a CUDA (or ROCm) device or the virtual GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import vram
from tests.gpu.conftest import Driver
from vram_cli.commands.breakdown import breakdown
from vram_cli.commands.calibrate import MOST_CONTEXT
from vram_cli.commands.find_batch import find_batch
from vram_cli.config import Config, load_config
from vram_cli.probe import WorkerProbe
from vram_cli.records import Category, Detail, FindBatchResult, Limit, Outcome, Phase
from vram_cli.units import GIB, MIB

pytestmark = pytest.mark.gpu

LIMIT = 3 * GIB
"""A large GPU cut down to its context and a few hundred samples."""


def config(name: str, *overrides: str) -> Config:
    return load_config(name, ["device.name=cuda", "data.source=synthetic", *overrides])


@pytest.fixture(scope="module")
def small() -> FindBatchResult:
    return find_batch(config("resnet18_cifar10.yaml", "device.memory_limit=3GiB", "search.limit_to_dataset=false"))


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
    assert small.run.device.capacity_bytes == LIMIT
    assert small.breakdown is not None
    assert 50 * MIB < small.breakdown.bytes_of(Category.CONTEXT) <= MOST_CONTEXT
    assert small.breakdown.bytes_of(Category.FREE) >= 0
    reserved = max(trial.peak_reserved_bytes for trial in small.trials if trial.fits)
    assert reserved + small.breakdown.bytes_of(Category.CONTEXT) <= LIMIT


def test_the_recommended_size_leaves_the_margin_and_did_not_thrash(small: FindBatchResult) -> None:
    size = small.recommended_batch_size
    assert size is not None
    assert size % 8 == 0
    trial = next(trial for trial in small.trials if trial.batch_size == size and trial.fits)
    assert trial.allocator_retries == 0


def test_rows_add_up_to_the_drivers_figure(driver: Driver) -> None:
    result = breakdown(config("resnet18_cifar10.yaml"), batch_size=256)
    assert result.run.device.kind == "real"
    assert result.run.device.name == driver.name
    assert result.breakdown is not None
    assert result.breakdown.total_bytes == driver.memory_bytes == sum(row.bytes for row in result.breakdown.rows)
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
    assert max(trial.peak_allocated_bytes for trial in small.trials if trial.fits) / 2 < failed <= LIMIT


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
    assert [peak.phase for peak in measured.peaks] == [phase for phase in Phase if phase is not Phase.VALIDATION]
    assert all(0 < peak.allocated_bytes <= peak.reserved_bytes for peak in measured.peaks)
    assert measured.resident_bytes >= 2 * 4 * 11_181_642


@pytest.mark.parametrize(
    ("precision", "optimizer", "states"),
    [
        ("fp32", "sgd, momentum: 0.9", 1),
        ("tf32", "adam, fused: true", 2),
        ("amp-bf16", "adamw, foreach: true", 2),
        ("amp-fp16", "rmsprop", 1),
        ("bf16", "adagrad", 1),
    ],
)
def test_every_precision_and_optimizer_runs_and_makes_the_optimizers_state(
    precision: str, optimizer: str, states: int
) -> None:
    settings = config("resnet18_cifar10.yaml", f"precision={precision}", f"optimizer={{name: {optimizer}}}")
    result = breakdown(settings, batch_size=64)
    assert result.measurement.steps == 3
    assert result.breakdown is not None
    width = 2 if precision == "bf16" else 4
    num_counters = 62  # some optimizers count their steps on the GPU, for each tensor of parameters
    extra = result.breakdown.bytes_of(Category.OPTIMIZER_STATE) - states * width * 11_181_642
    assert extra in (0, 4 * num_counters)


def test_memory_in_which_cudnn_searched_for_its_plans_is_not_the_trainings() -> None:
    """The search may take all that is free on the GPU; the steps after it take what they take without."""
    off, on = (
        breakdown(config("resnet18_cifar10.yaml", f"device.cudnn_benchmark={value}"), batch_size=512).measurement
        for value in ("false", "true")
    )
    assert on.fits
    assert on.allocator_retries == 0
    assert on.peak_reserved_bytes < 2 * off.peak_reserved_bytes


@pytest.mark.silicon("every process has a virtual GPU of its own")
def test_other_processes_on_the_gpu_are_named_and_left_out_of_a_limit() -> None:
    script = "import torch; x = torch.empty(2**30, device='cuda'); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hog:
        try:
            assert hog.stdout is not None
            assert hog.stdout.readline() == b"ready\n"
            whole = breakdown(config("mlp_mnist.yaml"), batch_size=64)
            assert whole.breakdown is not None
            assert whole.breakdown.bytes_of(Category.CONTEXT) > 4 * GIB
            if whole.run.device.other_processes:  # a virtual machine lists none
                limited = breakdown(config("mlp_mnist.yaml", "device.memory_limit=3GiB"), batch_size=64)
                assert limited.breakdown is not None
                assert limited.breakdown.bytes_of(Category.CONTEXT) <= MOST_CONTEXT
        finally:
            hog.kill()


def test_a_limit_below_the_context_does_not_fit(tmp_path: Path) -> None:
    answer = vram("find-batch", "--device", "cuda", "--memory-limit", "16MiB", "--quiet", folder=tmp_path)
    assert answer.code == 4
    assert "Traceback" not in answer.stderr


def test_a_device_beyond_the_last_is_told(driver: Driver, tmp_path: Path) -> None:
    answer = vram("breakdown", "--device", f"cuda:{driver.count}", folder=tmp_path)
    assert answer.code == 3
    assert f"there is no cuda:{driver.count}: PyTorch finds {driver.count} cuda device" in answer.stderr


def test_the_command_of_the_ci_job(tmp_path: Path) -> None:
    answer = vram("find-batch", "--config", "mlp_mnist.yaml", "--json", folder=tmp_path)
    assert answer.code == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert result["run"]["device"]["kind"] == "real"
    assert result["run"]["device"]["type"].startswith("cuda")
    assert result["max_batch_size"] == 60_000
    assert result["limited_by"] == "dataset"
    assert result["breakdown"]["total_bytes"] == result["run"]["device"]["capacity_bytes"] > 256 * MIB
