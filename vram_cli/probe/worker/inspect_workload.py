"""Describe the data and the model of a config for `vram inspect`, without training."""

from __future__ import annotations

from vram_cli.config import Config
from vram_cli.probe.messages import WorkloadInspected
from vram_cli.probe.worker.model_layers import model_facts
from vram_cli.probe.worker.versions import versions
from vram_cli.records import ModelFacts
from vram_cli.workload import open_data


def inspect_workload(config: Config, *, download: bool, samples: int) -> WorkloadInspected:
    """Return a description of data and model, with `samples` images per class if the data are image files.

    Raises:
        ConfigError: the data cannot be loaded, or the model cannot be built.
        Exception: any exception of code that the config names, annotated with its key.
    """
    source = open_data(config, download=download)
    model = model_facts(config, source)
    source.info = source.info.for_model(_data_dtype(model))
    return WorkloadInspected(
        data=source.facts(config.train.batch_size),
        model=model,
        samples=source.samples(samples),
        versions=versions(),
    )


def _data_dtype(model: ModelFacts) -> str:
    """Return the dtype of data that follow the model (workload.data_dtype)."""
    names = ("float16", "bfloat16", "float32", "float64")
    return next((facts.dtype for facts in model.dtypes if facts.parameters and facts.dtype in names), "float32")
