"""`vram inspect` as a function: the data and the model of a config."""

from __future__ import annotations

from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError
from vram_cli.probe.first_request import inspect_workload
from vram_cli.progress import SILENT, Progress
from vram_cli.records import Inspection


def inspect(
    config: Config | str | None = None, *, download: bool = False, samples: int = 0, progress: Progress = SILENT
) -> Inspection:
    """Describe a config's data and model; nothing is trained, and no GPU is needed.

    Code that the config names runs in a worker process. Output shapes of the model's layers come from a forward pass on
    tensors without memory, so that the model may be larger than this computer's RAM.

    Args:
        config: what to train; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        download: whether torchvision may download missing data files.
        samples: images to return per class, if there are image files.
        progress: receives what happens meanwhile.

    Raises:
        ConfigError: the config is wrong, or its data cannot be read.
        WorkloadError: code of the config raises while the data is opened or the model is built.
        MachineError: the computer runs out of RAM.
    """
    config = config if isinstance(config, Config) else load_config(config)
    if config.script is not None:
        raise ConfigError(
            f"{config.source}: vram inspect describes a model and data, which a script builds while it runs",
            "`vram breakdown --by module` shows the modules of a script",
        )
    progress.status("inspecting data and model")
    reply = inspect_workload(config, download=download, samples=samples)
    return Inspection(
        config_name=str(config.source.path or config.source.name),
        config=config.model_dump(mode="json"),
        overrides=config.source.overrides,
        data=reply.data,
        model=reply.model,
        versions=reply.versions,
        samples=reply.samples,
    )
