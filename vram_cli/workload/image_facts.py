"""Facts about images: their stored form, their classes, and the first of each class."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from vram_cli.config import DATA_PRESETS
from vram_cli.records import ClassFacts, ImageSample, StoredFacts
from vram_cli.workload.image_files import ImageFiles

_WHITE = 255


def stored_facts(name: str, files: ImageFiles | None) -> StoredFacts | None:
    """Return the stored form of a data set's images, measured if there are files; None if it is not a preset."""
    preset = DATA_PRESETS.get(name)
    if preset is None:
        return None
    channels = len(preset.mean)
    # One value per channel: all pixels of a channel are normalized alike, which keeps their order.
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


def class_facts(name: str, files: ImageFiles | None) -> tuple[ClassFacts, ...]:
    """Return the classes of a data set, counted if there are files; empty if it is not a preset."""
    preset = DATA_PRESETS.get(name)
    if preset is None:
        return ()
    counts: list[int | None] = [None] * preset.classes
    if files is not None:
        counts = torch.bincount(files.targets, minlength=preset.classes).tolist()
    return tuple(ClassFacts(name=name, count=count) for name, count in zip(preset.names, counts, strict=True))


def first_images(files: ImageFiles, classes: int, per_class: int) -> Iterator[ImageSample]:
    """Return the first images of each class, class by class."""
    for label in range(classes):
        for index in (files.targets == label).nonzero().flatten()[:per_class].tolist():
            image = files.images[index].permute(1, 2, 0)
            height, width, channels = image.shape
            yield ImageSample(label=label, shape=(height, width, channels), pixels=tuple(image.flatten().tolist()))
