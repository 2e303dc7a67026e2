"""What is trained: model, data, optimizer, precision and the step. Knows nothing of where it runs."""

from vram_cli.workload.data import DataSource, open_data
from vram_cli.workload.models import build_model
from vram_cli.workload.step import train_step
from vram_cli.workload.workload import Workload, build_workload, parameter_dtype, set_matmul_precision, workload_of

__all__ = [
    "DataSource",
    "Workload",
    "build_model",
    "build_workload",
    "open_data",
    "parameter_dtype",
    "set_matmul_precision",
    "train_step",
    "workload_of",
]
