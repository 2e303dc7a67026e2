"""Enums of the records: outcomes of trials, phases, limits of a search, categories of memory."""

from __future__ import annotations

from enum import Enum

SCHEMA_VERSION = 1
"""Version of the JSON. It increases with every change that an existing reader would misinterpret."""


class Outcome(str, Enum):
    """How a trial ended."""

    FITS = "fits"
    OUT_OF_MEMORY = "out_of_memory"
    """The device, or the memory limit, had no memory left."""
    KERNEL_LIMIT = "kernel_limit"
    """A kernel refused the size: grid dimensions, 32-bit indices, an unsupported shape."""
    HOST_MEMORY = "host_memory"
    """The computer's RAM, not the device's memory, was about to run out."""
    KILLED = "killed"
    """The worker process died, such as by a signal or a crash in a driver."""
    TIMED_OUT = "timed_out"
    """The trial exceeded its time limit."""
    ENDED = "ended"
    """A script ended by itself before it had run its steps, as at the end of its data."""
    ERROR = "error"
    """The user's code raised an error unrelated to memory."""


class Detail(str, Enum):
    """The detail of a measurement beyond the peaks of its phases."""

    NONE = "none"
    ROWS = "rows"
    """A breakdown of the last step by category."""
    MODULES = "modules"
    """A breakdown by category and by module, with a timeline of the step."""
    TIMES = "times"
    """The seconds of each step, run without tracking, instead of memory peaks."""
    VALIDATION = "validation"
    """The peak of a script's validation, after the steps of the trial."""


class Phase(str, Enum):
    """The phases of a trial, in order."""

    BUILD = "build"
    """Building the model and the optimizer, and moving them to the device."""
    BATCH = "batch"
    """Collating the batch, and moving it to the device."""
    FORWARD = "forward"
    """The model and the loss."""
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"
    """The optimizer's step, including unscaling by a gradient scaler."""
    VALIDATION = "validation"
    """Forward passes without gradients in a training script."""


class Limit(str, Enum):
    """The limit that ended a search."""

    MEMORY = "memory"
    DATASET = "dataset"
    """The number of samples in the data set."""
    MAX_BATCH_SIZE = "max_batch_size"
    """`search.max_batch_size`."""
    KERNEL_LIMIT = "kernel_limit"
    HOST_MEMORY = "host_memory"
    END_OF_SCRIPT = "end_of_script"
    """At larger sizes a script ends before it has run its steps."""
    TIME = "time"
    ERROR = "error"
    """The user's code raises at larger sizes, for a reason other than memory."""


class Category(str, Enum):
    """The rows of a breakdown, in display order. They add up to the device's memory."""

    PARAMETERS = "parameters"
    """Parameters and buffers of the model."""
    GATHERED_PARAMETERS = "gathered_parameters"
    """Parameters of all ranks, gathered for the modules that are running (FSDP2)."""
    GRADIENTS = "gradients"
    """Gradients of parameters; gradients of activations are temporaries."""
    GRADIENT_BUCKETS = "gradient_buckets"
    """Copies of gradients that DDP reduces over ranks; gradients that are views of their buckets are not copied."""
    REDUCE_SCATTER_BUFFERS = "reduce_scatter_buffers"
    """Gradients of whole modules, on their way to the ranks that hold them (FSDP2)."""
    OPTIMIZER_STATE = "optimizer_state"
    BATCH_DATA = "batch_data"
    KEPT = "kept"
    """Tensors that a script keeps from step to step besides these, such as a data set in memory."""
    ACTIVATIONS = "activations"
    """Tensors from the forward pass that are alive at its end, saved for the backward pass."""
    TEMPORARIES = "temporaries"
    """Everything else that a step allocates temporarily."""
    WORKSPACES = "workspaces"
    """Memory that kernels allocate for themselves, below the dispatcher: workspaces of cuBLAS and cuDNN, buffers of
    sorts and reductions."""
    ALLOCATOR_SLACK = "allocator_slack"
    """Reserved by the allocator but not allocated: rounding, fragmentation, cached blocks."""
    COMMUNICATION = "communication"
    """Outside PyTorch's allocator: NCCL's own buffers."""
    CONTEXT = "context"
    """Outside PyTorch's allocator: the CUDA context, libraries, other processes on the same device."""
    FREE = "free"


OF_ONE_RANK = tuple(
    category
    for category in Category
    if category
    not in (
        Category.KEPT,
        Category.GATHERED_PARAMETERS,
        Category.GRADIENT_BUCKETS,
        Category.REDUCE_SCATTER_BUFFERS,
        Category.COMMUNICATION,
    )
)
"""The categories of a config's training on one GPU; the others are rows only if they hold memory."""
