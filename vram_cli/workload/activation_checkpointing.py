"""Activation checkpointing: blocks whose activations are dropped, and computed again in the backward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from vram_cli.errors import ConfigError

_CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)
_KEY = "train.activation_checkpointing"


def apply_activation_checkpointing(model: nn.Module, blocks: str) -> nn.Module:
    """Run modules under `torch.utils.checkpoint` (Chen et al., arXiv 1604.06174), without reentry.

    Args:
        model: changed in place, and returned.
        blocks: "none", "full" for every repeated block, "every-K" for each K-th, or a pattern for names of modules.

    Raises:
        ConfigError: this selects no module.
    """
    selected = select_blocks(model, blocks).values()
    for module in selected:
        module.forward = partial(_checkpoint, module.forward)
    if selected:
        _disable_cache(model)
    return model


def _checkpoint(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a block under checkpoint; the second run gets lists as they were in the first.

    The blocks of a DenseNet get a list of all outputs before them, to which the model appends in between.
    """
    lists = {i: [*arg] for i, arg in enumerate(args) if isinstance(arg, list)}
    if not lists:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)
    has_run = False

    def run(*inputs: Any, **named_inputs: Any) -> Any:
        nonlocal has_run
        inputs = tuple(lists.get(i, arg) for i, arg in enumerate(inputs)) if has_run else inputs
        has_run = True
        return forward(*inputs, **named_inputs)

    return checkpoint(run, *args, use_reentrant=False, **kwargs)


def select_blocks(model: nn.Module, blocks: str) -> dict[str, nn.Module]:
    """Return the modules to checkpoint by name, none within another.

    Raises:
        ConfigError: there are none.
    """
    if blocks == "none":
        return {}
    if blocks == "full" or blocks.startswith("every-"):
        every = 1 if blocks == "full" else int(blocks.removeprefix("every-"))
        selected = list(repeated_blocks(model).items())[::every]
        if not selected:
            hint = 'name modules by a pattern, such as "layer3.*"; `vram inspect` lists them'
            raise ConfigError(f"{_KEY}: {blocks} finds no repeated blocks in the model", hint)
        return dict(selected)
    return match_names(model, blocks, _KEY)


def match_names(model: nn.Module, pattern: str, key: str) -> dict[str, nn.Module]:
    """Return the modules whose names match a pattern, none within another; `key` is the config's, for errors.

    Raises:
        ConfigError: there are none that are called.
    """
    matches = {name: module for name, module in model.named_modules() if name and fnmatchcase(name, pattern)}
    # A ModuleList has no forward pass of its own: models call the modules in it.
    callable_ = {name: module for name, module in matches.items() if type(module).forward is not nn.Module.forward}
    if callable_:
        return {name: module for name, module in callable_.items() if callable_.keys().isdisjoint(_parents(name))}
    if matches:
        name = next(iter(matches))
        raise ConfigError(f"{key}: {name} is a list of modules, which is never called", f'name its items: "{name}.*"')
    parts = ", ".join([name for name, _ in model.named_children()][:6]) or "no parts"
    raise ConfigError(f"{key}: no module is called {pattern!r}", f"the model has {parts}")


def _disable_cache(model: nn.Module) -> None:
    """Disable the cache of transformers' decoders, as its own checkpointing does: a second run would add to it."""
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "use_cache", False):
            config.use_cache = False


def repeated_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that a model repeats, in its order: items of lists and sequences, but no single layers.

    In a ResNet these are its residual blocks, in a transformer its layers. A module that runs several blocks of one
    class in sequence is a stage, and the blocks count; of other nested blocks, such as the experts of a layer, the
    outer ones count.
    """
    candidates: dict[str, nn.Module] = {}
    stages: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, _CONTAINERS):
            blocks = {f"{name}.{key}".lstrip("."): part for key, part in module.named_children() if _is_block(part)}
            candidates |= blocks
            if isinstance(module, nn.Sequential) and _max_repeats(blocks) > 1:
                stages.update(_parents(name))
    classes = Counter(type(block) for block in candidates.values())
    repeated = {name for name, block in candidates.items() if classes[type(block)] > 1 and name not in stages}
    order = (name for name, _ in model.named_modules() if name in repeated)
    return {name: candidates[name] for name in order if not repeated.intersection(_parents(name))}


def _max_repeats(blocks: dict[str, nn.Module]) -> int:
    return max(Counter(type(block) for block in blocks.values()).values(), default=0)


def _is_block(module: nn.Module) -> bool:
    """Whether a module is more than a layer and not a list of modules; a sequence of layers is a block as well."""
    parts = list(module.children())
    if type(module) is nn.Sequential:
        return len(parts) > 1 and not any(True for part in parts for _ in part.children())
    return bool(parts) and not isinstance(module, _CONTAINERS)


def _parents(name: str) -> list[str]:
    """Return the names of all modules that contain the named one."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]
