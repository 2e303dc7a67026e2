"""The workload: model, data, loss, optimizer, precision and the step, independent of the device that runs them."""

from vram_cli.workload.batches import Batch, channels_last, tensors_of
from vram_cli.workload.build_workload import (
    build_workload,
    check_code,
    convolutions_use_tf32,
    moved,
    set_matmul_precision,
    workload_of,
)
from vram_cli.workload.data_source import DataSource, IndexedSamples, ShapesOnly
from vram_cli.workload.error_text import text_of, traceback_of
from vram_cli.workload.losses import criterion_of, forward, supervised
from vram_cli.workload.models import build_model, data_dtype, data_dtype_name, parameter_dtype
from vram_cli.workload.open_data import open_data
from vram_cli.workload.steps import evaluation_step, train_step, update
from vram_cli.workload.user_code import add_import_path, config_key_of, error_summary
from vram_cli.workload.workload import Workload

__all__ = [
    "Batch",
    "DataSource",
    "IndexedSamples",
    "ShapesOnly",
    "Workload",
    "add_import_path",
    "build_model",
    "build_workload",
    "channels_last",
    "check_code",
    "config_key_of",
    "convolutions_use_tf32",
    "criterion_of",
    "data_dtype",
    "data_dtype_name",
    "error_summary",
    "evaluation_step",
    "forward",
    "moved",
    "open_data",
    "parameter_dtype",
    "set_matmul_precision",
    "supervised",
    "tensors_of",
    "text_of",
    "traceback_of",
    "train_step",
    "update",
    "workload_of",
]
