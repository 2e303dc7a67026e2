"""Paths of modules as in `torch.nn.Module.named_modules`: "layer1.0.conv1"; "" is the model itself."""

from __future__ import annotations


def parent_path(path: str) -> str:
    """Return the path of the parent module; "" for a top-level module and for the model."""
    return path.rpartition(".")[0]


def last_name(path: str) -> str:
    """Return the name of a module within its parent."""
    return path.rpartition(".")[2]


def path_depth(path: str) -> int:
    """Return the number of parents of a module: 0 for the model."""
    return path.count(".") + 1 if path else 0
