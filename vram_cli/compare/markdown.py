"""A comparison as GitHub-flavoured Markdown."""

from __future__ import annotations

from vram_cli.compare.records import Comparison
from vram_cli.compare.report import NOISE_WORDS, summary, tables
from vram_cli.report.markdown import escaped, table


def comparison_to_markdown(comparison: Comparison) -> str:
    """Return the answer of `vram compare` as Markdown."""
    blocks = ["### What the batch size does to training"]
    if comparison.run.remark:
        blocks.append(f"> {escaped(comparison.run.remark)}")
    blocks.append("\\\n".join(f"**{escaped(label)}** {escaped(text)}" for label, text in summary(comparison)))
    for title, heads, rows in tables(comparison):
        cells = [tuple(escaped(cell) for cell in row) for row in rows]
        blocks.append(f"**{escaped(title)}**\n\n{table(heads, cells)}")
    blocks.append(f"<sub>{escaped(NOISE_WORDS)}</sub>")
    if comparison.findings:
        blocks.append("\n".join(f"- {escaped(sentence)}." for sentence in comparison.findings))
    return "\n\n".join(blocks) + "\n"
