"""Draw things as a console of a given width and encoding would, off a terminal."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from vram_cli.report.console import Trimmed


def draw(drawing: RenderableType, width: int, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    Console(file=stream, width=width, height=25, markup=False, highlight=False).print(Trimmed(drawing))
    stream.seek(0)
    return stream.read()
