"""The storage tracker, against sums computed by hand."""

from __future__ import annotations

import gc
from collections import Counter

import pytest
import torch
from torch import nn

from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.records import Category, Phase

CPU = torch.device("cpu")


def step(tracker: StorageTracker, model: nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor) -> None:
    """Run a tracked training step; the loss is the sum of the outputs."""
    tracker.label((*model.parameters(), *model.buffers()), Category.PARAMETERS)
    tracker.label([batch], Category.BATCH_DATA)
    tracker.reset_peak()
    optimizer.zero_grad(set_to_none=True)
    tracker.enter_phase(Phase.FORWARD)
    loss = model(batch).sum()
    tracker.enter_phase(Phase.BACKWARD)
    loss.backward()
    tracker.enter_phase(Phase.OPTIMIZER)
    tracker.label([p.grad for p in model.parameters() if p.grad is not None], Category.GRADIENTS)
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    tracker.label([value for value in states if isinstance(value, torch.Tensor)], Category.OPTIMIZER_STATE)


def test_storage_lives_until_its_last_view() -> None:
    tracker = StorageTracker(CPU)
    with tracker:
        first = torch.zeros(1000)
        view = first[10:]
        assert tracker.live_bytes == 4000
        del first
        assert tracker.live_bytes == 4000
        del view
        assert tracker.live_bytes == 0
    assert tracker.peak_bytes == 4000


def test_in_place_operations_and_views_allocate_nothing() -> None:
    with StorageTracker(CPU) as tracker:
        tensor = torch.zeros(256)
        tensor.add_(1).relu_()
        views = [tensor.view(16, 16), tensor.t(), tensor.detach()]
        assert tracker.live_bytes == 1024
    assert len(views) == 3


def test_peak_is_a_maximum_and_no_sum() -> None:
    with StorageTracker(CPU) as tracker:
        for _ in range(3):
            torch.zeros(1000)
        assert tracker.peak_bytes == 4000


def test_phase_peak_starts_at_the_live_bytes() -> None:
    with StorageTracker(CPU) as tracker:
        tracker.enter_phase(Phase.FORWARD)
        tensor = torch.zeros(1000)
        torch.zeros(500)
        assert tracker.phase_peak_bytes == 6000
        tracker.enter_phase(Phase.BACKWARD)
        assert tracker.phase_peak_bytes == tensor.nbytes


def test_other_devices_are_ignored() -> None:
    with StorageTracker(CPU) as tracker:
        torch.zeros(1000, device="meta")
    assert tracker.peak_bytes == 0


def test_categories_at_the_peak_of_a_linear_layer() -> None:
    model = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    optimizer = torch.optim.Adam(model.parameters())
    batch = torch.randn(4096, 100)
    tracker = StorageTracker(CPU)
    with tracker:
        for _ in range(2):
            step(tracker, model, optimizer, batch)
    parameters = 4 * (100 * 50 + 50 + 50 * 10 + 10)
    totals = tracker.bytes_at_peak()
    assert totals[Category.PARAMETERS] == parameters
    assert totals[Category.BATCH_DATA] == batch.nbytes
    # Two moments per parameter, and a step counter of 4 bytes for each of four tensors.
    assert totals[Category.OPTIMIZER_STATE] == 2 * parameters + 4 * 4
    # The peak is in the backward pass of the ReLU: its saved output, the gradients of output and input, and the loss.
    hidden = 4096 * 50 * 4
    assert tracker.peak_phase is Phase.BACKWARD
    assert totals[Category.ACTIVATIONS] == hidden + 4
    assert totals[Category.TEMPORARIES] >= 2 * hidden
    assert sum(totals.values()) == tracker.peak_bytes


def test_gradients_and_temporaries_in_the_optimizer_step() -> None:
    model = nn.Linear(1000, 1000)
    optimizer = torch.optim.Adam(model.parameters(), foreach=True)
    tracker = StorageTracker(CPU)
    with tracker:
        for _ in range(2):
            step(tracker, model, optimizer, torch.randn(1, 1000))
    totals = tracker.bytes_at_peak()
    assert tracker.peak_phase is Phase.OPTIMIZER
    assert totals[Category.GRADIENTS] == 4 * (1000 * 1000 + 1000)
    # foreach Adam allocates temporaries of the size of all parameters (PyTorch's documentation of `foreach`).
    assert totals[Category.TEMPORARIES] >= 4 * 1000 * 1000


def test_buffers_count_as_parameters() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracker = StorageTracker(CPU)
    with tracker:
        step(tracker, model, optimizer, torch.randn(2, 3, 8, 8))
    tensors = [*model.parameters(), *model.buffers()]
    assert tracker.bytes_at_peak()[Category.PARAMETERS] == sum(tensor.nbytes for tensor in tensors)


def test_shared_weights_count_once() -> None:
    layer = nn.Linear(64, 64)
    model = nn.Sequential(layer, layer)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracker = StorageTracker(CPU)
    with tracker:
        step(tracker, model, optimizer, torch.randn(2, 64))
    assert tracker.bytes_at_peak()[Category.PARAMETERS] == 4 * (64 * 64 + 64)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_tracking_does_not_change_results(momentum: float) -> None:
    def weights(*, tracked: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
        batch = torch.randn(8, 20)
        tracker = StorageTracker(CPU)
        for _ in range(3):
            if tracked:
                with tracker:
                    step(tracker, model, optimizer, batch)
            else:
                optimizer.zero_grad()
                model(batch).sum().backward()
                optimizer.step()
        return [parameter.detach() for parameter in model.parameters()]

    for expected, weight in zip(weights(tracked=False), weights(tracked=True), strict=True):
        assert torch.equal(weight, expected)


def test_tracker_keeps_no_tensor_alive() -> None:
    tracker = StorageTracker(CPU)
    with tracker:
        model = nn.Linear(100, 100)
        step(tracker, model, torch.optim.SGD(model.parameters(), lr=0.1), torch.randn(8, 100))
        del model
        gc.collect()
        assert tracker.live_bytes == 0
    assert tracker.bytes_at_peak() != Counter()
