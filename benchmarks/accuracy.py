"""Predicted against what others measured: timm on an RTX 3090, xMem on an RTX 3060 and an RTX 4060.

    python -m benchmarks.accuracy OUT.jsonl [timm] [xmem] [--engine virtual-gpu|fake-tensors] [--every N] [--only WORD]

Each row is added to OUT.jsonl as it is done, and rows that are there already are not run again. The virtual GPU of a
process is one GPU, so each GPU's rows run in a process of their own. The timm rows need timm installed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.engines import Peak, on_fake_tensors, on_virtual_gpu
from benchmarks.published import TIMM_CONTEXT, TIMM_TOTAL, rows, timm_training, xmem_training
from vram_cli import virtual_gpu
from vram_cli.fake_tensors import SimulatedTraining, Simulation
from vram_cli.hardware.gpus import find_gpu
from vram_cli.probe.devices.virtual import disable_triton_kernels
from vram_cli.units import GIB
from vram_cli.virtual_gpu.attached import is_attached

ENGINES = ("virtual-gpu", "fake-tensors")
TIMM_STEPS, XMEM_STEPS = 2, 4
Row = dict[str, str]
Answer = dict[str, Any]


def main() -> None:
    """Run the sets and print their tables and summaries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT.jsonl")
    parser.add_argument("sets", nargs="*", default=["xmem", "timm"])
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    parser.add_argument("--every", type=int, default=1, help="only every N-th row")
    parser.add_argument("--start", type=int, default=0, help="rows to skip")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--card", default="", help="only rows of this GPU")
    options = parser.parse_args()
    for name in options.sets:
        chosen = [row for row in rows(name) if options.only in row["model"]][options.start :: options.every]
        cards = sorted({card_of(name, row) for row in chosen})
        for card in [options.card] if options.card else cards:
            if options.engine == "virtual-gpu" and not is_attached():
                _on_card(name, card, next(row for row in chosen if card_of(name, row) == card))
            else:
                _run([row for row in chosen if card_of(name, row) == card], name, options)
        if not options.card:
            SUMMARIES[name](_answers(options.out, name))


def card_of(name: str, row: Row) -> str:
    """Return the GPU that a row was measured on."""
    if name == "timm":
        return "rtx-3090"
    return "rtx-3060" if "3060" in row["gpu"] else "rtx-4060"


def memory_of(name: str, row: Row) -> tuple[int, int]:
    """Return the memory of that GPU and its context, in bytes."""
    if name == "timm":
        return TIMM_TOTAL, TIMM_CONTEXT
    return int(row["gpu_total_bytes"]), find_gpu(card_of(name, row)).context_bytes


def _on_card(name: str, card: str, row: Row) -> None:
    """Run this command for one GPU in a process that has it."""
    memory, context = memory_of(name, row)
    variables = virtual_gpu.environment(find_gpu(card), memory_bytes=memory, context_bytes=context)
    command = [sys.executable, "-m", "benchmarks.accuracy", *sys.argv[1:], "--card", card]
    subprocess.run(command, env=os.environ | variables, check=True)


def _run(chosen: list[Row], name: str, options: argparse.Namespace) -> None:
    known = {_key(answer) for answer in _answers(options.out, name)}
    for row in chosen:
        answer: Answer = {"set": name, "model": row["model"], "row": row}
        if _key(answer) in known:
            continue
        began = time.perf_counter()
        try:
            answer |= SETS[name](row, options.engine)
        except Exception as error:  # noqa: BLE001 - a model that cannot be predicted is a row of the table
            answer["error"] = f"{type(error).__name__}: {error}"[:200]
        answer["seconds"] = round(time.perf_counter() - began, 1)
        with options.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(answer) + "\n")
        print(_line(answer), flush=True)


def brackets(row: Row, engine: str) -> Answer:
    """Predict the size that ran and the size that failed."""
    os.environ["TIMM_FUSED_ATTN"] = "0"
    training = timm_training(row["model"], int(row["img_size"]), channels_last=row["channels_last"] == "True")
    settings = {"torch_version": (1, 12), "fused_attention": False, "cudnn_benchmark": True}
    peak = _predictor("timm", row, training, engine, TIMM_STEPS, settings)
    return {column: vars(peak(int(row[column]))) for column in ("batch_fits", "batch_failed")}


