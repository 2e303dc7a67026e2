"""Class d: hostile code of the user, in the places at which vram runs it."""

from __future__ import annotations

from typing import Any

from tests.faults.run import Fault

CONFIG = """
model: {factory: "own:net"}
data: {factory: "own:Blobs"}
optimizer: {name: sgd}
train: {batch_size: 8, learning_rate: 0.1}
"""
CODE = """
import atexit, contextlib, faulthandler, gc, os, signal, subprocess, sys, threading, time
import torch
from torch import nn

class Odd(Exception):
    def __str__(self):
        raise ValueError("no text")

class Base(BaseException):
    pass

IMPORTED

class Blobs(torch.utils.data.Dataset):
    def __len__(self):
        return 400

    def __getitem__(self, i):
        READ
        noise = torch.randn(4, generator=torch.Generator().manual_seed(i))
        return noise + (1.0 if i % 2 else -1.0), i % 2

class Net(nn.Sequential):
    def forward(self, x):
        FORWARD
        return super().forward(x)

def net():
    BUILT
    return Net(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
"""
CPU = "--device cpu --memory-limit 64MiB"
LIMITS = "--set search.trial_timeout=10"

HARMLESS = {
    "forks a process that sleeps": "os.fork() or time.sleep(100)",
    "forks, and both go on": "os.fork()",
    "starts a program": "subprocess.Popen(['sleep', '100'])",
    "starts a program in another session": "subprocess.Popen(['sleep', '100'], start_new_session=True)",
    "starts a daemon": "subprocess.run(['sh', '-c', 'setsid sleep 100 & exit'])",
    "starts a thread that never ends": "threading.Thread(target=time.sleep, args=(100,)).start()",
    "writes to low descriptors": "[write(f) for f in range(3, 20)]",
    "reads low descriptors": "[os.set_blocking(f, False) or os.read(f, 99) for f in range(3, 40) if is_pipe(f)]",
    "writes 80 MB to standard error": "[os.write(2, b'y' * 10**6) for _ in range(80)]",
    "writes to standard output": "os.write(1, b'{\"kind\": \"ready\"}\\n'); print('hello')",
    "ignores signals": "[signal.signal(s, signal.SIG_IGN) for s in (1, 2, 10, 12, 15)]",
    "handles child signals": "signal.signal(signal.SIGCHLD, lambda *_: None)",
    "changes the folder": "os.chdir('/')",
    "closes standard output": "os.closerange(1, 2)",
    "closes standard error": "os.closerange(2, 3)",
    "has no sys.stdout": "sys.stdout = sys.stderr = None",
    "empties the environment": "os.environ.clear()",
    "sleeps at exit": "atexit.register(time.sleep, 100)",
    "disables the crash report": "faulthandler.disable()",
    "disables the garbage collection": "gc.disable()",
    "takes all random numbers": "torch.manual_seed(0)",
    "is nicer": "os.nice(5)",
    "sets a narrow file mask": "os.umask(0o777)",
}
"""Code that disturbs its process, and after which the answer is right."""

HELPERS = """
import stat

def write(f):
    with contextlib.suppress(OSError):
        os.write(f, b"x\\n")

def is_pipe(f):
    with contextlib.suppress(OSError):
        return stat.S_ISFIFO(os.fstat(f).st_mode)
"""

