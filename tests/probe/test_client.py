"""Real trials in a real child process, under a limit that Linux enforces: no mock anywhere."""

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
from vram_cli.records import Category, Detail, Outcome, Phase

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces RLIMIT_DATA")

MIB = 1024**2


def test_a_size_that_fits_ran_all_its_steps_through_all_phases(probe: WorkerProbe) -> None:
    measured = probe.measure(1000)
    assert measured.outcome is Outcome.FITS
    assert measured.steps == 3
    assert [peak.phase for peak in measured.peaks] == list(Phase)
    assert measured.step_seconds is not None
    assert measured.seconds > measured.step_seconds > 0
    assert measured.phase is None
    assert measured.message == ""


def test_resident_memory_is_weights_and_momentum(probe: WorkerProbe) -> None:
    assert probe.measure(10).resident_bytes == 2 * 4 * 101_770


def test_a_size_that_does_not_fit_is_the_systems_own_error(probe: WorkerProbe) -> None:
    measured = probe.measure(30_000)  # 94 MB of images alone
    assert measured.outcome is Outcome.OUT_OF_MEMORY
    assert measured.phase is Phase.BATCH
    assert measured.requested_bytes == 30_000 * 784 * 4
    assert measured.held_bytes == 4 * 101_770  # the weights
    assert measured.shortfall_bytes(64 * MIB) == 30_000 * 784 * 4 + 4 * 101_770 - 64 * MIB
    assert "can't allocate memory" in measured.message
    assert "make_batch" in measured.traceback
    assert measured.steps == 0


def test_the_same_process_goes_on_after_running_out_of_memory(probe: WorkerProbe) -> None:
    pid = probe.pid
    before = probe.measure(1000)
    assert not probe.measure(50_000).fits
    after = probe.measure(1000)
    assert after.fits
    # Scratch of kernels is sampled, so a reading may miss a little of it.
    assert abs(after.peak_allocated_bytes - before.peak_allocated_bytes) < 4 * MIB
    assert probe.pid == pid


def test_what_was_held_is_that_of_the_moment_at_which_it_failed(probe: WorkerProbe) -> None:
    """Not what was left when the error was caught, nor the peak of the steps before: both are megabytes off."""
    measured = probe.measure(14_500)
    assert measured.phase is Phase.BACKWARD
    assert measured.held_bytes is not None
    assert measured.requested_bytes == 14_500 * 128 * 4  # the gradient of the hidden layer
    assert 0 < measured.held_bytes + measured.requested_bytes - 64 * MIB < 2 * MIB


def test_the_heap_holds_back_little_of_the_budget_even_after_failures(probe: WorkerProbe) -> None:
    for size in (14_500, 16_000, 30_000):
        assert not probe.measure(size).fits
    measured = probe.measure(13_700, Detail.ROWS)
    assert measured.fits
    assert measured.peak_allocated_bytes > 0.96 * 64 * MIB
    assert measured.breakdown is not None
    assert measured.breakdown.bytes_of(Category.ALLOCATOR_SLACK) < 2 * MIB


def test_peaks_never_exceed_the_budget(probe: WorkerProbe) -> None:
    for size in (1, 5_000, 12_000, 14_000, 15_000, 16_000):
        # The main thread's stack is counted as it grows, though not limited.
        assert probe.measure(size).peak_reserved_bytes <= 65 * MIB


def test_rows_add_up_to_the_budget_and_hold_what_is_known_by_hand(probe: WorkerProbe) -> None:
    measured = probe.measure(8192, Detail.ROWS)
    breakdown = measured.breakdown
    assert breakdown is not None
    assert breakdown.total_bytes == 64 * MIB == sum(row.bytes for row in breakdown.rows)
    assert [row.category for row in breakdown.rows] == list(Category)
    assert breakdown.bytes_of(Category.PARAMETERS) == 4 * 101_770
    assert breakdown.bytes_of(Category.OPTIMIZER_STATE) == 4 * 101_770
    assert breakdown.bytes_of(Category.BATCH_DATA) == 8192 * (784 * 4 + 8)
    # ReLU saves its output for the backward pass, and the loss lives on.
    assert breakdown.bytes_of(Category.ACTIVATIONS) == 8192 * 128 * 4 + 4
    # The last step reserves what the steps before it did, but for scratch that is sampled.
    assert 0 <= breakdown.bytes_of(Category.FREE) - (64 * MIB - measured.peak_reserved_bytes) < MIB
    assert all(row.bytes >= 0 for row in breakdown.rows)


def test_its_bytes_are_put_down_to_modules_and_phases(probe: WorkerProbe) -> None:
    made = probe.measure(1000, Detail.MODULES).breakdown
    assert made is not None
    assert made.timeline is not None
    assert made.modules[0].bytes == made.tensor_bytes
    by_path = {share.path: share for share in made.modules}
    assert by_path["1"].by_category[Category.PARAMETERS] == 4 * (784 * 128 + 128)
    assert {point.phase for point in made.timeline.points} == {Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER}
    held = sum(share.by_category.get(Category.ACTIVATIONS, 0) for share in made.modules if share.path)
    assert held > 0.9 * made.bytes_of(Category.ACTIVATIONS)


