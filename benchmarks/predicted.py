"""Predicted against measured on the GPU of this machine: peaks of memory and largest batches, `make bench-gpu`.

    python -m benchmarks.predicted [--quick] [--minutes M] [--results FOLDER]

`find_batch` measures each case, with the whole memory of the GPU and under memory limits. The case is then predicted as
if the GPU were in another machine: from its entry in the catalogue, without calibration. A round measures every case
once, and spreads them over the limits. A search takes about 25 seconds: the default time suffices for the first round,
and half an hour for all four.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.predicted_results import Peak, Report, Row
from vram_cli.commands.find_batch import find_batch
from vram_cli.config import Config, DeviceConfig, load_config
from vram_cli.errors import MachineError, VramError
from vram_cli.hardware.gpus import Gpu, recognise_gpu
from vram_cli.probe import WorkerProbe
from vram_cli.probe.messages import RunTrial
from vram_cli.probe.worker.trials import open_trials
from vram_cli.records import Category, Device, FindBatchResult, Limit, Measurement
from vram_cli.search import find_largest
from vram_cli.units import GIB, format_bytes

RESULTS = Path(__file__).parent / "results"
MINUTES, QUICK_MINUTES = 6.5, 2.0
"""Minutes for measuring; predictions take a minute or two more."""
MEMORY_LIMITS = (3 * GIB, 6 * GIB, 12 * GIB)
LEAST_SECONDS = 30.0
"""Seconds that a search may take even if it begins late."""

Measure = Callable[[Config], FindBatchResult]


@dataclass(frozen=True)
class Case:
    """A model, an optimizer and a precision."""

    model: str
    optimizer: str
    precision: str = "fp32"

    def __str__(self) -> str:
        return f"{self.model}, {self.optimizer.replace(': true', '')}, {self.precision}"

    def config(self) -> Config:
        """Return the config to measure: data without an end, and a search for the maximum only."""
        file, *more = MODELS[self.model]
        overrides = [f"optimizer={{name: {self.optimizer}}}", f"precision={self.precision}", "device.name=cuda"]
        return load_config(
            file, [*more, *overrides, "search.limit_to_dataset=false", "search.margin=0", "search.multiple_of=1"]
        )


IMAGES = "data={name: synthetic, shape: [3, 224, 224], classes: 1000}"
MODELS = {
    "mlp": ("mlp_cifar10.yaml", "model.hidden=8192", "data.source=synthetic"),
    "cnn": ("cnn_cifar10.yaml", "data.source=synthetic"),
    "resnet18": ("resnet18_cifar10.yaml", "data={name: synthetic, shape: [3, 128, 128], classes: 100}"),
    "resnet50": ("resnet50_imagenet.yaml", IMAGES),
    "vit_b_16": ("resnet50_imagenet.yaml", IMAGES, "model={factory: torchvision:vit_b_16}"),
}
CASES = (
    Case("mlp", "sgd, momentum: 0.9"),
    Case("cnn", "adam"),
    Case("resnet18", "sgd, momentum: 0.9"),
    Case("resnet50", "sgd, momentum: 0.9", "amp-fp16"),
    Case("vit_b_16", "adamw", "amp-bf16"),
    Case("mlp", "adam", "amp-bf16"),
    Case("cnn", "rmsprop", "amp-fp16"),
    Case("resnet18", "adamw", "amp-bf16"),
    Case("resnet50", "adamw", "tf32"),
    Case("vit_b_16", "sgd, momentum: 0.9"),
    Case("mlp", "adamw, fused: true", "bf16"),
    Case("cnn", "sgd", "tf32"),
    Case("resnet18", "adagrad", "bf16"),
    Case("resnet50", "adam, fused: true", "amp-bf16"),
    Case("vit_b_16", "adam, fused: true", "bf16"),
)


def main(
    arguments: Sequence[str] | None = None,
    *,
    describe_gpu: Callable[[], tuple[Device, dict[str, str]]] | None = None,
    measure: Measure = find_batch,
    cases: Sequence[Case] = CASES,
) -> int:
    """Run the benchmark and return its exit code; tests pass `describe_gpu` and `measure` in place of a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"measure for {QUICK_MINUTES:g} minutes only")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="minutes to measure (default: %(default)g)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="folder for the results")
    options = parser.parse_args(arguments)
    try:
        device, versions = (describe_gpu or describe_this_gpu)()
        gpu = recognise_gpu(device.name, device.capacity_bytes)
    except VramError as error:
        print(f"This benchmark needs a GPU of the catalogue: {error.message}", file=sys.stderr)
        return MachineError.exit_code
    began = time.monotonic()
    end = began + 60 * (min(QUICK_MINUTES, options.minutes) if options.quick else options.minutes)
    plan = list(rounds(cases, device.capacity_bytes))
    measured = list(measure_until(end, plan, measure))
    rows = tuple(compare(case, gpu, result) for case, result in measured)
    report = Report(device, versions, gpu.name, rows, len(plan) - len(rows), time.monotonic() - began)
    print(*report.summary(), *(f"written: {path}" for path in report.write(options.results)), sep="\n")
    return 0


