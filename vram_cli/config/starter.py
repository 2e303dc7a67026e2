"""The commented config that `vram init` writes."""

from __future__ import annotations

from pathlib import Path

from vram_cli.files import write_file


def starter_yaml() -> str:
    """Return a config with every key and a comment on each; it equals the bundled `mlp_mnist.yaml`."""
    return Path(__file__).with_name("starter.yaml").read_text(encoding="utf-8")


def write_starter(path: Path, *, force: bool) -> Path:
    """Write the starter config and return its path; replace an existing file only with `force`.

    Raises:
        ConfigError, MachineError: as `write_file`.
    """
    write_file(starter_yaml(), path, force=force)
    return path