def test_only_what_is_asked_for_carries_a_breakdown(probe: WorkerProbe) -> None:
    assert probe.measure(16).breakdown is None


def test_a_confirmation_carries_a_breakdown(probe: WorkerProbe) -> None:
    measured = probe.confirm(64, Detail.ROWS)
    assert measured.fits
    assert measured.breakdown is not None


def test_after_a_killed_one_the_next_process_gets_the_memory_that_the_first_one_found() -> None:
    with WorkerProbe(small_config("device={name: cpu}")) as own:
        capacity, pid = own.info.device.capacity_bytes, own.pid
        assert 0 < capacity < psutil.virtual_memory().total
        os.kill(pid or 0, signal.SIGKILL)
        assert own.measure(8).outcome is Outcome.KILLED  # noticed by the trial that it was asked for
        measured = own.measure(8, Detail.ROWS)
        assert measured.fits
        assert own.pid != pid
        assert measured.breakdown is not None
        assert measured.breakdown.total_bytes == capacity


def test_the_phase_that_runs_out_of_memory_is_named() -> None:
    with WorkerProbe(small_config("model.hidden=40000")) as own:  # 127 MB of weights
        assert where_it_ends(own, 1) is Phase.BUILD
    # 25 MB of weights, as much of gradients, twice as much of optimizer state; a hidden activation has 32 KB a sample.
    with WorkerProbe(small_config("model.hidden=8000", "optimizer={name: adam}")) as own:
        assert where_it_ends(own, 25_000) is Phase.BATCH
        assert where_it_ends(own, 1000) is Phase.FORWARD
        assert where_it_ends(own, 525) is Phase.BACKWARD
        assert where_it_ends(own, 1) is Phase.OPTIMIZER


def where_it_ends(probe: WorkerProbe, size: int) -> Phase | None:
    measured = probe.measure(size)
    assert measured.outcome is Outcome.OUT_OF_MEMORY
    return measured.phase


def test_the_users_own_error_is_told_as_such_and_the_child_ends_with_the_context() -> None:
    with WorkerProbe(small_config("data={name: synthetic, shape: [1, 2, 2], classes: 10}", "model={name: cnn}")) as own:
        pid, measured = own.pid or 0, own.measure(4)
        assert measured.outcome is Outcome.ERROR
        assert measured.phase is Phase.FORWARD
        assert "max_pool2d" in measured.traceback
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


def test_a_trial_that_is_killed_as_it_runs_is_an_outcome() -> None:
    with WorkerProbe(small_config("search.steps=100000")) as own:
        pid = own.pid
        assert pid is not None
        threading.Timer(1.0, os.kill, (pid, signal.SIGKILL)).start()
        measured = own.measure(128)
        assert measured.outcome is Outcome.KILLED
        assert measured.phase in (Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER)
        assert "SIGKILL" in measured.message


def test_a_hung_trial_is_stopped_and_its_process_replaced() -> None:
    with WorkerProbe(small_config("search.steps=1000000", "search.trial_timeout=1")) as own:
        pid = own.pid
        measured = own.measure(128)
        assert measured.outcome is Outcome.TIMED_OUT
        assert measured.seconds < 10  # its steps take a millisecond, so that it never stops telling of phases
        assert measured.phase is not None
        assert not psutil.pid_exists(pid or 0)


def test_a_deadline_that_is_over_stops_a_running_trial() -> None:
    with WorkerProbe(small_config("search.steps=1000000"), deadline=time.monotonic()) as own:
        assert own.measure(128).outcome is Outcome.TIMED_OUT


def test_a_device_that_is_not_there_is_told_before_any_trial() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with (
        pytest.raises(MachineError, match=r"device\.name: PyTorch .* finds no cuda here") as caught,
        WorkerProbe(small_config("device={name: cuda}")),
    ):
        pass
    assert caught.value.exit_code == 3
    assert "--device cpu" in caught.value.hint


def test_missing_data_files_are_told_before_any_trial(tmp_path: object) -> None:
    with (
        pytest.raises(ConfigError, match="no usable mnist files"),
        WorkerProbe(small_config("data.source=files", f"data.root={tmp_path}")),
    ):
        pass


def test_the_callers_environment_and_random_state_are_left_alone(probe: WorkerProbe) -> None:
    import random

    import torch

    environment, state, torch_state = dict(os.environ), random.getstate(), torch.get_rng_state()
    probe.measure(32)
    assert dict(os.environ) == environment
    assert random.getstate() == state
    assert torch.equal(torch.get_rng_state(), torch_state)
