"""Label the storages that outlive a step with their category and the module that owns them."""

from __future__ import annotations

import torch

from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.module_paths import parent_path
from vram_cli.records import Category
from vram_cli.workload import Batch, Workload, tensors_of


def label_storages(tracker: StorageTracker, work: Workload, batch: Batch) -> None:
    """Label the storages that live between steps: the model, the batch, gradients and optimizer state.

    An average of the weights counts as optimizer state: it has one tensor per parameter, and the model never reads it.
    """
    tracker.label(tensors_of(batch), Category.BATCH_DATA, "")
    if work.average is not None:
        tracker.label(work.average.tensors, Category.OPTIMIZER_STATE, "")
    if work.criterion is not None:
        tracker.label([*work.criterion.parameters(), *work.criterion.buffers()], Category.PARAMETERS, "")
    for name, tensor in (*work.module.named_parameters(), *work.module.named_buffers()):
        tracker.label([tensor], Category.PARAMETERS, parent_path(name))
    label_gradients(tracker, work)
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in work.module.named_parameters()}
    for optimizer in work.optimizers:
        for parameter, state in optimizer.state.items():
            tracker.label(tensors_of(state), Category.OPTIMIZER_STATE, parent_path(names.get(parameter, "")))


def label_gradients(tracker: StorageTracker, work: Workload) -> None:
    """Label the gradients that exist after the backward pass."""
    for name, parameter in work.module.named_parameters():
        if parameter.grad is not None:
            tracker.label([parameter.grad], Category.GRADIENTS, parent_path(name))
