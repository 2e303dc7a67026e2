"""From any record to its document."""

from __future__ import annotations

from typing import Any

from vram_cli.records import Advice, BreakdownResult, CheckResult, FindBatchResult, Inspection
from vram_cli.report.document import Document

Record = FindBatchResult | BreakdownResult | Advice | CheckResult | Inspection


def document_of(record: Record, **options: Any) -> Document:
    """Return an answer as a document; the options are those of the function that builds it.

    Raises:
        ConfigError: an option needs something that was not measured.
    """
    if isinstance(record, FindBatchResult):
        from vram_cli.report.answers.find_batch import find_batch_document

        return find_batch_document(record, **options)
    if isinstance(record, BreakdownResult):
        from vram_cli.report.answers.breakdown import breakdown_document

        return breakdown_document(record, **options)
    if isinstance(record, Advice):
        from vram_cli.report.answers.advice import advice_document

        return advice_document(record)
    if isinstance(record, CheckResult):
        from vram_cli.report.answers.check import check_document

        return check_document(record)
    from vram_cli.report.answers.inspection import inspection_document

    return inspection_document(record, **options)
