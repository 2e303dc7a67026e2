"""Classes a and b: flags and configs, streams, the environment and the limits of a process."""

from __future__ import annotations

from itertools import product

from tests.faults.run import Fault

SMALL = """
model: {factory: "own:Net"}
data: {factory: "own:Data"}
optimizer: {name: sgd}
search: {max_batch_size: 8}
device: {name: cpu, memory_limit: 256MiB}
"""
OWN = """
import torch
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.full((8,), float(index % 2)), index % 2
"""
PROJECT = {"c.yaml": SMALL, "own.py": OWN}
FAST_PREDICTION = "--gpu t4 --set device.engine=fake-tensors --set data.source=synthetic"

# name -> command, exit code without a fault, and a pattern of its stdout.
CHEAP = {
    "version": ("vram --version", 0, "vram 0"),
    "help": ("vram --help", 0, "find-batch"),
    "no arguments": ("vram", 2, "find-batch"),
    "help of a command": ("vram check --help", 0, "--max-memory"),
    "gpus": ("vram gpus", 0, "rtx-4090"),
    "gpus as JSON": ("vram gpus --json", 0, '"gpus"'),
    "schema": ("vram schema", 0, "optimizer"),
    "init": ("vram init a.yaml", 0, "wrote a.yaml"),
    "calibrations": ("vram calibrate --show", 0, ""),
    "an unknown flag": ("vram check --bogus", 2, "^$"),
    "no such config": ("vram find-batch -c nope.yaml", 2, "^$"),
    "no such config, as JSON": ("vram find-batch -c nope.yaml --json", 2, '"exit_code": 2'),
    "no such result": ("vram show nope.json", 2, "^$"),
}
COSTLY = {
    "find-batch": (f"vram find-batch {FAST_PREDICTION} --max-batch-size 8", 0, "Largest batch size"),
    "breakdown": (f"vram breakdown {FAST_PREDICTION} -n 8", 0, "Batch size 8"),
    "breakdown of own code": ("vram breakdown -c c.yaml -n 8", 0, "Batch size 8"),
    "advise": (f"vram advise {FAST_PREDICTION} --fit-batch 8", 0, "fits"),
    "check that passes": (f"vram check {FAST_PREDICTION} --max-memory 8GiB", 0, "Passes"),
    "check that fails": (f"vram check {FAST_PREDICTION} --max-memory 1MiB", 1, "Fails"),
    "inspect": ("vram inspect -c c.yaml", 0, "Linear"),
    "compare": ("vram compare -c c.yaml -b 4 --repeats 1 --epochs 1", 0, "4"),
    "a batch that does not fit": (f"vram breakdown {FAST_PREDICTION} -n 99999999 --json", 4, "out_of_memory"),
}
LEAVES_EARLY = "{ sleep 0.2; %s; echo $? >code; } | true; exit $(cat code)"
IS_DEAF = "{ sleep 0.2; %s; echo $? >code; } 2> >(true); sleep 0.1; exit $(cat code)"
# name -> the line of bash, and the exit code if it is not that without the fault.
STDOUT = {
    "stdout full": ("%s >/dev/full", 3),
    "stdout closed": ("%s >&-", 3),
    "the reader of stdout leaves": (LEAVES_EARLY, 141),
    "stdout and stderr full": ("%s >/dev/full 2>&1", 3),
    "all streams closed": ("%s <&- >&- 2>&-", 3),
}
OTHER = {
    "stdin closed": "%s <&-",
    "stderr full": "%s 2>/dev/full",
    "stderr closed": "%s 2>&-",
    "the reader of stderr leaves": IS_DEAF,
    "stdin and stderr closed": "%s <&- 2>&-",
}


def streams() -> list[Fault]:
    rows = []
    for (name, (command, code, stdout)), (fault, line) in product((CHEAP | COSTLY).items(), OTHER.items()):
        rows.append(Fault(name=f"{name}: {fault}", command=line % command, code=code, stdout=stdout, files=PROJECT))
    for (name, (command, code, stdout)), (fault, (line, changed)) in product((CHEAP | COSTLY).items(), STDOUT.items()):
        prints_nothing = stdout in ("^$", "")
        codes = (code, changed) if prints_nothing else changed
        rows.append(Fault(name=f"{name}: {fault}", command=line % command, code=codes, files=PROJECT))
    return rows


EMPTY = {
    "find-batch": ("--config", "--set", "--gpu", "--device", "--memory-limit", "--overhead", "--time-limit", "--save",
                   "--report", "--plot", "--format", "--max-batch-size", "--margin", "--tolerance", "--mode"),
    "breakdown": ("--by", "--depth", "--snapshot", "--batch-size"),
    "advise": ("--fit-batch", "--also-try", "--gpus", "--effective-batch"),
    "check": ("--max-memory", "--baseline", "--tolerance", "--summary"),
    "compare": ("-b", "--samples", "--epochs", "--holdout", "--results", "--warmup", "--lr-scaling"),
    "calibrate": ("--device", "--export", "--import", "--gpu"),
    "show r.json": ("--report", "--plot"),
}  # fmt: skip

