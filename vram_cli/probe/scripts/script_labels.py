"""Label the storages of a script: models and optimizers are those that were seen to run."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.module_paths import parent_path
from vram_cli.records import Category, LineShare, Phase
from vram_cli.workload import tensors_of
from vram_cli.workload.parallel import unwrapped

_LINES = 8
"""Lines of code to report."""


def whole_of(models: Iterable[nn.Module]) -> nn.Module:
    """Return the model of a script; several are parts of one, by the names of their classes.

    Losses without tensors, and parts of other models that also run by themselves, are no models of their own.
    """
    models = [model for model in models if any(True for _ in (*model.parameters(), *model.buffers()))]
    parts = {id(part) for model in models for part in model.modules() if part is not model}
    models = [model for model in models if id(model) not in parts]
    models = [unwrapped(model) for model in models]
    if len(models) == 1:
        return models[0]
    whole, seen = nn.Module(), Counter[str]()
    for model in models:
        name = type(model).__name__
        whole.add_module(f"{name}_{seen[name]}" if seen[name] else name, model)
        seen[name] += 1
    return whole


def label_script(tracker: StorageTracker, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Label what lives between steps: parameters, buffers, gradients, optimizer state, and the batch."""
    optimizers = list(optimizers)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        tracker.label([tensor], Category.PARAMETERS, parent_path(name))
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    for parameter in _parameters_of(optimizers):
        if parameter not in names:
            tracker.label([parameter], Category.PARAMETERS, "")
    label_script_gradients(tracker, model, optimizers)
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            tracker.label(tensors_of(state), Category.OPTIMIZER_STATE, parent_path(names.get(parameter, "")))
    tracker.label_unknown(Phase.BATCH, Category.BATCH_DATA)
    tracker.label_kept(Category.KEPT)


def label_script_gradients(
    tracker: StorageTracker, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]
) -> None:
    """Label the gradients that exist."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    for parameter in {*names, *_parameters_of(optimizers)}:
        if parameter.grad is not None:
            tracker.label([parameter.grad], Category.GRADIENTS, parent_path(names.get(parameter, "")))


def label_other_modules(tracker: StorageTracker) -> None:
    """Label the parameters and buffers of modules that do not train, such as a moving average or a teacher."""
    for module in [found for found in gc.get_objects() if isinstance(found, nn.Module)]:
        tensors = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        others = [tensor for tensor in tensors if tracker.category_of(tensor) in (None, Category.KEPT)]
        tracker.label(others, Category.PARAMETERS)


def lines_at_peak(tracker: StorageTracker) -> tuple[LineShare, ...]:
    """Return the lines of code that allocated most of what is alive at the peak."""
    totals: defaultdict[str, Counter[Category]] = defaultdict(Counter)
    for record in tracker.records_at_peak():
        totals[record.line][record.category or Category.TEMPORARIES] += record.bytes
    shares = [
        LineShare(line=line, bytes=sum(by_category.values()), category=by_category.most_common(1)[0][0])
        for line, by_category in totals.items()
    ]
    return tuple(sorted(shares, key=lambda share: -share.bytes)[:_LINES])


def _parameters_of(optimizers: Iterable[torch.optim.Optimizer]) -> Iterator[torch.Tensor]:
    return (parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"])
