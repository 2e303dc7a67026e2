"""vram's search and the batch-size finders of other projects, side by side: `make bench`.

    python benchmarks/finders.py --json results.json --markdown results.md

Trials are cheap here. On a GPU, each costs a start, up to 3 training steps, and its out-of-memory errors.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console
from rich.table import Table

from benchmarks.peers import FINDERS, Device, Finder, GaveUpError, quietly
from vram_cli.search.trial_budget import bisection_trials

LIMITS = (1, 7, 100, 1000, 50_000, 1_000_003)
PACKAGES = ("vram-cli", "torch", "lightning", "accelerate", "toma", "batch-finder")


@dataclass(frozen=True)
class Row:
    """The result of one finder at one limit."""

    limit: int
    finder: str
    setting: str
    result: int | None
    trials: int
    steps: int
    ooms: int
    samples: int
    """Samples in all steps that were started."""
    ran: bool
    """Whether the result itself ran."""
    seconds: float
    note: str

    @property
    def exact(self) -> bool:
        return self.result == self.limit and self.ran


def run(finder: Finder, limit: int) -> Row:
    device, result, note, began = Device(limit), None, "", time.perf_counter()
    try:
        result = quietly(finder.find, device)
    except ImportError as error:
        note = "not installed" if finder.package else str(error)
    except GaveUpError:
        note = f"stopped after {device.max_trials} trials"
    except Exception as error:  # noqa: BLE001 - any exception of a peer is its result
        note = f"{type(error).__name__}: {error}".splitlines()[0][:80]
    return Row(
        limit=limit,
        finder=finder.name,
        setting=finder.setting,
        result=result,
        trials=min(device.trials, device.max_trials),
        steps=len(device.steps),
        ooms=device.ooms,
        samples=sum(device.steps),
        ran=result is not None and result <= limit and result in device.steps,
        seconds=round(time.perf_counter() - began, 2),
        note=note,
    )


HEAD = ("finder", "trials", "steps", "OOMs", "samples", "result", "result/N", "ran", "exact")


def cells(row: Row) -> tuple[str, ...]:
    if row.result is None:
        return (
            row.finder,
            f"{row.trials:,}",
            f"{row.steps:,}",
            f"{row.ooms:,}",
            f"{row.samples:,}",
            row.note,
            "",
            "",
            "",
        )
    yes = {True: "yes", False: "no"}
    counts = (f"{row.trials:,}", f"{row.steps:,}", f"{row.ooms:,}", f"{row.samples:,}")
    return (row.finder, *counts, f"{row.result:,}", f"{row.result / row.limit:.3f}", yes[row.ran], yes[row.exact])


def conclusions(rows: list[Row]) -> list[str]:
    """Return the aims and the results, good or bad."""
    vram_rows = [row for row in rows if row.finder.startswith("vram,")]
    more_than_plain = sum(row.trials > bisection_trials(row.limit) for row in vram_rows)
    trials = [row.trials for row in vram_rows]
    lines = [
        f"vram: exact in {sum(row.exact for row in vram_rows)} of {len(vram_rows)} cases.",
        f"vram: {median(trials):g} trials at the median (aim: at most 7), {max(trials)} at most.",
        f"vram: more trials than doubling + bisection in {more_than_plain} cases (aim: 0).",
    ]
    at = {row.finder: row for row in rows if row.limit == 50_000}
    peer, vram = at["Lightning binsearch"], at["vram, smooth memory"]
    if peer.result:
        certificate = 3 * 50_000 + 50_001  # 3 steps of N and 1 of N + 1
        lines += [
            f"samples at N = 50,000: vram {vram.samples:,}; Lightning binsearch {peer.samples:,} for {peer.result:,}.",
            f"That is {peer.samples / vram.samples:.1f} times fewer (aim: at least 10).",
            f"The certificate alone is {certificate:,} samples: {peer.samples / certificate:.1f} times fewer.",
        ]
    return lines


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {package: installed(package) for package in PACKAGES}


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def draw(rows: list[Row], console: Console) -> None:
    for limit in LIMITS:
        table = Table(title=f"N = {limit:,}", title_justify="left")
        for column in HEAD:
            table.add_column(column, justify="left" if column == "finder" else "right", no_wrap=True)
        for row in rows:
            if row.limit == limit:
                table.add_row(*cells(row))
        console.print(table)


def markdown(rows: list[Row], package_versions: dict[str, str], settings: dict[str, str]) -> str:
    lines = ["# Batch-size finders side by side", "", *__doc__.splitlines()[4:5], ""]
    lines += ["Versions: " + ", ".join(f"{name} {number}" for name, number in package_versions.items()) + ".", ""]
    lines += [f"- {line}" for line in conclusions(rows)] + [""]
    lines += [f"- {name}: {setting}" for name, setting in settings.items()]
    for limit in LIMITS:
        lines += ["", f"## N = {limit:,}", "", "| " + " | ".join(HEAD) + " |", "|---" + "|---:" * (len(HEAD) - 1) + "|"]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in rows if row.limit == limit]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row and all versions to a file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to a file")
    options = parser.parse_args()
    console, progress = Console(width=None if sys.stdout.isatty() else 120), Console(stderr=True)
    rows = []
    for finder in FINDERS:
        for limit in LIMITS:
            progress.print(f"[dim]{finder.name}, N = {limit:,}[/dim]")
            rows.append(run(finder, limit))
    draw(rows, console)
    for line in conclusions(rows):
        console.print(line)
    package_versions = versions()
    console.print(", ".join(f"{name} {number}" for name, number in package_versions.items()), style="dim")
    if options.json:
        table = [asdict(row) | {"exact": row.exact} for row in rows]
        options.json.write_text(
            json.dumps({"versions": package_versions, "rows": table}, indent=1) + "\n", encoding="utf-8"
        )
    if options.markdown:
        settings = {finder.name: finder.setting for finder in FINDERS}
        options.markdown.write_text(markdown(rows, package_versions, settings), encoding="utf-8")


if __name__ == "__main__":
    main()
