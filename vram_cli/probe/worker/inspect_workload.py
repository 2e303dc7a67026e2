"""What `vram inspect` has the child process look at: the data and the model of a config, with nothing trained."""

from __future__ import annotations

from vram_cli.config import Config
from vram_cli.probe.messages import WorkloadInspected
from vram_cli.probe.worker.model_layers import model_facts
from vram_cli.probe.worker.versions import versions
from vram_cli.workload import open_data


def inspect_workload(config: Config, *, download: bool, samples: int) -> WorkloadInspected:
    """Return what data and model are, with some images of each class where there are files of them.

    Raises:
        ConfigError: the data cannot be had, or the model cannot be built.
        Exception: what code of the config's raises, blamed on its key.
    """
    source = open_data(config, download=download)
    return WorkloadInspected(
        data=source.facts(config.train.batch_size),
        model=model_facts(config, source),
        samples=source.samples(samples),
        versions=versions(),
    )