def describe_this_gpu() -> tuple[Device, dict[str, str]]:
    """Return the GPU of this machine and the versions of its software, as a worker process reports them.

    This process must not touch the GPU before everything is measured: its own context would take memory there.

    Raises:
        MachineError: There is no GPU.
    """
    with WorkerProbe(load_config("mlp_mnist.yaml", ["device.name=cuda", "data.source=synthetic"])) as probe:
        return probe.info.device, probe.info.versions


def rounds(cases: Sequence[Case], gpu_bytes: int) -> Iterator[tuple[Case, int | None]]:
    """Yield each case with each memory limit, None for the whole GPU; a round has each case once, limits alternate."""
    limits = (None, *(limit for limit in MEMORY_LIMITS if limit < 0.9 * gpu_bytes))
    for number in range(len(limits)):
        for i, case in enumerate(cases):
            yield case, limits[(i + number) % len(limits)]


def measure_until(
    end: float, plan: Sequence[tuple[Case, int | None]], measure: Measure
) -> Iterator[tuple[Row, FindBatchResult | None]]:
    """Measure case by case until the time is up, or Ctrl-C; a failure is a row with its reason."""
    for case, memory_limit in plan:
        began = time.monotonic()
        if began >= end:
            return
        config = limited(case.config(), memory_limit, max(end - began, LEAST_SECONDS))
        row = Row(case=str(case), memory_limit_bytes=memory_limit, overrides=config.source.overrides)
        result = None
        try:
            result = measure(config)
        except KeyboardInterrupt:
            return
        except Exception as error:  # noqa: BLE001 - the failure is the result of the row
            row = replace(row, problem=f"measuring failed: {one_line(error)}")
        row = replace(row, seconds=time.monotonic() - began)
        outcome = row.problem if result is None else f"largest batch {result.max_batch_size}"
        print(
            f"{case}, {format_bytes(memory_limit) if memory_limit else 'whole GPU'}: {outcome}, {row.seconds:.0f} s",
            flush=True,
        )
        yield row, result


def limited(config: Config, memory_limit: int | None, seconds: float) -> Config:
    """Return the config with a memory limit, and a search that ends in time."""
    search = config.search.model_copy(update={"time_limit": seconds, "trial_timeout": seconds})
    device = config.device.model_copy(update={"memory_limit": memory_limit})
    return config.model_copy(update={"search": search, "device": device}).with_source(config.source)


def compare(row: Row, gpu: Gpu, result: FindBatchResult | None) -> Row:
    """Predict a measured case and add both results to its row."""
    if result is None:
        return row
    context = result.breakdown.bytes_of(Category.CONTEXT) if result.breakdown else None
    capacity = result.run.device.capacity_bytes
    row = replace(row, capacity_bytes=capacity, exact=result.max_batch_size, measured_context=context)
    if result.limited_by is not Limit.MEMORY or not result.max_batch_size:
        limit = result.limited_by.value if result.limited_by else "nothing"
        row = replace(row, exact=None, problem=f"no exact maximum: {limit} ended the search")
    try:
        return predicted(row, gpu, result)
    except Exception as error:  # noqa: BLE001 - the failure is the result of the row
        return replace(row, problem=f"predicting failed: {one_line(error)}")


def predicted(row: Row, gpu: Gpu, result: FindBatchResult) -> Row:
    """Add the predicted maximum, and the predicted peaks of every size that ran."""
    config = Config.model_validate(result.run.config)
    target = DeviceConfig(gpu=gpu.name, memory_limit=result.run.device.capacity_bytes)
    trials = open_trials(config.model_copy(update={"device": target}), download=False, calibrated=False)

    def run(n: int, *, confirm: bool = False) -> Measurement:
        return trials.run(RunTrial(batch_size=n, confirm=confirm), lambda _: None).measurement

    room = trials.ready.device.capacity_bytes - trials.ready.outside_bytes
    prediction = find_largest(run, capacity_bytes=room, multiple_of=1, confirm=lambda n: run(n, confirm=True))
    ran = {trial.batch_size: trial for trial in result.trials if trial.fits}
    both = [(ran[n], run(n)) for n in sorted(ran)]
    peaks = tuple(Peak.of(real, fake) for real, fake in both if fake.fits)
    context = trials.ready.outside_bytes
    return replace(row, predicted=prediction.max_batch_size, predicted_context=context, peaks=peaks)


def one_line(error: Exception) -> str:
    """Return the class and the first line of an exception."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


if __name__ == "__main__":
    sys.exit(main())
