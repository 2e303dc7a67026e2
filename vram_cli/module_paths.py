"""Paths of modules as in `torch.nn.Module.named_modules`: "layer1.0.conv1"; "" is the model itself."""

from __future__ import annotations


def parent_path(path: str) -> str:
    """Return the path of the module around it; "" for a module of the model itself, and for the model."""
    return path.rpartition(".")[0]


def last_name(path: str) -> str:
    """Return its name within the module around it."""
    return path.rpartition(".")[2]


def path_depth(path: str) -> int:
    """Return the number of modules around it: 0 for the model."""
    return path.count(".") + 1 if path else 0
