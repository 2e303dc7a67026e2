"""Class g: results files of `vram compare` that were cut or damaged."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from random import Random

from tests.compare.test_results_file import FITS, KEY, make_run
from tests.faults.run import Fault
from tests.faults.user_code import CODE, CONFIG, HELPERS
from vram_cli.compare.records import CurvePoint
from vram_cli.compare.results_file import MemoryCheckLine, RunLine

RESUME = """
import json
from pathlib import Path
from pydantic import TypeAdapter
from vram_cli.compare.records import MemoryCheck, TrainingRun
from vram_cli.compare.results_file import ComparisonKey, ResultsFile
from vram_cli.errors import ConfigError

lines = [json.loads(line) for line in Path("complete.jsonl").read_text().splitlines()]
try:
    with ResultsFile(Path("results.jsonl"), TypeAdapter(ComparisonKey).validate_python(lines[0])) as file:
        for line in lines[1:]:
            if line["kind"] == "memory_check":
                check = TypeAdapter(MemoryCheck).validate_python(line["memory_check"])
                if check.batch_size not in file.memory_checks:
                    file.add_memory_check(check)
            else:
                run = TypeAdapter(TrainingRun).validate_python(line["run"])
                if (run.batch_size, run.repeat, run.fold) not in file.runs:
                    file.add_run(run)
except ConfigError as error:
    raise SystemExit(f"error: {error.message}\\nhint: {error.hint}")
"""
"""Resumes as `vram compare` does, but has the missing results already."""

CURVE = tuple(CurvePoint(samples=n, loss=1 / n) for n in range(1, 50))
RESULTS = (MemoryCheckLine(memory_check=FITS), *(RunLine(run=make_run(repeat=n, curve=CURVE)) for n in range(4)))
COMPLETE = "".join(json.dumps(asdict(line)) + "\n" for line in (KEY, *RESULTS)).encode()


def _is_complete(folder: Path) -> str:
    return "" if (folder / "results.jsonl").read_bytes() == COMPLETE else "the resumed file differs"


def _cut(at: int) -> Fault:
    files = {"results.jsonl": COMPLETE[:at], "complete.jsonl": COMPLETE, "resume.py": RESUME}
    return Fault(name=f"cut after {at} bytes", command="python resume.py", code=0, files=files, check=_is_complete)


def _damaged(seed: int) -> Fault:
    """Replace some bytes; most damage is refused by line, and some, in a digit, is not to be seen."""
    random, content = Random(seed), bytearray(COMPLETE)
    for _ in range(random.randint(1, 5)):
        content[random.randrange(len(content))] = random.randrange(256)
    return _refused_or_read(f"damage {seed}", bytes(content))


def _refused_or_read(name: str, content: bytes) -> Fault:
    files = {"results.jsonl": content, "complete.jsonl": COMPLETE, "resume.py": RESUME}
    return Fault(name=name, command="python resume.py", code=(0, 1), stderr="^$|^error: results.jsonl", files=files)


def _replaced(before: str, after: str) -> Fault:
    content = COMPLETE.replace(before.encode(), after.encode(), 1)
    files = {"results.jsonl": content, "complete.jsonl": COMPLETE, "resume.py": RESUME}
    return Fault(
        name=f"{before} becomes {after[:40]}",
        command="python resume.py",
        code=1,
        stderr=r"^error: results.jsonl:[123]: not a (line|results file) of vram compare",
        files=files,
        unharmed=["results.jsonl"],
    )


OWN = {"c.yaml": CONFIG, "own.py": CODE.replace("IMPORTED", HELPERS)}
for _place in ("READ", "FORWARD", "BUILT"):
    OWN["own.py"] = OWN["own.py"].replace(_place, "pass", 1)
TRAIN = "vram compare -c c.yaml --device cpu -b 8 --epochs 1 --repeats 2 --samples 40"


def _commands(name: str, between: str, code: int, stderr: str = "", second: str = TRAIN) -> Fault:
    """Compare, do something to the results file, and compare again."""
    return Fault(
        name=name, command=f"{TRAIN} >/dev/null 2>&1; f=vram-compare.jsonl; {between}; {second}",
        code=code, stderr=stderr, files=OWN,
    )  # fmt: skip


def _has_no_results(folder: Path) -> str:
    return "a results file is left" if (folder / "vram-compare.jsonl").exists() else ""


FAULTS = [
    *(_cut(at) for at in range(0, len(COMPLETE), 50)),
    *(_cut(COMPLETE.index(b"\n") + at) for at in (0, 1, 2)),
    *(_damaged(seed) for seed in range(40)),
    *(
        _replaced(*change)
        for change in (
            ('"loss": 0.25', '"loss": NaN'),
            ('"loss": 0.25', '"loss": Infinity'),
            ('"loss": 0.25', '"loss": "0.25"x'),
            ('"accuracy": 0.9', '"accuracy": 7.5'),
            ('"accuracy": 0.9', '"accuracy": -0.1'),
            ('"seconds": 1.5', '"seconds": -1.5'),
            ('"steps": 20', f'"steps": {10**400}'),
            ('"steps": 20', '"steps": 2.5'),
            ('"repeat": 0', '"repeat": -1'),
            ('"peak_bytes": 1024', f'"peak_bytes": {10**30}'),
            ('"variance": 30.0', '"variance": NaN'),
            ('"kind": "run"', '"kind": "walk"'),
            ('"kind": "memory_check"', '"kind": "comparison"'),
            ('"kind": "comparison"', '"kind": "run"'),
            ('{"kind": "run"', "[1, 2]"),
        )
    ),
    _refused_or_read("empty lines", COMPLETE.replace(b"\n", b"\n\n")),
    _refused_or_read("line ends of Windows", COMPLETE.replace(b"\n", b"\r\n")),
    _refused_or_read("a byte order mark", b"\xef\xbb\xbf" + COMPLETE),
    _refused_or_read("zeros", bytes(4096)),
    _refused_or_read("one line twice", COMPLETE + COMPLETE.splitlines(keepends=True)[-1]),
    _commands("complete", "true", 0, "2 of 2 runs are already"),
    _commands("ended in its first write", "head -c 300 $f >x; mv x $f", 0),
    _commands("ended in a later write", "head -c -9 $f >x; mv x $f", 0, "1 of 2 runs are already"),
    _commands("empty", ": >$f", 0),
    _commands("another file", "echo diary >$f", 2, "not a line of vram compare"),
    _commands("another file, replaced", "echo diary >$f", 0, second=f"{TRAIN} --fresh"),
    _commands("another comparison", "true", 2, "seed was 0, is 1", second=f"{TRAIN} --seed 1"),
    _commands("a pipe", "rm $f; mkfifo $f", 2, "no regular file"),
    _commands("a folder", "rm $f; mkdir $f", 2, "no regular file"),
    _commands("a link to itself", "rm $f; ln -s $f $f", 2, "cannot be written"),
    _commands("a full disk", "true", 2, "cannot be written", second=f"{TRAIN} --results /dev/full"),
    *(
        Fault(name=f"compare {option}", command=f"{TRAIN} {option}", code=2, stderr=f"error: {option.split()[0]}: ",
              files=OWN, check=_has_no_results)
        for option in ("--warmup nan", "--warmup inf", "--holdout nan", f"--seed {10**23}", f"--epochs {10**20}",
                       f"--repeats {10**20}")
    ),
]  # fmt: skip
