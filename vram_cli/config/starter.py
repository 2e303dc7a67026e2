"""The commented config that `vram init` writes."""

from __future__ import annotations

from pathlib import Path

from vram_cli.errors import ConfigError, MachineError


def starter_yaml() -> str:
    """Return a config with every key and a comment on each; it says the same as the bundled `mlp_mnist.yaml`."""
    return Path(__file__).with_name("starter.yaml").read_text(encoding="utf-8")


def write_starter(path: Path, *, force: bool) -> Path:
    """Write the starter config and return its path; an existing file is replaced with `force` only.

    Raises:
        ConfigError: the file exists, is a folder, or its folder does not exist.
        MachineError: the file cannot be written.
    """
    text = starter_yaml()
    try:
        # "x" fails where there is a file, also one that came a moment ago, and never follows a dangling link.
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except OSError as error:
        raise _why(path, error) from None
    return path


def _why(path: Path, error: OSError) -> ConfigError | MachineError:
    # Windows says "permission denied" of a folder.
    if isinstance(error, (IsADirectoryError, FileExistsError, PermissionError)) and path.is_dir():
        return ConfigError(f"{path}: is a folder", f"name a file, such as {path / 'vram.yaml'}")
    if isinstance(error, FileExistsError):
        return ConfigError(
            f"{path}: exists already and is left as it is", "choose another name, or --force to replace it"
        )
    if isinstance(error, FileNotFoundError):
        return ConfigError(f"{path}: there is no folder {path.parent}", "make it first")
    return MachineError(f"{path}: cannot be written: {error.strerror}")
