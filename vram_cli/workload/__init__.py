"""What is trained: model, data, loss, optimizer, precision and the step. Knows nothing of where it runs."""

from vram_cli.workload.batches import Batch, channels_last, tensors_of
from vram_cli.workload.build_workload import (
    build_workload,
    check_code,
    parameter_dtype,
    set_matmul_precision,
    workload_of,
)
from vram_cli.workload.data import open_data
from vram_cli.workload.data_source import DataSource, IndexedSamples
from vram_cli.workload.losses import criterion_of, forward, supervised
from vram_cli.workload.models import build_model
from vram_cli.workload.steps import evaluation_step, train_step, update
from vram_cli.workload.user_code import blame, look_in, words_of
from vram_cli.workload.workload import Workload

__all__ = [
    "Batch",
    "DataSource",
    "IndexedSamples",
    "Workload",
    "blame",
    "build_model",
    "build_workload",
    "channels_last",
    "check_code",
    "criterion_of",
    "evaluation_step",
    "forward",
    "look_in",
    "open_data",
    "parameter_dtype",
    "set_matmul_precision",
    "supervised",
    "tensors_of",
    "train_step",
    "update",
    "words_of",
    "workload_of",
]
