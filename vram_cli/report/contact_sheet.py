"""A contact sheet: samples of each class as a PNG, drawn with Pillow, which comes with torchvision."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from vram_cli.errors import ConfigError
from vram_cli.files import check_writable, write_file
from vram_cli.records import ImageSample, Inspection
from vram_cli.report.words import number

if TYPE_CHECKING:
    from PIL import Image

PER_CLASS = 10
"""Samples per row."""

_CELL = 84
"""Minimum size of a sample's longer side: scaled by whole multiples, so that each pixel stays square."""
_GAP, _MARGIN = 4, 16
_NAME, _COUNT, _TITLE = 18, 14, 22
"""Font sizes."""
_INK, _PALE, _PAPER = "#1a1a1a", "#767676", "#ffffff"


def check_sheet(path: Path, *, force: bool = False) -> None:
    """Check that `save_sheet` could write there.

    Raises:
        ConfigError: the file's name does not end in .png, or it cannot be written.
    """
    if path.suffix.lower() != ".png":
        hint = "choose a name that ends in .png; --json prints the facts about data and model"
        raise ConfigError(f"--save {path}: `vram inspect` saves a picture of samples", hint)
    check_writable(path, force=force)


def save_sheet(inspection: Inspection, path: Path, *, force: bool = False) -> None:
    """Write the samples of an inspection as a picture: a row per class, with its name and number of samples.

    Raises:
        ConfigError: as `check_sheet` does.
    """
    check_sheet(path, force=force)
    buffer = io.BytesIO()
    contact_sheet(inspection).save(buffer, format="PNG", optimize=True)
    write_file(buffer.getvalue(), path, force=force)


def contact_sheet(inspection: Inspection) -> Image.Image:
    """Return the picture; the inspection has samples."""
    from PIL import Image, ImageDraw, ImageFont

    data, samples = inspection.data, inspection.samples
    rows = [[sample for sample in samples if sample.label == label] for label in range(len(data.classes))]
    height, width, _ = samples[0].shape
    scale = -(-_CELL // max(height, width))
    size = width * scale, height * scale
    font, small, large = (ImageFont.load_default(points) for points in (_NAME, _COUNT, _TITLE))
    captions = [(facts.name, f"{number(facts.count or 0)} samples") for facts in data.classes]
    heading = f"{data.info.name}: the first {max(map(len, rows))} of each class"
    left = 2 * _MARGIN + int(max(max(font.getlength(name), small.getlength(many)) for name, many in captions))
    top = 2 * _MARGIN + _TITLE
    across = max(left + max(map(len, rows)) * (size[0] + _GAP), _MARGIN + int(large.getlength(heading)))
    sheet = Image.new("RGB", (across + _MARGIN, top + len(rows) * (size[1] + _GAP) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), heading, fill=_INK, font=large)
    for row, (members, (name, many)) in enumerate(zip(rows, captions, strict=True)):
        y = top + row * (size[1] + _GAP)
        middle = y + size[1] // 2
        draw.text((_MARGIN, middle), name, fill=_INK, font=font, anchor="ls")
        draw.text((_MARGIN, middle + _COUNT + _GAP), many, fill=_PALE, font=small, anchor="ls")
        for column, sample in enumerate(members):
            picture = _picture(sample).resize(size, Image.Resampling.NEAREST)
            sheet.paste(picture, (left + column * (size[0] + _GAP), y))
    return sheet


def _picture(sample: ImageSample) -> Image.Image:
    from PIL import Image

    height, width, channels = sample.shape
    return Image.frombytes("L" if channels == 1 else "RGB", (width, height), bytes(sample.pixels))
