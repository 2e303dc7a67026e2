"""The config's data: named images, tensors that it declares, or the user's code."""

from __future__ import annotations

from vram_cli.config import Config
from vram_cli.workload.data_source import DataSource
from vram_cli.workload.image_data import open_images
from vram_cli.workload.open_user_data import open_user_data
from vram_cli.workload.synthetic_tensors import SyntheticTensors


def open_data(config: Config, *, download: bool = False, read_files: bool = True) -> DataSource:
    """Open the config's data.

    Args:
        config: names the data.
        download: whether to download the files of a named data set if they are missing.
        read_files: whether to read files of images; predictions need their shapes only.

    Raises:
        ConfigError: `source: files` without files that torchvision can read, or code that cannot be used.
    """
    if config.data.factory is not None:
        return open_user_data(config)
    if config.data.inputs is not None:
        return SyntheticTensors(config)
    return open_images(config, download=download, read_files=read_files)
