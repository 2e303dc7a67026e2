"""Records that a notebook shows as a table."""

from __future__ import annotations

from importlib import import_module


class ShownInNotebooks:
    """Shows a record in Jupyter as the answer in words and its tables."""

    def _repr_html_(self) -> str:
        # Imported by name, and only here: no record depends on how it is displayed.
        fragment: str = import_module("vram_cli.report.notebook").to_fragment(self)
        return fragment
