"""The colour of each category in charts and pages, and the order in which a timeline stacks them."""

from __future__ import annotations

from vram_cli.records import Category

COLOURS = {
    Category.PARAMETERS: "#4477aa",
    Category.GATHERED_PARAMETERS: "#99bbdd",
    Category.GRADIENTS: "#aa3377",
    Category.GRADIENT_BUCKETS: "#cc88aa",
    Category.REDUCE_SCATTER_BUFFERS: "#ddaacc",
    Category.OPTIMIZER_STATE: "#66ccee",
    Category.BATCH_DATA: "#bbbbbb",
    Category.KEPT: "#dddddd",
    Category.ACTIVATIONS: "#ccbb44",
    Category.TEMPORARIES: "#ee6677",
    Category.WORKSPACES: "#ee8866",
    Category.ALLOCATOR_SLACK: "#228833",
    Category.COMMUNICATION: "#999933",
    Category.CONTEXT: "#777777",
}
"""Distinguishable by colour-blind readers (Paul Tol's "bright" scheme, with one more grey); free memory has none.

The terminal uses the nearest of its own colours (`formats.timeline.INKS`)."""

STACK = (
    Category.PARAMETERS,
    Category.OPTIMIZER_STATE,
    Category.GRADIENT_BUCKETS,
    Category.GRADIENTS,
    Category.BATCH_DATA,
    Category.KEPT,
    Category.ACTIVATIONS,
    Category.GATHERED_PARAMETERS,
    Category.REDUCE_SCATTER_BUFFERS,
    Category.TEMPORARIES,
    Category.WORKSPACES,
)
"""The categories that tensors hold, from the bottom of a timeline to its top: the longest-lived first."""
