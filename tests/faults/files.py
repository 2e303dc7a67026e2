"""Classes b, e and f: files that cannot be written, names that forge output, and damaged results and baselines."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.faults.command_line import FAST_PREDICTION, PROJECT
from tests.faults.run import Fault
from tests.report.advices import PREDICTED
from tests.report.examples import detailed, detailed_search
from vram_cli.report.formats.json import to_json

SEARCH, BREAKDOWN, ADVICE = map(to_json, (detailed_search(), detailed(), PREDICTED))
SAVED = {"search.json": SEARCH, "breakdown.json": BREAKDOWN, "advice.json": ADVICE}
OLD = {f"old.{suffix}": "old" for suffix in ("png", "svg", "pdf", "html", "yaml", "pickle")} | {"old.json": BREAKDOWN}

FIND = f"vram find-batch {FAST_PREDICTION} --max-batch-size 4 -q"
STEP = f"vram breakdown {FAST_PREDICTION} -n 4 -q"
CHECK = f"vram check {FAST_PREDICTION} --set train.batch_size=4 -q"


@cache
def _can_mount() -> bool:
    with TemporaryDirectory() as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "t", folder], capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
    return True


# On a disk that is full: the command, the file that it replaces, and a pattern of the answer that must be printed.
ON_A_FULL_DISK = {
    "vram show ../breakdown.json --plot old.png --force": ("old.png", ""),
    "vram show ../breakdown.json --plot old.svg --force": ("old.svg", ""),
    "vram show ../breakdown.json --plot old.pdf --force": ("old.pdf", ""),
    "vram show ../breakdown.json --report old.html --force": ("old.html", ""),
    f"{FIND} --save old.json --force": ("old.json", ""),
    f"{FIND} --report old.html --force": ("old.html", ""),
    f"{STEP} --save old.json --force": ("old.json", ""),
    f"{STEP} --snapshot old.pickle --force": ("old.pickle", ""),
    f"{CHECK} --baseline old.json --update-baseline": ("old.json", ""),
    "vram init old.yaml --force": ("old.yaml", ""),
    "vram init new.yaml": ("new.yaml", ""),
}
# The disk fills up while the command runs, so that no check before can see it.
FILLS_UP = {
    "vram show ../breakdown.json --plot old.png --force": "Batch size",
    "vram show ../breakdown.json --report old.html --force": "Batch size",
    "vram show ../breakdown.json --json --report old.html --force": '"command": "breakdown"',
    f"{FIND} --save old.json --force": "Largest batch size",
    f"{STEP} --save old.json --force": "Batch size",
    f"{CHECK} --max-memory 8GiB --baseline old.json --update-baseline": "Passes",
}
FILLER = """
import atexit, sys
import vram_cli.files as files
first = files.check_writable
def check_writable(path, **options):
    first(path, **options)
    try:
        with open("filler", "ab", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
    except OSError:
        pass
files.check_writable = check_writable
"""


def full_disks() -> Iterator[Fault]:
    mount = "mkdir d && mount -t tmpfs -o size=300k t d && trap 'cd /; umount -l $OLDPWD' EXIT && cp old.* d && cd d"
    keep = "for f in old.*; do cmp $f ../$f || code=99; done; [ -e new.yaml ] && code=98"
    for command, (name, _) in ON_A_FULL_DISK.items():
        line = f"{mount}; dd if=/dev/zero of=f 2>/dev/null; {command}; code=$?; {keep}; exit $code"
        files = PROJECT | SAVED | OLD
        yield Fault(name=f"full disk: {command}", command=line, code=3, stderr=name, files=files, possible=_can_mount)
    for command, answer in FILLS_UP.items():
        line = f"{mount}; export PYTHONPATH=$OLDPWD:$PYTHONPATH; {command}; code=$?; rm -f filler; {keep}; exit $code"
        files = PROJECT | SAVED | OLD | {"sitecustomize.py": FILLER}
        yield Fault(
            name=f"disk fills up: {command}", command=line, code=3, stdout=answer, stderr="No space left", files=files,
            possible=_can_mount,
        )  # fmt: skip


NAMES = {
    "a folder": ("mkdir x{0}; ", "x{0}", "is a folder"),
    "in a missing folder": ("", "no/x{0}", "does not exist"),
    "in a file": ("touch f; ", "f/x{0}", "does not exist"),
    "too long": ("", "$(printf 'x%.0s' {{1..256}}){0}", "cannot be written"),
    "a pipe": ("mkfifo x{0}; ", "x{0}", "not a regular file"),
    "a loop of links": ("ln -s x{0} x{0}; ", "x{0}", "circle"),
    "there already": ("touch x{0}; ", "x{0}", "already exists"),
    "a dangling link": ("ln -s nowhere x{0}; ", "x{0}", "already exists"),
    "in /proc": ("", "/proc/x{0}", "cannot be written"),
}
WRITERS = {
    f"{FIND} --save": ".json",
    "vram show breakdown.json --report": ".html",
    "vram show breakdown.json --plot": ".svg",
    f"{STEP} --snapshot": ".pickle",
    "vram init": ".yaml",
}


def names() -> Iterator[Fault]:
    for (writer, suffix), (name, (before, path, reason)) in product(WRITERS.items(), NAMES.items()):
        line = f"{before.format(suffix)}{writer} {path.format(suffix)}"
        code: tuple[int, ...] = (2, 3) if name == "in /proc" else (2,)
        yield Fault(
            name=f"{writer}: {name}", command=line, code=code, stderr=reason, stdout="^$", files=PROJECT | SAVED
        )
    for (writer, suffix), letters in product(WRITERS.items(), (248, 245, 200)):
        line = f"{writer} $(printf 'x%.0s' {{1..{letters}}}){suffix}"
        yield Fault(name=f"{writer}: {letters} letters", command=line, code=0, files=PROJECT | SAVED)
    twice = f"{FIND} --save a.json & {FIND} --save a.json; mine=$?; wait $!; other=$?; echo $mine $other"
    yield Fault(
        name="two searches save one file", command=twice, code=0, files=PROJECT,
        stdout=r"(?s)Largest batch size.*Largest batch size.*(0 2|2 0|0 0)",
    )  # fmt: skip


def unreadable() -> Iterator[Fault]:
    readers = {
        "vram show": "", "vram breakdown -n 4 --gpu t4 -q -c": "", f"{CHECK} --baseline": "",
        "vram calibrate --import": "",
    }  # fmt: skip
    sources = {
        "pipe": "mkfifo x", "folder": "mkdir x", "loop": "ln -s x x", "empty": ": >x", "missing": "true",
        "device": "ln -s /dev/zero x", "binary": "head -c 5000 /dev/urandom >x", "nulls": "head -c 100 /dev/zero >x",
        "huge": "truncate -s 10G x", "UTF-16": "printf '{}' | iconv -t UTF-16 >x",
        "deep": "yes '[' | head -c 50000 | tr -d '\\n' >x",
    }  # fmt: skip
    for reader, (name, before) in product(readers, sources.items()):
        yield Fault(name=f"{reader}: {name}", command=f"{before}; {reader} x", code=2, stdout="^$", stderr="error: ")


ATTACK = "::error::forged"
INJECTIONS = {
    "newline": "$'n\\n" + ATTACK + "'",
    "carriage return": "$'n\\r" + ATTACK + "'",
    "escape": "$'n\\e[2J\\e]0;title\\a'",
    "not UTF-8": "$'n\\xff'",
    "right to left": "$'n\\u202eevil'",
    "markup": "'[red]n[/red]'",
    "script": "'<script>alert(1)<\\script>'",
    "command": "'; touch forged'",
}
PRINTED = (
    f"vram check -c {{0}}.yaml {FAST_PREDICTION} --max-memory 8GiB --format github",
    f"vram check -c {{0}}.yaml {FAST_PREDICTION} --max-memory 1MiB --format github -q",
    f"{CHECK} --format github --max-memory 1MiB --baseline {{0}}.json",
    "vram show {0}.json",
    f"vram breakdown -n 4 -c {{0}}.yaml {FAST_PREDICTION} --format markdown",
    "vram breakdown -n 4 --gpu {0}",
    "vram breakdown -n 4 --set data.root={0} " + FAST_PREDICTION,
    "vram breakdown -n 4 --set {0}=1",
    "vram show breakdown.json --report {0}.html",
)
FORGED = r"(?m)^\s*::error::forged|\x1b\[2J|\x1b\]0|Traceback"


def injections() -> Iterator[Fault]:
    config = "model: {name: mlp}\ndata: {name: mnist, source: synthetic}\noptimizer: {name: sgd}\n"
    for command, (name, text) in product(PRINTED, INJECTIONS.items()):
        line = f"cp good.yaml {text}.yaml; cp breakdown.json {text}.json; {command.format(text)}; code=$?"
        line += "; [ -e forged ] && exit 9; exit $code"
        yield Fault(
            name=f"{name}: {command}", command=line, code=(0, 1, 2), never=FORGED,
            files={"good.yaml": config, "breakdown.json": BREAKDOWN},
        )  # fmt: skip


MUTATIONS: dict[str, Any] = {
    "400 digits": 10**400, "38 digits": 10**38, "64 bits": 2**64, "negative": -1, "text": "x", "null": None,
    "list": [], "object": {}, "true": True, "not a number": float("nan"), "infinite": float("inf"),
}  # fmt: skip
PLACES = (
    ("run", "device", "capacity_bytes"), ("measurement", "batch_size"), ("breakdown", "total_bytes"),
    ("breakdown", "timeline", "events"), ("breakdown", "timeline", "points", 0, "event"), ("schema_version",),
    ("measurement", "seconds"), ("breakdown", "rows", 0, "bytes"),
)  # fmt: skip


def damaged() -> Iterator[Fault]:
    for place, (name, value) in product(PLACES, MUTATIONS.items()):
        document = json.loads(BREAKDOWN)
        part = document
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
        files = {"r.json": json.dumps(document)}
        words = ".".join(map(str, place))
        yield Fault(
            name=f"{words}: {name}", command="vram show r.json --timeline --by module --report a.html", code=(0, 2),
            files=files, unharmed=["r.json"],
        )  # fmt: skip
    for share in range(5, 100, 10):
        cut = {"r.json": BREAKDOWN[: len(BREAKDOWN) * share // 100]}
        yield Fault(name=f"cut at {share} %", command="vram show r.json", code=2, files=cut)
    for name, (old, new) in {
        "git's conflict": ('"run"', '<<<<<<< HEAD\n"run"'),
        "another command": ('"breakdown"', '"nonsense"'),
        "a key twice": ('"run"', '"notes": [], "run"'),
        "a new key": ('"run"', '"zzz": 1, "run"'),
    }.items():
        files = {"r.json": BREAKDOWN.replace(old, new, 1)}
        yield Fault(name=name, command="vram show r.json", code=(0, 2), files=files)
        yield Fault(name=f"baseline: {name}", command=f"{CHECK} --baseline r.json", code=2, files=files)


def _limits_of_files() -> Iterator[Fault]:
    for command, name in ((f"{FIND} --save a.json", "a.json"), ("vram init a.yaml", "a.yaml")):
        line = f"ulimit -f 0; {command}"
        yield Fault(name=f"ulimit -f 0: {command}", command=line, code=3, check=_lacks(name))


def _lacks(name: str) -> Any:
    return lambda folder: f"{name} is left" if (Path(folder) / name).exists() else ""


FAULTS = [*full_disks(), *names(), *unreadable(), *injections(), *damaged(), *_limits_of_files()]
