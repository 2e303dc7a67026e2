"""A result as one HTML file that needs nothing else: no network, no scripts, charts drawn as inline SVG."""

from __future__ import annotations

from vram_cli.report.html.page import check_report, save_report, to_html

__all__ = ["check_report", "save_report", "to_html"]
