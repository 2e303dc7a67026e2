"""The baseline of `vram check`: a saved breakdown, kept in the repository. `vram show` draws it."""

from __future__ import annotations

from pathlib import Path

from vram_cli.errors import ConfigError
from vram_cli.files import check_writable, read_file
from vram_cli.records import Advice, BreakdownResult, FindBatchResult
from vram_cli.report.saved import load, save

_MARK = b'"schema_version"'
_HEAD = 4096


def load_baseline(path: Path) -> BreakdownResult | FindBatchResult:
    """Read a baseline.

    Raises:
        ConfigError: the file does not exist, or is not a result of vram that has a peak.
    """
    if not path.exists():
        raise ConfigError(f"--baseline {path} does not exist", "--update-baseline writes it; then commit it")
    result = load(path)
    if isinstance(result, Advice):
        raise ConfigError(f"--baseline {path}: saved by `vram advise`", "name a file of `vram breakdown --save`")
    return result


def check_baseline(path: Path) -> None:
    """Check that a baseline can be written without replacing a file of another kind.

    Raises:
        ConfigError: it cannot, or the file is not a baseline.
    """
    check_writable(path, force=True)
    # The mark is enough: a baseline with git's conflict markers should be replaced, a config should not.
    if path.exists() and _MARK not in read_file(path)[:_HEAD]:
        raise ConfigError(f"--baseline {path} is not a result of vram", "name another file, or delete it first")


def save_baseline(result: BreakdownResult, path: Path) -> None:
    """Write the baseline: the whole file or nothing.

    Raises:
        ConfigError: the file cannot be written.
    """
    save(result, path, force=True)
