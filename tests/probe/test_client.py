"""Real trials in a real worker process, under a limit that Linux enforces."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import psutil
import pytest

from tests.probe.conftest import small_config
from vram_cli.errors import ConfigError, MachineError
from vram_cli.probe import WorkerProbe
from vram_cli.records import OF_ONE_RANK, Category, Detail, Outcome, Phase

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces RLIMIT_DATA")

MIB = 1024**2


def test_batch_that_fits_runs_all_steps_and_phases(probe: WorkerProbe) -> None:
    measured = probe.measure(1000)
    assert measured.outcome is Outcome.FITS
    assert measured.steps == 3
    assert [peak.phase for peak in measured.peaks] == [phase for phase in Phase if phase is not Phase.VALIDATION]
    assert measured.step_seconds is not None
    assert measured.seconds > measured.step_seconds > 0
    assert measured.phase is None
    assert measured.message == ""


def test_resident_memory_is_weights_and_momentum(probe: WorkerProbe) -> None:
    assert probe.measure(10).resident_bytes == 2 * 4 * 101_770


def test_batch_that_does_not_fit_has_the_allocator_error(probe: WorkerProbe) -> None:
    measured = probe.measure(30_000)  # 94 MB of images alone
    assert measured.outcome is Outcome.OUT_OF_MEMORY
    assert measured.phase is Phase.BATCH
    assert measured.requested_bytes == 30_000 * 784 * 4
    assert measured.held_bytes == 4 * 101_770  # the weights
    assert measured.shortfall_bytes(64 * MIB) == 30_000 * 784 * 4 + 4 * 101_770 - 64 * MIB
    assert "can't allocate memory" in measured.message
    assert "make_batch" in measured.traceback
    assert measured.steps == 0


def test_same_process_continues_after_out_of_memory(probe: WorkerProbe) -> None:
    pid = probe.pid
    before = probe.measure(1000)
    assert not probe.measure(50_000).fits
    after = probe.measure(1000)
    assert after.fits
    # Scratch of kernels is sampled, so a reading may miss a little of it.
    assert abs(after.peak_allocated_bytes - before.peak_allocated_bytes) < 4 * MIB
    assert probe.pid == pid


def test_held_bytes_are_those_at_the_failed_allocation(probe: WorkerProbe) -> None:
    """The bytes after the error was caught, and the peak of earlier steps, are both megabytes off."""
    measured = probe.measure(14_500)
    assert measured.phase is Phase.BACKWARD
    assert measured.held_bytes is not None
    assert measured.requested_bytes == 14_500 * 128 * 4  # the gradient of the hidden layer
    assert 0 < measured.held_bytes + measured.requested_bytes - 64 * MIB < 2 * MIB


def test_heap_keeps_little_memory_after_failures(probe: WorkerProbe) -> None:
    for size in (14_500, 16_000, 30_000):
        assert not probe.measure(size).fits
    measured = probe.measure(13_700, Detail.ROWS)
    assert measured.fits
    assert measured.peak_allocated_bytes > 0.96 * 64 * MIB
    assert measured.breakdown is not None
    assert measured.breakdown.bytes_of(Category.ALLOCATOR_SLACK) < 2 * MIB


def test_peaks_never_exceed_the_memory_limit(probe: WorkerProbe) -> None:
    for size in (1, 5_000, 12_000, 14_000, 15_000, 16_000):
        # The main thread's stack is counted as it grows, though not limited.
        assert probe.measure(size).peak_reserved_bytes <= 65 * MIB


def test_breakdown_agrees_with_arithmetic(probe: WorkerProbe) -> None:
    measured = probe.measure(8192, Detail.ROWS)
    breakdown = measured.breakdown
    assert breakdown is not None
    assert breakdown.total_bytes == 64 * MIB == sum(row.bytes for row in breakdown.rows)
    assert [row.category for row in breakdown.rows] == list(OF_ONE_RANK)
    assert breakdown.bytes_of(Category.PARAMETERS) == 4 * 101_770
    assert breakdown.bytes_of(Category.OPTIMIZER_STATE) == 4 * 101_770
    assert breakdown.bytes_of(Category.BATCH_DATA) == 8192 * (784 * 4 + 8)
    # ReLU saves its output for the backward pass, and the loss stays alive.
    assert breakdown.bytes_of(Category.ACTIVATIONS) == 8192 * 128 * 4 + 4
    # The last step reserves as much as earlier steps, except for scratch, which is sampled.
    assert 0 <= breakdown.bytes_of(Category.FREE) - (64 * MIB - measured.peak_reserved_bytes) < MIB
    assert all(row.bytes >= 0 for row in breakdown.rows)


def test_breakdown_by_module_and_phase(probe: WorkerProbe) -> None:
    breakdown = probe.measure(1000, Detail.MODULES).breakdown
    assert breakdown is not None
    assert breakdown.timeline is not None
    assert breakdown.modules[0].bytes == breakdown.tensor_bytes
    by_path = {share.path: share for share in breakdown.modules}
    assert by_path["1"].by_category[Category.PARAMETERS] == 4 * (784 * 128 + 128)
    assert {point.phase for point in breakdown.timeline.points} == {Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER}
    activations = sum(share.by_category.get(Category.ACTIVATIONS, 0) for share in breakdown.modules if share.path)
    assert activations > 0.9 * breakdown.bytes_of(Category.ACTIVATIONS)


def test_no_breakdown_by_default(probe: WorkerProbe) -> None:
    assert probe.measure(16).breakdown is None


def test_confirmation_has_a_breakdown(probe: WorkerProbe) -> None:
    measured = probe.confirm(64, Detail.ROWS)
    assert measured.fits
    assert measured.breakdown is not None


def test_killed_worker_is_replaced_with_the_same_capacity() -> None:
    with WorkerProbe(small_config("device={name: cpu}")) as probe:
        capacity, pid = probe.info.device.capacity_bytes, probe.pid
        assert 0 < capacity < psutil.virtual_memory().total
        os.kill(pid or 0, signal.SIGKILL)
        assert probe.measure(8).outcome is Outcome.KILLED  # noticed by the next trial
        measured = probe.measure(8, Detail.ROWS)
        assert measured.fits
        assert probe.pid != pid
        assert measured.breakdown is not None
        assert measured.breakdown.total_bytes == capacity


def test_phase_that_runs_out_of_memory() -> None:
    with WorkerProbe(small_config("model.hidden=40000")) as probe:  # 127 MB of weights
        assert failed_phase(probe, 1) is Phase.BUILD
    # 25 MB of weights, the same of gradients, twice that of optimizer state; 32 KB of activations per sample.
    with WorkerProbe(small_config("model.hidden=8000", "optimizer={name: adam}")) as probe:
        assert failed_phase(probe, 25_000) is Phase.BATCH
        assert failed_phase(probe, 1000) is Phase.FORWARD
        assert failed_phase(probe, 525) is Phase.BACKWARD
        assert failed_phase(probe, 1) is Phase.OPTIMIZER


def failed_phase(probe: WorkerProbe, size: int) -> Phase | None:
    measured = probe.measure(size)
    assert measured.outcome is Outcome.OUT_OF_MEMORY
    return measured.phase


def test_user_error_is_an_outcome_and_the_worker_ends() -> None:
    with WorkerProbe(
        small_config("data={name: synthetic, shape: [1, 2, 2], classes: 10}", "model={name: cnn}")
    ) as probe:
        pid, measured = probe.pid or 0, probe.measure(4)
        assert measured.outcome is Outcome.ERROR
        assert measured.phase is Phase.FORWARD
        assert "max_pool2d" in measured.traceback
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


def test_killed_trial_is_an_outcome() -> None:
    with WorkerProbe(small_config("search.steps=100000")) as probe:
        pid = probe.pid
        assert pid is not None
        threading.Timer(1.0, os.kill, (pid, signal.SIGKILL)).start()
        measured = probe.measure(128)
        assert measured.outcome is Outcome.KILLED
        assert measured.phase in (Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER)
        assert "SIGKILL" in measured.message


def test_trial_timeout_ends_the_worker() -> None:
    with WorkerProbe(small_config("search.steps=1000000")) as probe:
        pid = probe.pid
        probe._config = small_config("search.trial_timeout=1")  # not before: opening has this limit, too
        measured = probe.measure(128)
        assert measured.outcome is Outcome.TIMED_OUT
        assert measured.seconds < 10  # steps of a millisecond send phases continuously
        assert measured.phase is not None
        assert not psutil.pid_exists(pid or 0)


def test_deadline_stops_a_trial() -> None:
    with WorkerProbe(small_config("search.steps=1000000"), deadline=time.monotonic() + 3600) as probe:
        probe._deadline = time.monotonic() + 0.1
        assert probe.measure(128).outcome is Outcome.TIMED_OUT
        assert probe.measure(128).outcome is Outcome.TIMED_OUT  # a new worker has no time to start


def test_missing_device_fails_on_entry() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with (
        pytest.raises(MachineError, match=r"device\.name: PyTorch .* finds no cuda here") as caught,
        WorkerProbe(small_config("device={name: cuda}")),
    ):
        pass
    assert caught.value.exit_code == 3
    assert "--device cpu" in caught.value.hint


def test_missing_data_files_fail_on_entry(tmp_path: object) -> None:
    with (
        pytest.raises(ConfigError, match="no usable mnist files"),
        WorkerProbe(small_config("data.source=files", f"data.root={tmp_path}")),
    ):
        pass


def test_environment_and_random_state_of_the_caller_are_unchanged(probe: WorkerProbe) -> None:
    import random

    import torch

    environment, state, torch_state = dict(os.environ), random.getstate(), torch.get_rng_state()
    probe.measure(32)
    assert dict(os.environ) == environment
    assert random.getstate() == state
    assert torch.equal(torch.get_rng_state(), torch_state)