# Values that no run can have; each error names the key or the flag.
NUMBERS = {
    "breakdown -n {}": ("0", "-1", "1.5", "x", "9223372036854775808", "99999999999999999999", "1e3", "nan"),
    "breakdown --set search.steps={}": ("1", "0", "99999999999999999999", "inf", "x"),
    "breakdown --set train.learning_rate={}": ("0", "-1", ".nan", ".inf", "x"),
    "breakdown --set train.clip_grad_norm={}": ("0", "-1", ".nan"),
    "find-batch --memory-limit {}": ("0", "-1GiB", "8GB", "1e9", "99999999TiB", "nan"),
    "find-batch --margin {}": ("1", "100%", "-0.1", ".nan", "x"),
    "find-batch --tolerance {}": ("1", "-1", ".inf"),
    "find-batch --time-limit {}": ("0", "-1", ".inf", "1e99"),
    "find-batch --max-batch-size {}": ("0", "9223372036854775808"),
    "find-batch --multiple-of {}": ("0", "-8", "9223372036854775808"),
    "breakdown --depth {}": ("0", "-1", "x"),
    "check --max-memory {}": ("0", "8GB", "x"),
    "check --max-memory 1GiB --baseline b.json --tolerance {}": ("2", "x", "-1%", "nan"),
    "compare -c c.yaml -b 4 --epochs {}": ("0", "-1", "x", "99999999999999999999"),
    "compare -c c.yaml -b 4 --seed {}": ("-1", "x", "99999999999999999999999"),
    "compare -c c.yaml -b 4 --warmup {}": ("nan", "inf", "-1"),
    "compare -c c.yaml -b 4 --holdout {}": ("nan", "0", "1"),
    "compare -c c.yaml -b 4 --repeats {}": ("0", "99999999999999999999"),
    "compare -c c.yaml -b {}": ("0", "x", "4,,x", "99999999999999999999"),
    "advise --fit-batch {}": ("0", "x", "99999999999999999999"),
}
# Sizes that are numbers, but of which no tensor can be made: an error that names the key, and none of them exit 70.
OVERFLOW = (
    "model.hidden=9223372036854775807",
    "data='{name: synthetic, shape: [9223372036854775807, 1, 1], classes: 10}'",
    "data='{name: synthetic, shape: [3, 3037000500, 3037000500], classes: 10}'",
    "data='{name: synthetic, shape: [3, 8, 8], classes: 9223372036854775807}'",
)
PATTERNS = ("train.freeze=[nothing*]", "train.activation_checkpointing=nothing*")


def flags() -> list[Fault]:
    rows = [
        Fault(name=f"{command} {flag} ''", command=f"vram {command} {flag} ''", code=2, stderr=flag, stdout="^$")
        for command, names in EMPTY.items()
        for flag in names
    ]
    rows += [
        Fault(
            name=command.format(value),
            command=f"vram {command.format(value)}",
            code=2,
            stdout="^$",
            stderr=r"(?s)^(no --config.*\n)?error: .*$",
            files=PROJECT,
        )
        for command, values in NUMBERS.items()
        for value in values
    ]
    rows += [
        Fault(
            name=f"{engine}: {override}",
            command=f"vram breakdown --gpu t4 --set device.engine={engine} --set {override} -q -n 1",
            code=2,
            stderr=f"error: .*{override.split('=')[0]}",
        )
        for engine, override in product(("virtual-gpu", "fake-tensors"), (*OVERFLOW, *PATTERNS))
    ]
    rows.append(Fault(
        name="overflow as JSON", command=f"vram breakdown --gpu t4 -n 1 --json --set {OVERFLOW[0]}", code=2,
        stdout='"exit_code": 2',
    ))  # fmt: skip
    return rows


RUN = f"vram breakdown {FAST_PREDICTION} -n 8 -q"
LIMITS = {
    "ulimit -n 12": (0, 3),
    "ulimit -n 16": (0, 3),
    "ulimit -f 0": (0, 3),
    "ulimit -v 300000": (3,),
    "ulimit -v 1500000": (3,),
    "ulimit -t 1": (3,),
    "export TMPDIR=/nowhere": (0,),
    "export HOME=/nowhere": (0,),
    "unset HOME PATH; PATH=$OLD": (0,),
    "export PYTHONIOENCODING=ascii": (0,),
    "export PYTHONIOENCODING=utf-16": (0,),
    "export LC_ALL=C PYTHONUTF8=0": (0,),
    "export LC_ALL=nonsense": (0,),
    "export COLUMNS=0": (0,),
    "export COLUMNS=-5": (0,),
    "export COLUMNS=x": (0,),
    "export COLUMNS=100000": (0,),
    "export TERM=nonsense": (0,),
    "export TERM=dumb FORCE_COLOR=1": (0,),
    "export VRAM_CONFIG_DIR=/dev/null": (0, 3),
    "export VRAM_CONFIG_DIR=c.yaml": (0, 3),
    "export PYTHONWARNINGS=error": (0,),
    "export PYTHONOPTIMIZE=2": (0,),
    "export PYTHONUNBUFFERED=1": (0,),
    "export PYTHONDEVMODE=1": (0,),
    "umask 777": (0,),
    "mkdir x; cd x; rmdir ../x": (3,),
}


def limits() -> list[Fault]:
    return [
        Fault(name=limit, command=f"OLD=$PATH; {limit}; {RUN}", code=codes, files=PROJECT)
        for limit, codes in LIMITS.items()
    ]


EARLY = (0.3, 0.4, 0.6, 0.8, 1.2, 2.5)
"""Seconds. Before them Python starts itself, with signals and tracebacks of its own."""


def early_signals() -> list[Fault]:
    """A signal at any moment of the start: quiet, and 130."""
    return [
        Fault(
            name=f"SIG{signal} after {delay} s: {name}",
            command=f"timeout --preserve-status -s {signal} {delay} {command}",
            code=(0, 130),
            files=PROJECT,
        )
        for signal, delay, (name, (command, _, _)) in product(
            ("INT", "TERM"), EARLY, [(name, (CHEAP | COSTLY)[name]) for name in ("gpus", "find-batch")]
        )
    ]


FAULTS = [*streams(), *flags(), *limits(), *early_signals()]