def peaks(row: Row, engine: str) -> Answer:
    """Predict the reserved peak."""
    training = xmem_training(row)
    if training is None:
        return {"error": "not a torchvision model"}
    settings = {"torch_version": (2, 6), "tf32": True}
    return {"peak": vars(_predictor("xmem", row, training, engine, XMEM_STEPS, settings)(int(row["batch"])))}


def _predictor(  # noqa: PLR0917 - a row and how it is predicted
    name: str, row: Row, training: SimulatedTraining, engine: str, steps: int, settings: dict[str, Any]
) -> Callable[[int], Peak]:
    """Return batch size -> peak, with the settings of the fake tensors or those of PyTorch itself."""
    if engine == "virtual-gpu":
        import torch

        disable_triton_kernels()
        torch.backends.cudnn.benchmark = settings.get("cudnn_benchmark", False)
        return lambda n: on_virtual_gpu(training, n, steps)
    simulation = Simulation(training, find_gpu(card_of(name, row)), **settings)
    memory, context = memory_of(name, row)
    return lambda n: on_fake_tensors(simulation, n, memory - context, steps)


SETS: dict[str, Callable[[Row, str], Answer]] = {"timm": brackets, "xmem": peaks}


def _verdict(answer: Answer) -> str:
    if not answer["batch_fits"]["fits"]:
        return "too low"
    return "too high" if answer["batch_failed"]["fits"] else "inside"


def _line(answer: Answer) -> str:
    row, seconds = answer["row"], f"{answer['seconds']:6.1f} s"
    if "error" in answer:
        return f"{answer['model']:42} {answer['error']} {seconds}"
    if answer["set"] == "timm":
        sizes = " ".join(
            f"{row[key]:>5} {answer[key]['reserved'] / GIB:6.2f} GiB {'' if answer[key]['fits'] else 'OOM':3}"
            for key in ("batch_fits", "batch_failed")
        )
        return f"{answer['model']:42} {sizes} {_verdict(answer):9} {seconds}"
    peak, fitted = answer["peak"], row["outcome"] == "fits"
    measured = int(row["measured"])
    error = f"{peak['reserved'] / measured - 1:+7.2%}" if fitted else ""
    return (
        f"{row['model']:16} {row['optimizer']:8} {row['batch']:>4} {peak['reserved'] / GIB:6.2f} GiB "
        f"measured {measured / GIB:6.2f} {'fits' if fitted else 'OOM':5} "
        f"predicted {'fits' if peak['fits'] else 'OOM':5} {error}"
    )


def timm_summary(answers: list[Answer]) -> None:
    """Print the share of rows in which batch_fits runs and batch_failed fails."""
    verdicts = ["error" if "error" in answer else _verdict(answer) for answer in answers]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("inside", "too high", "too low", "error"))
    print(f"timm: {len(answers)} rows: {counts}")


def xmem_summary(answers: list[Answer]) -> None:
    """Print the error of the reserved peak in rows that fit, and the share of correct outcomes in all rows."""
    predicted = [answer for answer in answers if "error" not in answer]
    fitted = [answer for answer in predicted if answer["row"]["outcome"] == "fits"]
    errors = sorted(abs(answer["peak"]["reserved"] / int(answer["row"]["measured"]) - 1) for answer in fitted)
    correct = sum(answer["peak"]["fits"] == (answer in fitted) for answer in predicted)
    p90 = quantiles(errors, n=10)[-1] if len(errors) > 1 else float("nan")
    outcomes = f"{correct} of {len(predicted)} outcomes correct"
    print(f"xmem: median {median(errors):.2%}, p90 {p90:.2%}, worst {errors[-1]:.2%}; {outcomes}")


SUMMARIES = {"timm": timm_summary, "xmem": xmem_summary}


def _answers(out: Path, name: str) -> list[Answer]:
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    return [answer for answer in map(json.loads, lines) if answer["set"] == name]


def _key(answer: Answer) -> str:
    return json.dumps(answer["row"], sort_keys=True)


if __name__ == "__main__":
    main()
