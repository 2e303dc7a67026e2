"""The commented config that `vram init` writes."""

from __future__ import annotations

from pathlib import Path

from vram_cli.errors import ConfigError, MachineError


def starter_yaml() -> str:
    """Return a config with every key and a comment on each; it equals the bundled `mlp_mnist.yaml`."""
    return Path(__file__).with_name("starter.yaml").read_text(encoding="utf-8")


def write_starter(path: Path, *, force: bool) -> Path:
    """Write the starter config and return its path; replace an existing file only with `force`.

    Raises:
        ConfigError: the file exists, is a folder, or its folder does not exist.
        MachineError: the file cannot be written.
    """
    text = starter_yaml()
    try:
        # "x" fails if there is a file, even one created a moment ago, and never follows a dangling link.
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except OSError as error:
        raise _explain(path, error) from None
    return path


def _explain(path: Path, error: OSError) -> ConfigError | MachineError:
    # Windows says "permission denied" of a folder.
    if isinstance(error, (IsADirectoryError, FileExistsError, PermissionError)) and path.is_dir():
        return ConfigError(f"{path}: is a folder", f"name a file, such as {path / 'vram.yaml'}")
    if isinstance(error, FileExistsError):
        return ConfigError(f"{path}: already exists", "choose another name, or replace it with --force")
    if isinstance(error, FileNotFoundError):
        return ConfigError(f"{path}: the folder {path.parent} does not exist", "create it first")
    return MachineError(f"{path}: cannot be written: {error.strerror}")
