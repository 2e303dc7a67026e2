"""Named data: real images where torchvision's files lie, elsewhere synthetic ones of that shape."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vram_cli.config import DATA_PRESETS, Config
from vram_cli.errors import ConfigError
from vram_cli.records import DataInfo, TensorInfo
from vram_cli.workload.user_code import torchvision

CHUNK = 1024
"""Samples converted at a time, so that making a batch takes no memory to speak of beside the batch."""

_CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
_FOLDERS = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw", "cifar10": "cifar-10-batches-py"}
"""Where torchvision keeps each data set below its root: looked at first, since importing torchvision takes seconds."""


@dataclass(frozen=True)
class Files:
    """A data set in memory, as stored."""

    images: torch.Tensor
    """uint8, (samples, channels, height, width)."""
    targets: torch.Tensor
    """int64, (samples,)."""
    mean: torch.Tensor
    """float32, (channels, 1, 1), of pixel values scaled to 0..1."""
    std: torch.Tensor

    def normalised(self, rows: torch.Tensor) -> torch.Tensor:
        """Return these images as they are trained on: float32, (rows, channels, height, width)."""
        return self.images[rows].to(torch.float32).div_(255).sub_(self.mean).div_(self.std)


@dataclass(frozen=True)
class ImageData:
    """Batches of images; `files` is None for synthetic ones."""

    info: DataInfo
    files: Files | None

    def make_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (n, channels, height, width) and int64 targets (n,) on the device.

        A data set smaller than n is repeated from its start: the batch always has n samples. It is filled in place,
        chunk by chunk, so that the host needs a chunk and not the batch.
        """
        images = torch.empty((n, *self.info.tensors[0].shape), device=device, dtype=dtype)
        if self.files is None:
            images.normal_()
            return images, torch.randint(self.info.classes or 1, (n,), device=device)
        targets = torch.empty((n,), device=device, dtype=torch.int64)
        for start in range(0, n, CHUNK):
            rows = torch.arange(start, min(start + CHUNK, n)) % len(self.files.images)
            images[start : start + len(rows)] = self.files.normalised(rows).to(dtype)
            targets[start : start + len(rows)] = self.files.targets[rows]
        return images, targets


def open_images(config: Config, *, download: bool = False) -> ImageData:
    """Find the images that the config names.

    Raises:
        ConfigError: `source: files` and there are none that torchvision can read.
    """
    data = config.data
    if data.name == "synthetic":
        return ImageData(_info(config, "synthetic", "images of the config's shape"), None)
    if data.source == "synthetic":
        return ImageData(_info(config, "synthetic", f"images of {data.name}'s shape, as the config asks"), None)
    root = Path(data.root).expanduser()
    name = str(data.name)
    files, problem = _load(name, root, download=download)
    if files is not None:
        return ImageData(_info(config, "files", f"{data.name} files under {root}", files), files)
    if data.source == "files" or download:
        raise ConfigError(
            f"data.root: no usable {data.name} files under {root} ({problem})",
            "run with --download, set data.root to the folder that holds them, or set data.source=auto",
        )
    return ImageData(_info(config, "synthetic", f"no {data.name} files under {root}, same shape instead"), None)


def _info(config: Config, source: str, detail: str, files: Files | None = None) -> DataInfo:
    dtype = "bfloat16" if config.precision == "bf16" else "float32"
    return DataInfo(
        name=str(config.data.name),
        source=source,
        detail=detail,
        tensors=(TensorInfo(name="images", shape=config.data.sample_shape, dtype=dtype),),
        classes=config.data.num_classes,
        num_samples=config.data.length if files is None else len(files.images),
    )


def _load(name: str, root: Path, *, download: bool) -> tuple[Files | None, str]:
    """Read a data set with torchvision; return None and the reason where that does not work."""
    if not download and not (root / _FOLDERS[name]).is_dir():
        return None, f"{root / _FOLDERS[name]} is not there"
    datasets = torchvision("datasets")
    try:
        dataset: Any = getattr(datasets, _CLASSES[name])(os.fspath(root), train=True, download=download)
    except (RuntimeError, OSError, ValueError) as error:  # not found, corrupted, no network
        return None, _one_line(error)
    preset = DATA_PRESETS[name]
    pixels = torch.as_tensor(dataset.data)
    # MNIST stores (samples, height, width), CIFAR-10 (samples, height, width, channels).
    images = pixels.unsqueeze(1) if preset.shape[0] == 1 else pixels.permute(0, 3, 1, 2)
    return (
        Files(
            images=images,
            targets=torch.as_tensor(dataset.targets),
            mean=torch.tensor(preset.mean).view(-1, 1, 1),
            std=torch.tensor(preset.std).view(-1, 1, 1),
        ),
        "",
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
