"""Sample images in the terminal: two pixels per character if it has enough colours, else shades of ASCII."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from vram_cli.records import ImageSample
from vram_cli.report.words import spelled

Pixel = tuple[int, int, int]
Image = list[list[Pixel]]

_GAP = 2
_SHADES = " .:-=+*#%@"
_LUMA = (0.299, 0.587, 0.114)
"""The share of red, green and blue in brightness (ITU-R BT.601)."""


def has_colours(console: Console) -> bool:
    """Return whether the console has more than 16 colours, which are too few for a photograph."""
    return console.color_system in ("256", "truecolor") and not console.options.ascii_only


class SampleImages:
    """The first sample of each class, as many as fit the width, with the names of the classes below.

    In colour an image is recognisable at half its size; shades of characters need all of its pixels.
    """

    def __init__(self, samples: Sequence[ImageSample], class_names: Sequence[str]) -> None:
        first = {sample.label: sample for sample in reversed(samples)}
        self._images = [(spelled(class_names[label]), _image(first[label])) for label in sorted(first)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        coloured = has_colours(console)
        draw = _blocks if coloured else _shades
        images = [(name, _halved(image) if coloured else image) for name, image in self._images]
        across = len(images[0][1][0])
        shown = images[: max(1, (options.max_width + _GAP) // (across + _GAP))]
        for top in range(0, len(shown[0][1]), 2):
            yield from _row(draw(*(image[top : top + 2] * 2)[:2]) for _, image in shown)
        yield from _row([Segment(name[:across].center(across))] for name, _ in shown)


def _row(parts: Iterable[Iterable[Segment]]) -> Iterator[Segment]:
    for index, part in enumerate(parts):
        if index:
            yield Segment(" " * _GAP)
        yield from part
    yield Segment.line()


def _blocks(above: list[Pixel], below: list[Pixel]) -> Iterator[Segment]:
    for upper, lower in zip(above, below, strict=True):
        yield Segment("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))


def _shades(above: list[Pixel], below: list[Pixel]) -> Iterator[Segment]:
    for pixels in zip(above, below, strict=True):
        bright = sum(share * (pixels[0][i] + pixels[1][i]) / 2 for i, share in enumerate(_LUMA))
        yield Segment(_SHADES[int(bright / 256 * len(_SHADES))])


def _image(sample: ImageSample) -> Image:
    height, width, channels = sample.shape
    pixels = [sample.pixels[start : start + channels] for start in range(0, len(sample.pixels), channels)]
    colours = [(pixel[0], pixel[0], pixel[0]) if channels == 1 else (pixel[0], pixel[1], pixel[2]) for pixel in pixels]
    return [colours[row * width : (row + 1) * width] for row in range(height)]


def _halved(image: Image) -> Image:
    """Return the image with each square of four pixels averaged into one."""
    pairs = list(zip(image[::2], image[1::2], strict=False))
    return [[_mean(above[x : x + 2] + below[x : x + 2]) for x in range(0, len(above) - 1, 2)] for above, below in pairs]


def _mean(pixels: list[Pixel]) -> Pixel:
    red, green, blue = (sum(values) // len(pixels) for values in zip(*pixels, strict=True))
    return red, green, blue
