"""The text of an answer: the answer first, then where the memory goes, how that is known, and what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.text import Text

from vram_cli.errors import ConfigError
from vram_cli.records import Breakdown, Result
from vram_cli.report.evidence import evidence, evidence_title
from vram_cli.report.headline import headline
from vram_cli.report.modules import modules_table
from vram_cli.report.next_step import Step, next_step
from vram_cli.report.tables import breakdown_table, pairs
from vram_cli.report.throughput import pace_table
from vram_cli.report.timeline import timeline_chart
from vram_cli.report.words import literal

_INDENT = 2


def answer(result: Result, *, depth: int | None = None, timeline: bool = False) -> RenderableType:
    """Return the text of a result, to be drawn as wide as the console is.

    Args:
        result: what a command found.
        depth: down to which depth the peak is shown by module; None shows no modules.
        timeline: whether memory over a step is shown.

    Raises:
        ConfigError: what is to be shown was not measured.
    """
    if depth is not None or timeline:
        require_detail(result)
    return _Answer(result, depth, timeline=timeline)


def require_detail(result: Result) -> Breakdown:
    """Return the result's breakdown, which has modules and a timeline.

    Raises:
        ConfigError: it has none.
    """
    made = result.breakdown
    if made is None or not made.modules or made.timeline is None:
        raise ConfigError(
            f"this result of `vram {result.command}` has no modules and no timeline",
            "`vram breakdown --by module --timeline --save FILE` measures both and keeps them",
        )
    return made


def next_command(step: Step, width: int) -> RenderableType:
    """Return what to try next, with the command for a console of `width` columns."""
    command = literal(_command(step.words, width - _INDENT), "cyan")
    return Group(Text.assemble(("Next: ", "bold"), step.purpose), Padding(command, (0, 0, 0, _INDENT)))


class _Answer:
    """How wide it is and which characters it may use is known only when it is drawn."""

    def __init__(self, result: Result, depth: int | None, *, timeline: bool) -> None:
        self._result, self._depth, self._timeline = result, depth, timeline

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the sections with an empty line between two."""
        for index, section in enumerate(self._sections(options.max_width)):
            if index:
                yield Segment.line()
            yield section

    def _sections(self, width: int) -> Iterator[RenderableType]:
        result = self._result
        if result.run.remark:
            yield literal(result.run.remark, "yellow")
        yield _headline(result)
        if result.breakdown is not None:
            yield breakdown_table(result.breakdown, result.run.device, width)
        if self._depth is not None:
            yield modules_table(require_detail(result), result.run.device, width, self._depth)
        if self._timeline:
            yield timeline_chart(require_detail(result), result.run.device)
        if result.throughput is not None:
            yield pace_table(result, result.throughput, width)
        yield _evidence(result)
        if result.notes:
            yield pairs([(Text("Note:", "yellow"), literal(note)) for note in result.notes])
        yield next_command(next_step(result), width)


def _headline(result: Result) -> RenderableType:
    lines = headline(result)
    if len(lines) == 1:
        label, text = lines[0]
        return Text.assemble(literal(label, "bold"), " ", literal(text))
    return pairs([(literal(label, "bold"), literal(text)) for label, text in lines])


def _evidence(result: Result) -> RenderableType:
    lines = pairs([(literal(name, "dim"), literal(text)) for name, text in evidence(result)])
    return Group(Text(evidence_title(result), "bold"), Padding(lines, (0, 0, 0, _INDENT)))


def _command(words: Sequence[str], width: int) -> str:
    """Return the command quoted for a shell; where it is too long for a line, each option has a line of its own."""
    quoted = [shlex.quote(word) for word in words]
    line = " ".join(quoted)
    if len(line) <= width:
        return line
    return "".join(f" \\\n  {word}" if word.startswith("--") else f" {word}" for word in quoted).lstrip()