ENDING: dict[str, tuple[str, tuple[int, ...], str]] = {
    "exits with 0": ("os._exit(0)", (2,), "exit code 0"),
    "exits with 3": ("os._exit(3)", (2,), "exit code 3"),
    "exits with a text": ("sys.exit('enough')", (2,), "enough"),
    "interrupts itself": ("raise KeyboardInterrupt", (2, 3), ""),
    "raises no Exception": ("raise Base('odd')", (2,), "exit code 1"),
    "aborts": ("os.abort()", (2,), "SIGABRT"),
    "crashes": ("import ctypes; ctypes.string_at(0)", (2,), "SIGSEGV"),
    "is killed": ("os.kill(os.getpid(), 9)", (3,), "SIGKILL is a signal from outside"),
    "is terminated": ("os.kill(os.getpid(), 15)", (3,), "SIGTERM is a signal from outside"),
    "reaches a limit of CPU time": ("os.kill(os.getpid(), 24)", (3,), "limit of CPU time"),
    "sends a real-time signal": ("os.kill(os.getpid(), 40)", (3,), "signal 40"),
    "writes to all descriptors": ("[write(f) for f in range(3, 1024)]", (2,), "descriptors that it did not open"),
    "closes all descriptors": ("os.closerange(3, 1024)", (2,), "own:net"),
    "forks and is killed": ("os.fork() or time.sleep(100); os.kill(os.getpid(), 9)", (3,), "SIGKILL"),
    "sleeps": ("time.sleep(100)", (3,), "search.trial_timeout"),
    "runs without end": ("while True: pass", (3,), "search.trial_timeout"),
    "stops itself": ("os.kill(os.getpid(), 19)", (3,), "search.trial_timeout"),
    "waits for input": ("input()", (2,), "EOFError"),
}
"""Code that ends the work of its process: exit codes, and a pattern of stderr."""

RAISING = {
    "raises without a text": ("raise Odd", "Odd"),
    "raises a lone surrogate": ("raise ValueError('a \\udcff b')", "ValueError: a"),
    "raises 50 MB": ("raise ValueError('x' * 50_000_000)", "characters left out"),
    "raises a null byte": ("raise ValueError('a \\0 b')", "ValueError"),
    "raises recursively": ("net()", "RecursionError"),
    "raises nothing printable": ("raise ValueError", "ValueError"),
    "raises with many causes": (
        "exec('try: 1/0\\nexcept Exception as e: raise ValueError(1) from e')",
        "ValueError: 1",
    ),
}
"""Code that raises: the type and the place are told, with exit code 2."""


def _row(name: str, where: str, action: str, command: str, **expected: Any) -> Fault:
    places = dict.fromkeys(("IMPORTED", "READ", "FORWARD", "BUILT"), "pass")
    places[where] = action
    places["IMPORTED"] = HELPERS + (action if where == "IMPORTED" else "")
    source = CODE
    for place, text in places.items():
        source = source.replace(place, text, 1)
    return Fault(
        name=f"{where.lower()}: {name}: {command.partition(' ')[0]}",
        command=f"vram {command}",
        files={"c.yaml": CONFIG, "own.py": source},
        **{"never": "error: this is a bug in vram", **expected},
    )


REAL = f"breakdown -c c.yaml {CPU}"
PREDICTED = "breakdown -c c.yaml --gpu t4"
TRAINED = "compare -c c.yaml --device cpu -b 8 --repeats 1 --epochs 1 --samples 40"
LIMITED = ((f"{REAL} {LIMITS}", "BUILT"), (f"{PREDICTED} {LIMITS}", "FORWARD"))

FAULTS = [
    *(_row(name, "BUILT", action, REAL, code=0, never="Traceback") for name, action in HARMLESS.items()),
    *(_row(name, "FORWARD", HARMLESS[name], PREDICTED, code=0, never="Traceback") for name in [*HARMLESS][:8]),
    *(_row(name, "READ", HARMLESS[name], TRAINED, code=0, never="Traceback") for name in [*HARMLESS][2:7:2]),
    *(
        _row(name, place, action, command, code=code, stderr=words)
        for name, (action, code, words) in ENDING.items()
        for command, place in LIMITED
    ),
    *(
        _row(name, "BUILT", action, command, code=2, stderr=words)
        for name, (action, words) in RAISING.items()
        for command in (REAL, PREDICTED)
    ),
    *(
        _row(name, "IMPORTED", RAISING[name][0], PREDICTED, code=2, stderr="own:net: importing own failed")
        for name in [*RAISING][:3]
    ),
]
