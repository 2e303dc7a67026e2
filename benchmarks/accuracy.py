"""Predicted against measured: brackets of timm on an RTX 3090, and peaks of xMem on an RTX 3060 and an RTX 4060.

Run `python -m benchmarks.accuracy [timm|xmem] [--every N] [--only WORD] [--rows]`. The timm rows need timm installed.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vram_cli.allocator.replay import ReplayResult, replay
from vram_cli.fake_tensors import SimulatedTraining, Simulation
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Phase
from vram_cli.units import GIB
from vram_cli.workload import Workload, supervised
from vram_cli.workload.workload import Step

DATA = Path(__file__).parent / "data"

TIMM_CONTEXT = 1_687_000_000
"""RTX 3090, torch 1.8.2 + CUDA 11.1 without lazy loading: the measurement closest to theirs (pytorch#55277)."""
TIMM_TOTAL = int(23.69 * GIB)
"""Total memory that torch reported on that GPU; see data/README.md."""
XMEM_CONTEXT = 0
"""Their figures are relative to the memory in use when the monitor started, so they probably exclude the context."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=["xmem", "timm"])
    parser.add_argument("--every", type=int, default=1, help="only every N-th row")
    parser.add_argument("--start", type=int, default=0, help="rows to skip")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    options = parser.parse_args()
    for name in options.sets:
        rows = [row for row in _rows(name) if options.only in row["model"]][options.start :: options.every]
        {"xmem": xmem, "timm": brackets}[name](rows)


def brackets(rows: list[dict[str, str]]) -> None:
    """Print the share of rows in which batch_fits is predicted to run and batch_failed to fail."""
    os.environ["TIMM_FUSED_ATTN"] = "0"
    gpu, num_inside, num_rows = find_gpu("rtx-3090"), 0, 0
    for row in rows:
        began = time.perf_counter()
        training = timm_training(row["model"], int(row["img_size"]), channels_last=row["channels_last"] == "True")
        try:
            simulation = Simulation(training, gpu, torch_version=(1, 12), fused_attention=False, cudnn_benchmark=True)
            ran, failed = (
                replay(simulation.trace(int(row[column])), TIMM_TOTAL - TIMM_CONTEXT)
                for column in ("batch_fits", "batch_failed")
            )
        except Exception as error:  # noqa: BLE001 - a model that cannot be predicted is a row of the table
            print(f"{row['model']:42} {type(error).__name__}: {str(error)[:100]}", flush=True)
            num_rows += 1
            continue
        is_inside = ran.failure is None and failed.failure is not None
        num_inside, num_rows = num_inside + is_inside, num_rows + 1
        verdict = "inside" if is_inside else "too high" if failed.failure is None else "too low"
        print(
            f"{row['model']:42} {row['batch_fits']:>5} {_in_words(ran)} {row['batch_failed']:>5} {_in_words(failed)} "
            f"{verdict:9} {time.perf_counter() - began:5.1f} s",
            flush=True,
        )
    print(f"timm: {num_inside} of {num_rows} inside the bracket ({num_inside / max(num_rows, 1):.1%})")


def xmem(rows: list[dict[str, str]]) -> None:
    """Print the error of the reserved peak in rows that fit, and the share of correct outcomes in all rows."""
    errors, num_correct, num_rows = [], 0, 0
    for row in rows:
        training = xmem_training(row)
        if training is None:
            print(f"{row['model']:28} skipped: not a torchvision model", flush=True)
            continue
        gpu = find_gpu("rtx-3060" if "3060" in row["gpu"] else "rtx-4060")
        simulation = Simulation(training, gpu, torch_version=(2, 6), tf32=True)
        capacity = int(row["gpu_total_bytes"]) - gpu.context_bytes
        result = replay(simulation.trace(int(row["batch"])), capacity, steps=4)
        fits, fitted = result.failure is None, row["outcome"] == "fits"
        num_correct, num_rows = num_correct + (fits == fitted), num_rows + 1
        error = ""
        if fitted:
            errors.append(_peak(result) / int(row["measured"]) - 1)
            error = f"{errors[-1]:+7.2%}"
        print(
            f"{row['model']:16} {row['optimizer']:8} {row['batch']:>4} {_peak(result) / GIB:6.2f} GiB "
            f"measured {int(row['measured']) / GIB:6.2f} {'fits' if fitted else 'OOM':5} "
            f"predicted {'fits' if fits else 'OOM':5} {error}",
            flush=True,
        )
    sizes = sorted(map(abs, errors))
    p90 = quantiles(sizes, n=10)[-1] if len(sizes) > 1 else float("nan")
    outcomes = f"{num_correct} of {num_rows} outcomes correct"
    print(f"xmem: median {median(sizes):.2%}, p90 {p90:.2%}, worst {sizes[-1]:.2%}; {outcomes}")


def timm_training(name: str, size: int, *, channels_last: bool) -> SimulatedTraining:
    """Return the training of timm's benchmark.py: autocast includes backward, gradients are zeroed in place."""
    import timm

    layout = torch.channels_last if channels_last else torch.contiguous_format

    def make_batch(n: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.empty(n, 3, size, size, device=device)
        return images.contiguous(memory_format=layout), torch.empty(0, dtype=torch.int64, device=device)

    def step(work: Workload, batch: tuple[torch.Tensor, torch.Tensor], enter: Callable[[Phase], None]) -> torch.Tensor:
        work.optimizer.zero_grad(set_to_none=False)
        enter(Phase.FORWARD)
        with work.autocast():
            output = work.model(batch[0])
            output = output[0] if isinstance(output, tuple) else output
            targets = torch.empty(len(output), dtype=torch.int64, device=output.device)
            loss = functional.cross_entropy(output, targets)
            enter(Phase.BACKWARD)
            loss.backward()
        enter(Phase.OPTIMIZER)
        work.optimizer.step()
        return output

    return SimulatedTraining(
        build_model=lambda: _sized(timm.create_model, name, size).to(memory_format=layout),
        workload=lambda model, device: _workload(
            model,
            device,
            torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True, foreach=False),
            torch.float16,
            step,
        ),
        make_batch=make_batch,
    )


def xmem_training(row: dict[str, str]) -> SimulatedTraining | None:
    """Return a float32 training of a torchvision model with a new batch in every step; None for other models."""
    from torchvision import models

    name = row["model"].lower().replace("convnext", "convnext_").replace("regnet", "regnet_")
    name = name.replace("mnasnet", "mnasnet1_0").replace("mobilenetv", "mobilenet_v").replace("x400", "_x_400")
    name = name.replace("y400", "_y_400").replace("__", "_").replace("v3l", "v3_large").replace("v3s", "v3_small")
    if name not in models.list_models():
        return None
    classes = 10 if "num_classes=10;" in row["extra_setup"] else 1000
    between = "between forward and backward;" in row["extra_setup"].replace("(mode 1);", "")
    optimizer: Any = getattr(torch.optim, row["optimizer"])
    batch_size = [0]

    def make_batch(n: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        batch_size[0] = n
        return torch.empty(0, device=device), torch.empty(0, device=device, dtype=torch.int64)

    batch: list[torch.Tensor] = []

    def step(work: Workload, _: tuple[torch.Tensor, torch.Tensor], enter: Callable[[Phase], None]) -> torch.Tensor:
        batch[:] = [
            torch.empty(batch_size[0], 3, 86, 86, device=work.device),
            torch.empty(batch_size[0], device=work.device, dtype=torch.int64),
        ]
        if not between:
            work.optimizer.zero_grad()
        enter(Phase.FORWARD)
        loss = work.loss(work.model, (batch[0], batch[1]))
        if between:
            work.optimizer.zero_grad()
        enter(Phase.BACKWARD)
        loss.backward()
        enter(Phase.OPTIMIZER)
        work.optimizer.step()
        return loss

    return SimulatedTraining(
        build_model=lambda: models.get_model(name, weights=None, num_classes=classes),
        workload=lambda model, device: _workload(model, device, optimizer(model.parameters(), lr=1e-3), None, step),
        make_batch=make_batch,
    )


def _workload(
    model: nn.Module,
    device: torch.device,
    optimizer: torch.optim.Optimizer,
    autocast: torch.dtype | None,
    step: Step,
) -> Workload:
    return Workload(
        model=model.train(),
        loss=supervised(nn.CrossEntropyLoss()),
        optimizer=optimizer,
        scaler=torch.amp.GradScaler("cuda", enabled=False),
        device=device,
        autocast_dtype=autocast,
        step=step,
    )


def _sized(create: Callable[..., nn.Module], name: str, size: int) -> nn.Module:
    """Create the model for an image size, if it takes one."""
    try:
        return create(name, img_size=size)
    except TypeError:
        return create(name)


def _in_words(result: ReplayResult) -> str:
    return f"{_peak(result) / GIB:6.2f} GiB {'OOM' if result.failure else '':3}"


def _peak(result: ReplayResult) -> int:
    return max(peak.reserved_bytes for peak in result.peaks)


def _rows(name: str) -> Iterator[dict[str, str]]:
    file = DATA / {"xmem": "xmem_peaks.csv", "timm": "timm_rtx3090_brackets.csv"}[name]
    with file.open(newline="") as stream:
        yield from csv.DictReader(stream)


if __name__ == "__main__":
    sys.exit(main())
