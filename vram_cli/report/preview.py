"""A row of samples in the terminal: two pixels to a character where there are colours, shades of characters elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from vram_cli.report.words import spelled
from vram_cli.results import ImageSample

Pixel = tuple[int, int, int]
Image = list[list[Pixel]]

_GAP = 2
_SHADES = " .:-=+*#%@"
_LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue add to brightness (ITU-R BT.601)."""


def can_show_colours(console: Console) -> bool:
    """Whether the console has more than the 16 colours of old, which make nothing of a photograph."""
    return console.color_system in ("256", "truecolor") and not console.options.ascii_only


class Preview:
    """As many samples as the console is wide for, one of each class, with the names of the classes below."""

    def __init__(self, samples: Sequence[ImageSample], names: Sequence[str]) -> None:
        first = {sample.label: sample for sample in reversed(samples)}
        self._samples = [(names[label], first[label]) for label in sorted(first)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw them side by side."""
        images = [(name, _halved(sample)) for name, sample in self._samples]
        across = len(images[0][1][0])
        shown = images[: max(1, (options.max_width + _GAP) // (across + _GAP))]
        coloured = can_show_colours(console)
        gap = Segment(" " * _GAP)
        for top in range(0, max(len(image) for _, image in shown), 2):
            for _, image in shown:
                above, below = image[top], image[min(top + 1, len(image) - 1)]
                yield from _blocks(above, below) if coloured else _shades(above, below)
                yield gap
            yield Segment.line()
        for name, _ in shown:
            yield Segment(spelled(name)[:across].center(across))
            yield gap
        yield Segment.line()
