"""Sphinx configuration: `make docs` builds the pages of this folder."""

project = "vram"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
myst_heading_anchors = 4
