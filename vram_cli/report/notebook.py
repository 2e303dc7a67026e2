"""An answer in a cell of a notebook: its words and tables as a fragment of HTML, without styles, scripts and charts."""

from __future__ import annotations

from vram_cli.records import Advice, BreakdownResult, CheckResult, FindBatchResult
from vram_cli.report import document as doc
from vram_cli.report.answers.document_of import document_of
from vram_cli.report.formats.html import template

_MARKS = {"": "", "pass": "✅ ", "fail": "❌ "}


def to_fragment(record: FindBatchResult | BreakdownResult | Advice | CheckResult) -> str:
    """Return an answer as a fragment of a page."""
    document = document_of(record)
    blocks = [block for block in document.blocks if "html" in block.formats and _is_short(block)]
    return template("fragment.html").render(document=document, blocks=blocks, mark=_MARKS[document.verdict])


def _is_short(block: doc.Block) -> bool:
    return isinstance(block, doc.Notes) or (isinstance(block, doc.Table) and not block.is_tree)
