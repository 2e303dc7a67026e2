"""The versions that a measurement depends on."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

from vram_cli import __version__


def versions() -> dict[str, str]:
    """Return the versions of vram, Python, torch, its CUDA or HIP, torchvision and the system."""
    result = {
        "vram": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": _torchvision(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if torch.version.cuda:
        result["cuda"] = torch.version.cuda
    if torch.version.hip:
        result["hip"] = torch.version.hip
    return result


def _torchvision() -> str:
    try:
        return metadata.version("torchvision")
    except metadata.PackageNotFoundError:  # presets of MLPs and CNNs, and models of transformers, run without it
        return "not installed"
