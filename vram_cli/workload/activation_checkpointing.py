"""Gradient activation_checkpointing: blocks whose activations are dropped, and computed again in the backward pass."""

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


def apply_activation_checkpointing(model: nn.Module, how: str) -> nn.Module:
    """Let the chosen modules run under `torch.utils.checkpoint` (Chen et al., arXiv 1604.06174), without reentry.

    Args:
        model: changed in place, and returned.
        how: "none", "full" for every repeated block, "every-K" for each K-th, or a pattern for names of modules.

    Raises:
        ConfigError: nothing is chosen by that.
    """
    blocks = select_blocks(model, how).values()
    for module in blocks:
        module.forward = partial(_checkpoint, module.forward)
    if blocks:
        _keep_no_keys(model)
    return model


def _checkpoint(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a block under checkpoint; its second run finds lists as they were, though the model may have added to them.

    So do the blocks of a DenseNet, which are given all outputs before them.
    """
    lists = {i: [*arg] for i, arg in enumerate(args) if isinstance(arg, list)}
    if not lists:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)
    has_run = False

    def run(*given: Any, **named: Any) -> Any:
        nonlocal has_run
        given = tuple(lists.get(i, arg) for i, arg in enumerate(given)) if has_run else given
        has_run = True
        return forward(*given, **named)

    return checkpoint(run, *args, use_reentrant=False, **kwargs)


def select_blocks(model: nn.Module, how: str) -> dict[str, nn.Module]:
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
            raise ConfigError(f"train.activation_checkpointing: {how} finds no repeated blocks in the model", hint)
        return dict(blocks)
    return _named(model, how)


def _named(model: nn.Module, pattern: str) -> dict[str, nn.Module]:
    matching = {name: module for name, module in model.named_modules() if name and fnmatchcase(name, pattern)}
    # A ModuleList has no forward pass of its own: whoever runs what is in it never calls the list.
    named = {name: module for name, module in matching.items() if type(module).forward is not nn.Module.forward}
    if named:
        return {name: module for name, module in named.items() if named.keys().isdisjoint(_above(name))}
    if matching:
        name = next(iter(matching))
        hint = f'name what is in it: "{name}.*"'
        raise ConfigError(f"train.activation_checkpointing: {name} is a list of modules and is never called", hint)
    parts = ", ".join([name for name, _ in model.named_children()][:6]) or "no parts"
    raise ConfigError(f"train.activation_checkpointing: no module is called {pattern!r}", f"the model has {parts}")


def _keep_no_keys(model: nn.Module) -> None:
    """Switch off the cache of transformers' decoders, as its own checkpointing does: a second run would add to it."""
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "use_cache", False):
            config.use_cache = False


def repeated_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that a model repeats, in its order: what stands in lists and sequences, and no single layers.

    Of a ResNet these are its residual blocks, of a transformer its layers. What runs several blocks of one class in
    sequence is a stage, and these are taken; of other nested blocks, such as the experts of a layer, the outer ones.
    """
    found: dict[str, nn.Module] = {}
    stages: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, _CONTAINERS):
            blocks = {f"{name}.{key}".lstrip("."): part for key, part in module.named_children() if _is_block(part)}
            found |= blocks
            if isinstance(module, nn.Sequential) and _most_common(blocks) > 1:
                stages.update(_above(name))
    kinds = Counter(type(block) for block in found.values())
    repeated = {name for name, block in found.items() if kinds[type(block)] > 1 and name not in stages}
    order = (name for name, _ in model.named_modules() if name in repeated)
    return {name: found[name] for name in order if not repeated.intersection(_above(name))}


def _most_common(blocks: dict[str, nn.Module]) -> int:
    return max(Counter(type(block) for block in blocks.values()).values(), default=0)


def _is_block(module: nn.Module) -> bool:
    """Whether a module is more than a layer, and no list of modules; a sequence of layers is a block as well."""
    parts = list(module.children())
    if type(module) is nn.Sequential:
        return len(parts) > 1 and not any(True for part in parts for _ in part.children())
    return bool(parts) and not isinstance(module, _CONTAINERS)


def _above(name: str) -> list[str]:
    """Return the names of all modules that one lies in."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]
