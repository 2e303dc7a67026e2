"""What vram answers while something in the virtual GPU fails: helpers of test_faults.py, and the long campaign.

    python -m tests.virtual_gpu.faults    # hundreds of faults, in some minutes; exits with 1 if one gave a wrong answer

An answer is right if it is the one without the fault, or an error that gives no number.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.virtual_gpu.preloaded import ROOT, preloaded_environment
from vram_cli.config import Config, load_config
from vram_cli.errors import VramError
from vram_cli.hardware.gpus import find_gpu
from vram_cli.probe import WorkerProbe
from vram_cli.probe.environment import environment_of
from vram_cli.records import Measurement
from vram_cli.virtual_gpu import LIBRARIES, VARIABLE

GPU = find_gpu("rtx-4090")
NATIVE = ROOT / "native"
LIBRARY = LIBRARIES[0]


class Answer(NamedTuple):
    """The answer to a prediction: an exit code with a message, or a measurement."""

    code: int
    message: str
    measured: Measurement | None = None


def functions() -> list[str]:
    """Return every function of CUDA that the library answers or refuses by name."""
    text = "".join(file.read_text(encoding="utf-8") for file in NATIVE.glob("*.[ch]"))
    symbols = {*LIBRARY.read_bytes().split(b"\0")}
    words = {*re.findall(r"\b(?:__cuda|cuda|cublas|cudnn|cusolver|cusparse|cufft|cu|nccl)[A-Z]\w+", text)}
    return sorted(name for name in words if name.encode() in symbols and name != "cudaErrorUnknown")


def small_config(*overrides: str) -> Config:
    return load_config("cnn_mnist.yaml", [f"device.gpu={GPU.name}", "data.source=synthetic", *overrides])


def predict(
    config: Config,
    change: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda variables: variables,
    meanwhile: Callable[[int], None] = lambda pid: None,
) -> Answer:
    """Predict one batch in a worker whose environment is changed. A thread calls `meanwhile` with the worker's id."""

    def changed(*arguments: Any, **options: Any) -> dict[str, str]:
        return {**change(environment_of(*arguments, **options))}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vram_cli.probe.client.environment_of", changed)
        try:
            with WorkerProbe(config) as probe:
                assert probe.pid is not None
                thread = threading.Thread(target=meanwhile, args=(probe.pid,))
                thread.start()
                try:
                    return Answer(0, "", probe.measure(64))
                finally:
                    thread.join()
        except VramError as error:
            return Answer(error.exit_code, error.message)


def refusing(*names: str) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    """Return a change of the environment that makes functions refuse from the start."""
    return lambda variables: {**variables, VARIABLE: f"{variables[VARIABLE]}\nrefuse={','.join(names)}"}


def with_library(path: Path) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    """Return a change of the environment that puts another file in the place of the library of CUDA."""
    return lambda variables: {**variables, "LD_PRELOAD": variables["LD_PRELOAD"].replace(str(LIBRARY), str(path))}


@contextmanager
def library_without(function: str) -> Iterator[Path]:
    """A library that lacks a function, as the library of an older vram lacks those of a newer PyTorch."""
    original = f"\0{function}\0".encode()
    content = LIBRARY.read_bytes()
    assert content.count(original) >= 1, function
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, LIBRARY.name)
        path.write_bytes(content.replace(original, original.replace(function[:1].encode(), b"X", 1)))
        yield path


