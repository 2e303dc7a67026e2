"""Image data sets as torchvision stores them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vram_cli.config import DATA_PRESETS
from vram_cli.workload.user_code import import_torchvision

_CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
_FOLDERS = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw", "cifar10": "cifar-10-batches-py"}
"""torchvision's folder of each data set below its root: checked first, since importing torchvision takes seconds."""


@dataclass(frozen=True)
class ImageFiles:
    """A data set in memory, as stored."""

    images: torch.Tensor
    """uint8, (samples, channels, height, width)."""
    targets: torch.Tensor
    """int64, (samples,)."""
    mean: torch.Tensor
    """float32, (channels, 1, 1), of pixel values scaled to 0..1."""
    std: torch.Tensor
    """As `mean`."""

    def normalized(self, rows: torch.Tensor) -> torch.Tensor:
        """Return these images as they are trained on: float32, (rows, channels, height, width)."""
        return self.images[rows].to(torch.float32).div_(255).sub_(self.mean).div_(self.std)


def load_images(name: str, root: Path, *, download: bool) -> tuple[ImageFiles | None, str]:
    """Read a data set with torchvision; return None and the reason if that fails."""
    if not download and not (root / _FOLDERS[name]).is_dir():
        return None, f"{root / _FOLDERS[name]} does not exist"
    datasets = import_torchvision("datasets")
    try:
        dataset: Any = getattr(datasets, _CLASSES[name])(os.fspath(root), train=True, download=download)
    except (RuntimeError, OSError, ValueError) as error:  # missing, corrupted, or no network
        return None, " ".join(str(error).split()) or type(error).__name__
    preset = DATA_PRESETS[name]
    pixels = torch.as_tensor(dataset.data)
    # MNIST stores (samples, height, width), CIFAR-10 (samples, height, width, channels).
    images = pixels.unsqueeze(1) if preset.shape[0] == 1 else pixels.permute(0, 3, 1, 2)
    files = ImageFiles(
        images=images,
        targets=torch.as_tensor(dataset.targets),
        mean=torch.tensor(preset.mean).view(-1, 1, 1),
        std=torch.tensor(preset.std).view(-1, 1, 1),
    )
    return files, ""
