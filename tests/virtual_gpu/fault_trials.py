"""Trials of one session while something fails, in a process with the virtual GPU preloaded.

    python -m tests.virtual_gpu.fault_trials STEP_MIB NAME...

The GPU is full after every STEP_MIB (0: it never is), then functions of CUDA refuse one by one. Prints a line of JSON
per fault, as it happens: what failed, and what came of the trial.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Iterator
from ctypes import byref, c_size_t, c_void_p
from itertools import chain
from typing import Any

import torch

from vram_cli.config import load_config
from vram_cli.errors import UnsupportedError
from vram_cli.probe.messages import RunTrial
from vram_cli.probe.worker.trials import Trials, open_trials
from vram_cli.records import Measurement

CUDA = ctypes.CDLL(None)
MIB = 1024**2
OVERRIDES = ("device.gpu=rtx-4090", "precision=amp-fp16", "optimizer={name: adam}", "data.source=synthetic")


def main(step_mib: str, *names: str) -> None:
    config = load_config("resnet18_cifar10.yaml", OVERRIDES)
    trials = open_trials(config, download=False, calibrated=False, virtual=True)
    measure(trials)  # the first trial warms up
    for fault in chain(full(trials, int(step_mib)) if int(step_mib) else (), refused(trials, names)):
        sys.stdout.write(json.dumps(fault) + "\n")
        sys.stdout.flush()


def measure(trials: Trials) -> Measurement:
    return trials.run(RunTrial(batch_size=64), lambda _: None).measurement


def figures(measured: Measurement) -> list[Any]:
    return [measured.outcome.value, measured.peak_allocated_bytes, measured.peak_reserved_bytes, measured.steps]


def refused(trials: Trials, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield "named" (an error with the function's name), "not called" (the same figures), or what else came."""
    expected = figures(measure(trials))
    for name in names:
        yield {"fault": name, "outcome": "started"}
        CUDA.vgpu_refuse(name.encode())
        try:
            found = figures(measure(trials))
            outcome = "not called" if found == expected else f"other figures: {found}"
        except UnsupportedError as error:
            outcome = "named" if name in error.message else f"another name: {error.message}"
        except Exception as error:  # noqa: BLE001 - it is the outcome
            outcome = f"{type(error).__name__}: {error}"
        CUDA.vgpu_refuse(b"")
        CUDA.vgpu_forget_refusals()
        CUDA.cudaGetLastError()
        recovered = figures(measure(trials)) == expected
        yield {"fault": name, "outcome": outcome if recovered else f"{outcome}, and then other figures"}


def full(trials: Trials, step_mib: int) -> Iterator[dict[str, Any]]:
    """Yield the outcome of a trial with 0, 1, 2... steps of memory, until it fits, and its phase if it does not."""
    baseline = measure(trials)
    room = 0
    while room <= baseline.peak_reserved_bytes + step_mib * MIB:
        torch.cuda.empty_cache()
        hog, size = c_void_p(), torch.cuda.mem_get_info()[0] - room
        assert CUDA.cudaMalloc(byref(hog), c_size_t(size // (2 * MIB) * 2 * MIB)) == 0
        measured = measure(trials)
        CUDA.cudaFree(hog)
        yield {
            "fault": room,
            "outcome": measured.outcome.value,
            "phase": measured.phase.value if measured.phase else None,
            "message": measured.message,
            "steps": measured.steps,
            "allocated": measured.peak_allocated_bytes,
        }
        room += step_mib * MIB


if __name__ == "__main__":
    main(*sys.argv[1:])
