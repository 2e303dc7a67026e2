"""What `vram inspect` asks: what is trained, and on what?"""

from __future__ import annotations

from collections.abc import Callable

from vram_cli.config import Config, load_config
from vram_cli.probe.inspect_client import look_in_child
from vram_cli.records import Inspection


def inspect(
    config: Config | str | None = None,
    *,
    download: bool = False,
    samples: int = 0,
    status: Callable[[str], None] = lambda _: None,
) -> Inspection:
    """Look at a config's data and model; nothing is trained, and no GPU is needed.

    In a child process: code that the config names runs there. Output shapes of the model's layers come from a forward
    pass on tensors without memory, so that it may be larger than this computer's RAM.

    Args:
        config: what to train; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        download: whether torchvision may download the data set if it is not there.
        samples: images to return of each class, where there are files of images.
        status: told in a few words what is going on.

    Raises:
        ConfigError: the config says something wrong, or its data cannot be had.
        WorkloadError: code of the config's raises while the data is opened or the model built.
        MachineError: the computer runs out of RAM.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    status("looking at data and model")
    seen = look_in_child(settings, download=download, samples=samples)
    return Inspection(
        config_name=str(settings.source.path or settings.source.name),
        config=settings.model_dump(mode="json"),
        overrides=settings.source.overrides,
        data=seen.data,
        model=seen.model,
        versions=seen.versions,
        samples=seen.samples,
    )
