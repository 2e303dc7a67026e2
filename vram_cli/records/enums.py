"""The words that records use: how a trial ended, in which phase, what limits a search, what memory is for."""

from __future__ import annotations

from enum import Enum

SCHEMA_VERSION = 1
"""Of the JSON that is printed and saved; it changes where a reader of the old one would be misled."""


class Outcome(str, Enum):
    """How a trial ended."""

    FITS = "fits"
    OUT_OF_MEMORY = "out_of_memory"
    """The device, or the budget that stands for it, had no memory left."""
    KERNEL_LIMIT = "kernel_limit"
    """A kernel refused the size: grid dimensions, 32-bit indices, an unsupported shape."""
    HOST_MEMORY = "host_memory"
    """The computer's own RAM, not the device, was about to run out."""
    KILLED = "killed"
    """The process of the trial died: a signal, a crash in a driver."""
    TIMED_OUT = "timed_out"
    """The trial was stopped because its time was over."""
    ERROR = "error"
    """The user's own code raised something that has nothing to do with memory."""


class Detail(str, Enum):
    """What a measurement carries beside the peaks of its phases."""

    NONE = "none"
    ROWS = "rows"
    """A breakdown of the last step by category."""
    MODULES = "modules"
    """A breakdown by category and by module, with a timeline of the step."""
    TIMES = "times"
    """The seconds of each step, run without any tracking, in place of memory peaks."""


class Phase(str, Enum):
    """Where in a trial something happened, in the order in which they run."""

    BUILD = "build"
    """Model and optimizer are made and moved to the device."""
    BATCH = "batch"
    """The batch is collated and moved to the device."""
    FORWARD = "forward"
    """Model and loss."""
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"
    """The optimizer's step, with unscaling where a gradient scaler is used."""


class Limit(str, Enum):
    """What stopped the search from going higher."""

    MEMORY = "memory"
    DATASET = "dataset"
    """The data set has no more samples than that."""
    MAX_BATCH_SIZE = "max_batch_size"
    """The user's own maximum."""
    KERNEL_LIMIT = "kernel_limit"
    HOST_MEMORY = "host_memory"
    TIME = "time"
    ERROR = "error"
    """The user's own code raises at larger sizes, for a reason other than memory."""


class Category(str, Enum):
    """The rows of a breakdown, in the order in which they are shown. Together they are the device's whole memory."""

    PARAMETERS = "parameters"
    """Parameters and buffers of the model."""
    GRADIENTS = "gradients"
    """Gradients of parameters; gradients of activations are temporaries."""
    OPTIMIZER_STATE = "optimizer_state"
    BATCH_DATA = "batch_data"
    ACTIVATIONS = "activations"
    """Made in the forward pass and still alive when it ends: what the backward pass needs."""
    TEMPORARIES = "temporaries"
    """Everything else that a step allocates for a while, workspaces of cuBLAS and cuDNN among it."""
    ALLOCATOR_SLACK = "allocator_slack"
    """Reserved by the allocator and not handed out: rounding, fragmentation, cached blocks."""
    CONTEXT = "context"
    """Outside PyTorch's allocator: the CUDA context, libraries, other processes on the same device."""
    FREE = "free"
