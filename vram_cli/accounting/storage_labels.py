"""Tells a ledger what the storages that outlive a step are, and which module's."""

from __future__ import annotations

import torch

from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.records import Category
from vram_cli.workload import Batch, Workload, tensors_of


def label(ledger: StorageTracker, work: Workload, batch: Batch) -> None:
    """Name what lives between steps: the model, the batch, gradients, the optimizer's state.

    An average of the weights counts as optimizer state: it is kept for each parameter, and the model never sees it.
    """
    ledger.adopt(tensors_of(batch), Category.BATCH_DATA, "")
    if work.average is not None:
        ledger.adopt(work.average.tensors, Category.OPTIMIZER_STATE, "")
    if work.criterion is not None:
        ledger.adopt([*work.criterion.parameters(), *work.criterion.buffers()], Category.PARAMETERS, "")
    for name, tensor in (*work.model.named_parameters(), *work.model.named_buffers()):
        ledger.adopt([tensor], Category.PARAMETERS, _owner(name))
    label_gradients(ledger, work)
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in work.model.named_parameters()}
    states = {} if work.optimizer is None else work.optimizer.state
    for parameter, state in states.items():
        ledger.adopt(tensors_of(state), Category.OPTIMIZER_STATE, _owner(names.get(parameter, "")))


def label_gradients(ledger: StorageTracker, work: Workload) -> None:
    """Name the gradients, once the backward pass has made them."""
    for name, parameter in work.model.named_parameters():
        if parameter.grad is not None:
            ledger.adopt([parameter.grad], Category.GRADIENTS, _owner(name))


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]
