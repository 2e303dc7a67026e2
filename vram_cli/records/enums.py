"""Enumerations of the records: outcomes, phases, limits, categories of memory."""

from __future__ import annotations

from enum import Enum

SCHEMA_VERSION = 1
"""Version of the JSON; it changes if readers of the old version would be misled."""


class Outcome(str, Enum):
    """How a trial ended."""

    FITS = "fits"
    OUT_OF_MEMORY = "out_of_memory"
    """The device, or its memory limit, was exhausted."""
    KERNEL_LIMIT = "kernel_limit"
    """A kernel refused the size: grid dimensions, 32-bit indices, an unsupported shape."""
    HOST_MEMORY = "host_memory"
    """The computer's RAM, not the device's memory, was about to run out."""
    KILLED = "killed"
    """The worker process died: a signal, a crash in a driver."""
    TIMED_OUT = "timed_out"
    """The trial was stopped at its time limit."""
    ERROR = "error"
    """The user's code raised an error unrelated to memory."""


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
    """Model and optimizer are created and moved to the device."""
    BATCH = "batch"
    """The batch is collated and moved to the device."""
    FORWARD = "forward"
    """Model and loss."""
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"
    """The optimizer's step, with unscaling if a gradient scaler is used."""


class Limit(str, Enum):
    """The limit that ended a search."""

    MEMORY = "memory"
    DATASET = "dataset"
    """The number of samples in the data set."""
    MAX_BATCH_SIZE = "max_batch_size"
    """The user's maximum, `search.max_batch_size`."""
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
    """Created in the forward pass and needed by the backward pass."""
    TEMPORARIES = "temporaries"
    """All other allocations of a step, workspaces of cuBLAS and cuDNN included."""
    ALLOCATOR_SLACK = "allocator_slack"
    """Reserved by the allocator but not allocated: rounding, fragmentation, cached blocks."""
    CONTEXT = "context"
    """Outside PyTorch's allocator: the CUDA context, libraries, other processes on the same device."""
    FREE = "free"
