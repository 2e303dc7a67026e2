"""Named data: images from torchvision's files if they exist, else synthetic ones of the same shape."""

from __future__ import annotations

from pathlib import Path

import torch

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.records import DataFacts, DataInfo, ImageSample, TensorInfo
from vram_cli.workload.data_source import DataSource, IndexedSamples, MakeBatch, tensor_facts
from vram_cli.workload.image_facts import class_facts, first_images, stored_facts
from vram_cli.workload.image_files import ImageFiles, load_images

CHUNK = 1024
"""Samples converted at a time, so that making a batch takes little more memory than the batch."""

_MODES = {1: "gray", 3: "colour"}
_TARGETS = TensorInfo(name="targets", shape=(), dtype="int64")


class ImageData(DataSource):
    """Batches of images; without files, of random ones."""

    def __init__(self, info: DataInfo, files: ImageFiles | None = None) -> None:
        self.info, self._files = info, files

    def make_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (n, channels, height, width) and int64 targets (n,) on the device.

        A data set smaller than n is repeated from its start: the batch always has n samples. It is filled in place,
        chunk by chunk, so that the host needs a chunk and not the batch.
        """
        images = torch.empty((n, *self.info.tensors[0].shape), device=device, dtype=dtype)
        if self._files is None:
            images.normal_()
            return images, torch.randint(self.info.classes or 1, (n,), device=device)
        targets = torch.empty((n,), device=device, dtype=torch.int64)
        for start in range(0, n, CHUNK):
            rows = torch.arange(start, min(start + CHUNK, n)) % len(self._files.images)
            images[start : start + len(rows)] = self._files.normalized(rows).to(dtype)
            targets[start : start + len(rows)] = self._files.targets[rows]
        return images, targets

    def make_shapes(self) -> MakeBatch:
        """Return a `make_batch` for fake devices: files hold values, which those lack."""
        return ImageData(self.info).make_batch

    def facts(self, batch_size: int) -> DataFacts:
        """Return all facts about the images; files are counted and measured in full."""
        channels, *_ = self.info.tensors[0].shape
        return DataFacts(
            info=self.info,
            mode=_MODES.get(channels, f"{channels} channels"),
            batch_size=batch_size,
            tensors=tuple(tensor_facts(info, batch_size) for info in (*self.info.tensors, _TARGETS)),
            stored=stored_facts(self.info.name, self._files),
            classes=class_facts(self.info.name, self._files),
        )

    def samples(self, per_class: int) -> tuple[ImageSample, ...]:
        """Return the first images of each class, class by class; empty without files."""
        return tuple(first_images(self._files, self.info.classes or 0, per_class)) if self._files else ()

    def indexed(self) -> IndexedSamples:
        """Return the images of the files, to select from.

        Raises:
            ConfigError: there are no files.
        """
        files = self._files
        if files is None:
            return super().indexed()
        return IndexedSamples(len(files.images), lambda rows: (files.normalized(rows), files.targets[rows]))


def open_images(config: Config, *, download: bool, read_files: bool) -> ImageData:
    """Open the images that the config names.

    Raises:
        ConfigError: `source: files` without files that torchvision can read.
    """
    data = config.data
    if data.name == "synthetic":
        return ImageData(_info(config, "synthetic", "images of the config's shape"))
    if data.source == "synthetic" or not read_files:
        return ImageData(_info(config, "synthetic", f"images of {data.name}'s shape, as the config asks"))
    root = Path(data.root).expanduser()
    files, problem = load_images(str(data.name), root, download=download)
    if files is not None:
        return ImageData(_info(config, "files", f"{data.name} files under {root}", len(files.images)), files)
    if data.source == "files" or download:
        raise ConfigError(
            f"data.root: no usable {data.name} files under {root} ({problem})",
            "run with --download, set data.root to the folder that holds them, or set data.source=auto",
        )
    return ImageData(_info(config, "synthetic", f"no {data.name} files under {root}, same shape instead"))


def _info(config: Config, source: str, detail: str, length: int | None = None) -> DataInfo:
    return DataInfo(
        name=str(config.data.name),
        source=source,
        detail=detail,
        tensors=(TensorInfo(name="images", shape=config.data.sample_shape, dtype="float32", follows_model=True),),
        classes=config.data.num_classes,
        num_samples=config.data.length if length is None else length,
    )
