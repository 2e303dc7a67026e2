"""A result as GitHub-flavoured Markdown, for pull requests and the summaries of jobs."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from shlex import join

from rich.console import Console, RenderableType

from vram_cli.records import Advice, Breakdown, CheckResult, Device, Result
from vram_cli.report.advice import CARD_HEADS, card_rows, lever_heads, lever_rows, remarks, summary, useless
from vram_cli.report.answer import require_detail
from vram_cli.report.console import Trimmed
from vram_cli.report.evidence import evidence, evidence_title, proof
from vram_cli.report.headline import headline
from vram_cli.report.modules import modules_table, modules_title
from vram_cli.report.next_step import again, to_use
from vram_cli.report.tables import (
    SIZE_HEADS,
    TRIAL_HEADS,
    breakdown_title,
    size_cells,
    trial_cells,
    trials_title,
)
from vram_cli.report.throughput import PACE_HEADS, PACE_NOTE, PACE_TITLE, pace_cells
from vram_cli.report.timeline import timeline_chart, timeline_title
from vram_cli.report.verdict import (
    MODULE_HEADS,
    ROW_HEADS,
    TITLES,
    facts,
    finding_words,
    module_cells,
    notes,
    row_cells,
    shown_modules,
    shown_rows,
    verdict_line,
)
from vram_cli.report.words import CATEGORY_LABELS, one_line, spelled

_WIDTH = 80
"""Of drawings in characters: what a comment shows without a bar to scroll by."""
_MESSAGE_LIMIT = 300
_UNNAMED = "@&#8203;"
"""With a space of no width behind it, no name begins."""
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~!$]")


def to_markdown(result: Result, *, depth: int | None = None, timeline: bool = False) -> str:
    """Return a result as Markdown.

    Args:
        result: what a command found.
        depth: down to which depth the peak is shown by module; None shows no modules.
        timeline: whether memory over a step is shown.

    Raises:
        ConfigError: what is to be shown was not measured.
    """
    return "\n\n".join(_blocks(result, depth, timeline=timeline)) + "\n"


def advice_to_markdown(advice: Advice) -> str:
    """Return the answer of `vram advise` as Markdown."""
    blocks = ["### What would let a larger batch fit"]
    blocks.append("\\\n".join(f"**{escaped(label)}** {escaped(text)}" for label, text in summary(advice)))
    if rows := lever_rows(advice):
        blocks.append(table(lever_heads(advice), [tuple(map(escaped, row)) for row in rows], 0, 4, 5))
    if others := useless(advice):
        lines = [f"- {escaped(name)}: {escaped(why)}" for name, why in others]
        blocks.append(_folded("What does not help", "\n".join(lines)))
    if advice.cards:
        cells = [tuple(map(escaped, row)) for row in card_rows(advice.cards)]
        blocks.append(f"**The same on other cards (predicted)**\n\n{table(CARD_HEADS, cells, 0, 4)}")
    if advice.run.remark:
        blocks.append(f"> **Note:** {escaped(advice.run.remark)}")
    blocks += [f"> **{escaped(label)}** {escaped(text)}" for label, text in remarks(advice)]
    step = to_use(advice)
    blocks.append(_folded(f"To {step.purpose}", _code(join(step.words), "sh")))
    return "\n\n".join(blocks) + "\n"


def verdict_to_markdown(verdict: CheckResult) -> str:
    """Return the answer of `vram check` as Markdown."""
    label, text = verdict_line(verdict)
    blocks = [f"### {'✅' if verdict.passed else '❌'} {escaped(label)} {escaped(text)}"]
    blocks += [
        f"**{escaped(TITLES[finding.kind].capitalize())}**: {escaped(finding_words(verdict, finding))}"
        for finding in verdict.findings
    ]
    blocks.append("\n".join(f"- **{escaped(name)}** {escaped(text)}" for name, text in facts(verdict)))
    if verdict.findings and verdict.rows:
        blocks.append(table(ROW_HEADS, [row_cells(change) for change in shown_rows(verdict)], 0))
        modules = [tuple(map(escaped, module_cells(change))) for change in shown_modules(verdict)]
        blocks.append(table(MODULE_HEADS, modules, 0) if modules else "")
    elif verdict.findings and verdict.result.breakdown is not None:
        blocks.append(_breakdown(verdict.result.breakdown, verdict.result.run.device))
    blocks += [f"> **Note:** {escaped(note)}" for note in notes(verdict)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def escaped(text: str) -> str:
    """Return text for the inside of a line, to be shown as it is; GitHub is to notify nobody of an @name in it."""
    line = _SPECIAL.sub(r"\\\g<0>", " ".join(spelled(text).split()).replace("&", "&amp;"))
    return line.replace("@", _UNNAMED)


def _blocks(result: Result, depth: int | None, *, timeline: bool) -> Iterator[str]:
    (label, text), *others = headline(result)
    yield f"### {escaped(label)} {escaped(text)}"
    if others:
        yield "\\\n".join(f"**{escaped(name)}** {escaped(line)}" for name, line in others)
    for note in filter(None, (result.run.remark, *result.notes)):
        yield f"> **Note:** {escaped(note)}"
    if result.breakdown is not None:
        yield _breakdown(result.breakdown, result.run.device)
    if result.throughput is not None:
        cells = [pace_cells(result, result.throughput, pace) for pace in result.throughput.points]
        paces = table(PACE_HEADS, cells, len(PACE_HEADS) - 1)
        yield f"**{escaped(PACE_TITLE)}**\n\n{paces}\n\n{escaped(PACE_NOTE)}"
    if proved := proof(result, _MESSAGE_LIMIT):
        yield f"**Proof:** {escaped('; '.join(proved))}"
    yield from _drawings(result, depth, timeline=timeline)
    if result.command == "find-batch" and result.trials:
        rows = [trial_cells(trial) for trial in result.trials]
        yield _folded(trials_title(result.run.device), table(TRIAL_HEADS, rows, 1))
    known = [(name, text.replace("\n", "; ")) for name, text in evidence(result) if name != "proof"]
    lines = [f"- **{name}**: {escaped(text)}" for name, text in known]
    yield _folded(evidence_title(result), "\n".join(lines))
    step = again(result)
    yield _folded(f"To {step.purpose}", _code(join(step.words), "sh"))


def _breakdown(breakdown: Breakdown, device: Device) -> str:
    total = breakdown.total_bytes
    rows = [(CATEGORY_LABELS[row.category], *size_cells(row.bytes, total)) for row in breakdown.rows]
    bold = tuple(f"**{cell}**" for cell in ("total", *size_cells(total, total)))
    drawn = table(("", *SIZE_HEADS), [*rows, bold], 0)
    return f"**{escaped(breakdown_title(breakdown, device))}**\n\n{drawn}"


def _drawings(result: Result, depth: int | None, *, timeline: bool) -> Iterator[str]:
    """Yield what the terminal shows of modules and timeline."""
    if depth is not None:
        made = require_detail(result)
        table = _drawn(modules_table(made, result.run.device, _WIDTH, depth))
        yield _folded(modules_title(made, result.run.device), _code(table, "text"))
    if timeline:
        made = require_detail(result)
        chart = _drawn(timeline_chart(made, result.run.device))
        yield _folded(timeline_title(made, result.run.device), _code(chart, "text"))


def _drawn(drawing: RenderableType) -> str:
    stream = io.StringIO()
    Console(file=stream, width=_WIDTH, color_system=None, markup=False, emoji=False, highlight=False).print(
        Trimmed(drawing)
    )
    return stream.getvalue().partition("\n")[2]  # without its title


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *words: int) -> str:
    """Return a table; the columns `words` are of words and the others of numbers. Cells are Markdown."""
    rules = [":---" if column in words else "---:" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows))


def _folded(title: str, content: str) -> str:
    # A line that begins with a tag is HTML to its end, so the title is escaped as HTML.
    summary = html.escape(one_line(spelled(title)), quote=False).replace("@", _UNNAMED)
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def _code(text: str, language: str) -> str:
    """Return a block of code, with a fence that is longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{spelled(text).rstrip()}\n{fence}"