def fault_trials(*arguments: str) -> tuple[list[dict[str, Any]], int]:
    """Return the faults that a process of `fault_trials` reports, and its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.virtual_gpu.fault_trials", *arguments],
        cwd=ROOT,
        env=preloaded_environment(GPU),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    faults = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert faults, done.stderr[-3000:]
    return faults, done.returncode


# --- the campaign ---


AT_START = (
    "cudaGetDeviceCount", "cudaSetDevice", "cudaGetDeviceProperties", "cudaMalloc", "cudaMemGetInfo", "cudaMemcpyAsync",
    "cudaStreamCreateWithPriority", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaLaunchKernel",
    "__cudaLaunchKernel", "cudaFuncGetAttributes", "cudaRuntimeGetVersion", "cudaDriverGetVersion",
    "cudaEventCreateWithFlags", "cudaStreamIsCapturing", "cudaHostAlloc", "cudaDeviceGetAttribute", "cublasCreate_v2",
    "cublasSetStream_v2", "cublasLtCreate", "cublasSgemm_v2", "cudnnCreate", "cudnnSetStream",
    "cudnnBackendCreateDescriptor", "cudnnBackendFinalize", "cudnnBackendExecute",
)  # fmt: skip

MISSING = (
    "cudaGetDeviceCount", "cudaMalloc", "cudaFree", "cudaMemGetInfo", "cudaMemcpyAsync", "cudaLaunchKernel",
    "cudaGetDeviceProperties", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventCreateWithFlags",
    "cudaFuncGetAttributes", "cudaPeekAtLastError", "cudaGetLastError", "__cudaRegisterFatBinary",
    "__cudaRegisterFunction", "__cudaPushCallConfiguration", "__cudaLaunchKernel", "cublasCreate_v2", "cublasSgemm_v2",
    "cublasLtMatmul", "cudnnCreate", "cudnnBackendCreateDescriptor", "cudnnBackendFinalize", "cudnnBackendExecute",
)  # fmt: skip


def refused_one_by_one(names: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    rest = list(names)
    while rest:
        faults, _ = fault_trials("0", *rest)
        done = {fault["fault"]: fault["outcome"] for fault in faults}
        for name, outcome in done.items():
            is_right = outcome in ("named", "not called", "started")
            yield name, "the process ended" if outcome == "started" else outcome, is_right
        rest = [name for name in rest if name not in done]


def full_after_every_step(step_mib: int) -> Iterator[tuple[str, str, bool]]:
    faults, code = fault_trials(str(step_mib))
    fits = [fault["outcome"] == "fits" for fault in faults]
    for fault, fault_fits in zip(faults, fits, strict=True):
        is_right = fault["allocated"] == faults[-1]["allocated"] if fault_fits else fault["outcome"] == "out_of_memory"
        where = "fits" if fault_fits else f"out of memory, in {fault['phase']}"
        yield f"{fault['fault']:,} bytes", where, is_right and code == 0 and fits == sorted(fits)


def killed() -> Iterator[tuple[str, str, bool]]:
    for name in ("SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT"):
        for delay in (0.0, 0.05):

            def kill(pid: int, number: int = signal.Signals[name], delay: float = delay) -> None:
                time.sleep(delay)
                os.kill(pid, number)

            answer = predict(small_config(), meanwhile=kill)
            expected = 3 if name in ("SIGKILL", "SIGTERM") else 70  # from outside, or a crash
            yield f"{name} after {delay} s", f"exit {answer.code}", answer.code == expected


def broken_libraries() -> Iterator[tuple[str, str, bool]]:
    content = LIBRARY.read_bytes()
    contents = {"empty": b"", "cut off": content[: len(content) // 2], "text": b"no library\n", "zeros": bytes(4096)}
    for name, broken in contents.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, LIBRARY.name)
            path.write_bytes(broken)
            answer = predict(small_config(), with_library(path))
        yield name, f"exit {answer.code}", answer.code in (3, 70)
    answer = predict(small_config(), with_library(Path("/nowhere/libvram_gpu.so")))
    yield "not there", f"exit {answer.code}", answer.code == 3


def answers(names: Sequence[str], predicted: Callable[[str], Answer]) -> Iterator[tuple[str, str, bool]]:
    """Yield the answers with a fault of each function: an error, or the figures without it."""
    expected = predict(small_config()).measured
    assert expected is not None
    for name in names:
        answer = predicted(name)
        if answer.measured is None:
            yield name, f"exit {answer.code}" + (", named" if name in answer.message else ""), True
        else:
            same = [answer.measured.outcome, answer.measured.peaks] == [expected.outcome, expected.peaks]
            yield name, "the same figures" if same else f"other figures: {answer.measured.message}", same


def _without(name: str) -> Answer:
    with library_without(name) as path:
        return predict(small_config(), with_library(path))


def _refusing_from_the_start(name: str) -> Answer:
    return predict(small_config(), refusing(name))


def main() -> int:
    kinds: dict[str, Callable[[], Iterator[tuple[str, str, bool]]]] = {
        "a function refuses": lambda: refused_one_by_one(functions()),
        "a function refuses from the start": lambda: answers(AT_START, _refusing_from_the_start),
        "PyTorch needs a function that the library lacks": lambda: answers(MISSING, _without),
        "the GPU is full": lambda: full_after_every_step(2),
        "the worker is killed": killed,
        "the library does not load": broken_libraries,
    }
    failed = 0
    for kind, faults in kinds.items():
        counts: Counter[str] = Counter()
        for name, outcome, is_right in faults():
            counts[outcome if is_right else "WRONG"] += 1
            if not is_right:
                failed += 1
                sys.stdout.write(f"    wrong: {name}: {outcome}\n")
        for outcome, count in counts.most_common():
            sys.stdout.write(f"{kind}\t{count}\t{outcome}\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
