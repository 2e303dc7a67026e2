"""What the data is: tensors and their bytes, how images are stored, their classes, and some to look at."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from vram_cli.config import DATA_PRESETS, Config
from vram_cli.records import ClassFacts, DataFacts, ImageSample, StoredFacts, TensorFacts, TensorInfo
from vram_cli.workload.data import DataSource
from vram_cli.workload.image_data import Files, ImageData

_WHITE = 255
_MODES = {1: "gray", 3: "colour"}
_LABELS = TensorInfo(name="targets", shape=(), dtype="int64")


def facts_of(config: Config, source: DataSource) -> DataFacts:
    """Return what is known of a config's data; what files have is counted and measured in all of them."""
    images = source if isinstance(source, ImageData) else None
    tensors = (*source.info.tensors, _LABELS) if images else source.info.tensors
    channels = source.info.tensors[0].shape[0] if images else 0
    size = config.train.batch_size
    return DataFacts(
        info=source.info,
        mode=_MODES.get(channels, f"{channels} channels") if images else "",
        batch_size=size,
        tensors=tuple(_tensor(info, size) for info in tensors),
        stored=_stored(source.info.name, images) if images else None,
        classes=_classes(source.info.name, images) if images else (),
    )


def samples_of(source: DataSource, per_class: int) -> tuple[ImageSample, ...]:
    """Return the first images of each class, class by class; none where there are no files of images."""
    files = source.files if isinstance(source, ImageData) else None
    return tuple(_samples(files, source.info.classes or 0, per_class)) if files else ()


def _tensor(info: TensorInfo, batch_size: int) -> TensorFacts:
    dtype: torch.dtype = getattr(torch, info.dtype)
    size = math.prod(info.shape) * dtype.itemsize
    return TensorFacts(info=info, sample_bytes=size, batch_bytes=size * batch_size)


def _stored(name: str, images: ImageData) -> StoredFacts | None:
    preset = DATA_PRESETS.get(name)
    if preset is None:
        return None
    files, channels = images.files, len(preset.mean)
    # As many numbers as there are channels: every pixel of a channel is normalised alike, and the order is kept.
    ends = (
        [files.images.amin((0, 2, 3)), files.images.amax((0, 2, 3))] if files else [[0] * channels, [_WHITE] * channels]
    )
    low, high = (torch.as_tensor(end, dtype=torch.float32) for end in ends)
    mean, std = torch.tensor(preset.mean), torch.tensor(preset.std)
    return StoredFacts(
        dtype="uint8",
        sample_bytes=math.prod(preset.shape),
        low=int(low.min()),
        high=int(high.max()),
        mean=preset.mean,
        std=preset.std,
        trained_low=float(((low / _WHITE - mean) / std).min()),
        trained_high=float(((high / _WHITE - mean) / std).max()),
        measured=files is not None,
    )


def _classes(name: str, images: ImageData) -> tuple[ClassFacts, ...]:
    preset = DATA_PRESETS.get(name)
    if preset is None:
        return ()
    counts: list[int | None] = [None] * preset.classes
    if images.files is not None:
        counts = torch.bincount(images.files.targets, minlength=preset.classes).tolist()
    return tuple(ClassFacts(name=name, count=count) for name, count in zip(preset.names, counts, strict=True))


def _samples(files: Files, classes: int, per_class: int) -> Iterator[ImageSample]:
    for label in range(classes):
        for index in (files.targets == label).nonzero().flatten()[:per_class].tolist():
            image = files.images[index].permute(1, 2, 0)
            height, width, channels = image.shape
            yield ImageSample(label=label, shape=(height, width, channels), pixels=tuple(image.flatten().tolist()))
