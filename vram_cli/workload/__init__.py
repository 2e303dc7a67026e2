"""What is trained: model, data, loss, optimizer, precision and the step. Knows nothing of where it runs."""

from vram_cli.workload.batches import Batch, channels_last, tensors_of
from vram_cli.workload.data import DataSource, open_data, shapes_of, shapes_only
from vram_cli.workload.data_facts import facts_of, samples_of
from vram_cli.workload.indexed import Indexed, indexed
from vram_cli.workload.losses import criterion_of, forward, supervised
from vram_cli.workload.models import build_model
from vram_cli.workload.steps import train_step, update
from vram_cli.workload.user_code import blame, look_in, words_of
from vram_cli.workload.workload import (
    Workload,
    build_workload,
    check_code,
    parameter_dtype,
    set_matmul_precision,
    workload_of,
)

__all__ = [
    "Batch",
    "DataSource",
    "Indexed",
    "Workload",
    "blame",
    "build_model",
    "build_workload",
    "channels_last",
    "check_code",
    "criterion_of",
    "facts_of",
    "forward",
    "indexed",
    "look_in",
    "open_data",
    "parameter_dtype",
    "samples_of",
    "set_matmul_precision",
    "shapes_of",
    "shapes_only",
    "supervised",
    "tensors_of",
    "train_step",
    "update",
    "words_of",
    "workload_of",
]
