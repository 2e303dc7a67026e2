"""The colour of each category wherever there are colours to choose from: pictures and pages."""

from __future__ import annotations

from vram_cli.records import Category

COLOURS = {
    Category.PARAMETERS: "#4477aa",
    Category.GRADIENTS: "#aa3377",
    Category.OPTIMIZER_STATE: "#66ccee",
    Category.BATCH_DATA: "#bbbbbb",
    Category.ACTIVATIONS: "#ccbb44",
    Category.TEMPORARIES: "#ee6677",
    Category.ALLOCATOR_SLACK: "#228833",
    Category.CONTEXT: "#777777",
}
"""Told apart by colour-blind readers too (Paul Tol's "bright" scheme, with one more grey); what is free has none.

The terminal has the nearest of its own colours (`timeline.INKS`)."""
