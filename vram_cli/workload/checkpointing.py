"""Gradient checkpointing: blocks whose activations are dropped, and computed again in the backward pass."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from vram_cli.errors import ConfigError

_CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


def checkpointed(model: nn.Module, how: str) -> nn.Module:
    """Let the chosen modules run under `torch.utils.checkpoint` (Chen et al., arXiv 1604.06174), without reentry.

    Args:
        model: changed in place, and returned.
        how: "none", "full" for every repeated block, "every-K" for each K-th, or a pattern for names of modules.

    Raises:
        ConfigError: nothing is chosen by that.
    """
    for module in chosen(model, how).values():
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)
    return model


def chosen(model: nn.Module, how: str) -> dict[str, nn.Module]:
    """Return the modules to checkpoint by name, none within another.

    Raises:
        ConfigError: there are none.
    """
    if how == "none":
        return {}
    if how == "full" or how.startswith("every-"):
        every = 1 if how == "full" else int(how.removeprefix("every-"))
        blocks = list(repeated_blocks(model).items())[::every]
        if not blocks:
            hint = 'name modules by a pattern, such as "layer3.*"; `vram inspect` lists them'
            raise ConfigError(f"train.checkpointing: {how} finds no repeated blocks in the model", hint)
        return dict(blocks)
    named = {name: module for name, module in model.named_modules() if name and fnmatchcase(name, how)}
    outer = {name: module for name, module in named.items() if not _is_within(name, named)}
    if not outer:
        names = ", ".join(list(dict.fromkeys(name.partition(".")[0] for name, _ in model.named_modules() if name))[:6])
        raise ConfigError(f"train.checkpointing: no module is called {how!r}", f"the model has {names}")
    if containers := [name for name, module in outer.items() if isinstance(module, (nn.ModuleList, nn.ModuleDict))]:
        hint = f"name what is in it: {containers[0]}.*"
        raise ConfigError(f"train.checkpointing: {containers[0]} is a list of modules and is never called", hint)
    return outer


def repeated_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the outermost modules that a model repeats: children of one class in a list or sequence, no single layers.

    Of a ResNet these are its residual blocks, of a transformer its layers.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if not isinstance(module, _CONTAINERS) or _is_within(name, found):
            continue
        blocks = {
            f"{name}.{key}" if name else key: child
            for key, child in module.named_children()
            if not isinstance(child, _CONTAINERS) and any(True for _ in child.children())
        }
        kinds = Counter(type(child) for child in blocks.values())
        found |= {path: child for path, child in blocks.items() if kinds[type(child)] > 1}
    return found


def _is_within(name: str, others: dict[str, nn.Module]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:depth]) in others for depth in range(1, len(parts)))
