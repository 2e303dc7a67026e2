"""The comparison: check which batch sizes fit in memory, train with each, and summarize the runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from vram_cli.commands.learning_rate import choose_scaling, scale_learning_rate
from vram_cli.compare.findings import findings, noise_exponent
from vram_cli.compare.memory_checks import check_micro_batches, raise_user_error, verdict
from vram_cli.compare.messages import RunTraining, TrainingProgress
from vram_cli.compare.options import CompareOptions
from vram_cli.compare.records import ComparePlan, Comparison, MemoryCheck, TrainingRun
from vram_cli.compare.results_file import ComparisonKey, ResultsFile
from vram_cli.compare.summary import summarize
from vram_cli.compare.training_client import TrainingClient
from vram_cli.config import Config, load_config, with_overrides
from vram_cli.errors import ConfigError, Interrupted
from vram_cli.probe import OpenProbe, Probe, open_probe
from vram_cli.progress import SILENT, Progress
from vram_cli.records import Measurement, RunInfo

DEFAULT_FILE = Path("vram-compare.jsonl")


def compare_batch_sizes(
    config: Config | str | None = None,
    options: CompareOptions = CompareOptions(),  # noqa: B008 - it is frozen
    *,
    results: Path = DEFAULT_FILE,
    fresh: bool = False,
    download: bool = False,
    progress: Progress = SILENT,
    open_probe: OpenProbe = open_probe,
) -> Comparison:
    """Train with each batch size on the same samples and compare the results.

    Finished runs are stored in a file; an existing file is resumed. Trainings run in worker processes: weights, random
    state and settings of the caller do not change.

    Args:
        config: The training. A string is a file name; None is the bundled `mlp_mnist.yaml`.
        options: Batch sizes, data and repetitions.
        results: The file of finished runs.
        fresh: Whether to discard existing results.
        download: Whether torchvision may download missing data files.
        progress: Receives the current activity, and a note about each finished run.
        open_probe: Opens the probe that measures memory.

    Raises:
        ConfigError: The config or an option is invalid, or the file holds another comparison.
        WorkloadError: The model, the data or the loss raised an error.
        MachineError: The device does not exist, or a process was killed or made no progress; finished runs are kept.
        Interrupted: Ctrl-C.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    _require_trainable(settings)
    progress.status("starting the process that measures memory")
    with ExitStack() as stack:
        probe = stack.enter_context(open_probe(settings, download=download))
        remark = ""
        if probe.info.device.is_simulated:  # device: auto, on a machine without a GPU
            settings = with_overrides(settings, ["device.name=cpu"])
            remark = "This machine has no GPU: trained on the CPU."
            probe = stack.enter_context(open_probe(settings, download=download, reuse=probe))
        info = replace(probe.info, remark=remark)
        if info.data is None or info.data.source == "synthetic" or info.data.num_samples is None:
            raise _synthetic_data_error(info.data.detail if info.data else "the config names no data")
        plan = options.plan(info.data.num_samples, choose_scaling(settings))
        sizes = options.sizes(plan)
        key = ComparisonKey(config=info.config, plan=plan, device=info.device.name, versions=info.versions)
        with ResultsFile(results, key, fresh=fresh) as file:
            run = _ComparisonRun(settings, options, plan, sizes, info, file, progress)
            try:
                if too_large := run.check_memory(probe):
                    run.check_micro_batches(stack.enter_context(open_probe(run.accumulating, reuse=probe)), too_large)
                stack.close()  # training needs the memory
                run.train(download=download)
            except KeyboardInterrupt:
                raise Interrupted(run.answer(interrupted=True)) from None
            return run.answer()


@dataclass(frozen=True)
class _ComparisonRun:
    config: Config
    options: CompareOptions
    plan: ComparePlan
    sizes: tuple[int, ...]
    run_info: RunInfo
    file: ResultsFile
    progress: Progress

    @property
    def accumulating(self) -> Config:
        """The config with twice the micro-batches.

        A micro-batch needs more memory than a batch of its size: gradients exist during its forward pass.
        """
        steps = 2 * self.config.train.gradient_accumulation_steps
        return with_overrides(self.config, [f"train.gradient_accumulation_steps={steps}"])

    def check_memory(self, probe: Probe) -> list[Measurement]:
        """Check each size that the file lacks, and return those that do not fit."""
        too_large: list[Measurement] = []
        for size in self.sizes:
            if size not in self.file.memory_checks:
                self.progress.status(f"measuring the memory of batch size {size:,}")
                measurement = verdict(probe, size)
                raise_user_error(probe, measurement)
                if measurement.fits:
                    peak = measurement.peak_reserved_bytes
                    self.file.add_memory_check(MemoryCheck(batch_size=size, fits=True, peak_bytes=peak))
                else:
                    too_large.append(measurement)
        return too_large

    def check_micro_batches(self, probe: Probe, too_large: Iterable[Measurement]) -> None:
        """Find micro-batches that fit, for sizes that do not."""
        for measurement in too_large:
            self.progress.status(f"searching for micro-batches of batch size {measurement.batch_size:,} that fit")
            self.file.add_memory_check(check_micro_batches(probe, measurement))

    def train(self, *, download: bool) -> None:
        """Run the trainings that the file lacks: all sizes of one repeat, then the next, so that sizes stay even."""
        keys = list(self._run_keys())
        missing = [key for key in keys if key not in self.file.runs]
        finished = len(keys) - len(missing)
        if finished:
            self.progress.note(f"{finished} of {len(keys)} runs are already in the results file")
        checks = [self.file.memory_checks[size] for size in self.sizes]
        largest = max(check.batch_size if check.fits else check.micro_batch_size or 1 for check in checks)
        device = self.run_info.device.type
        with TrainingClient(self.config, self.plan, device=device, max_eval_batch=largest, download=download) as client:
            for index, (size, repeat, fold) in enumerate(missing, finished + 1):
                check = self.file.memory_checks[size]
                if not self._is_trained(check):  # an earlier run of this size ran out of memory
                    continue
                name = f"{index} of {len(keys)}: batch size {size:,}, repeat {repeat + 1}"
                name += f", fold {fold + 1}" if self.plan.folds > 1 else ""
                self.progress.status(name)
                reply = client.train(self._request(check, repeat, fold), _report_to(self.progress, name))
                if reply.run is None:
                    failed = MemoryCheck(batch_size=size, fits=False, peak_bytes=0, message=reply.message)
                    self.file.add_memory_check(failed)
                    self.progress.note(f"{name}: {reply.message}")
                else:
                    self.file.add_run(reply.run)
                    self.progress.note(f"{name}: {_describe(reply.run)}")

    def answer(self, *, interrupted: bool = False) -> Comparison:
        """Summarize the runs in the file."""
        keys = set(self._run_keys())
        runs = tuple(run for key, run in self.file.runs.items() if key in keys)
        summaries = tuple(
            summarize(
                size,
                self.plan,
                self.config.train.gradient_accumulation_steps,
                self.file.memory_checks.get(size),
                [run for run in runs if run.batch_size == size],
            )
            for size in self.sizes
        )
        return Comparison(
            run=self.run_info,
            plan=self.plan,
            repeats=self.options.repeats,
            sizes=summaries,
            findings=findings(summaries, self.plan),
            noise_exponent=noise_exponent(summaries),
            runs=runs,
            interrupted=interrupted,
        )

    def _run_keys(self) -> Iterator[tuple[int, int, int]]:
        for repeat in range(self.options.repeats):
            for fold in range(self.plan.folds):
                for size in self.sizes:
                    if self._is_trained(self.file.memory_checks.get(size)):
                        yield size, repeat, fold

    def _is_trained(self, check: MemoryCheck | None) -> bool:
        return check is None or check.fits or (self.options.accumulate and check.micro_batch_size is not None)

    def _request(self, check: MemoryCheck, repeat: int, fold: int) -> RunTraining:
        samples = check.batch_size * self.config.train.gradient_accumulation_steps
        return RunTraining(
            batch_size=check.batch_size,
            micro_batches=check.micro_batches,
            repeat=repeat,
            fold=fold,
            learning_rate=scale_learning_rate(self.config, samples, self.plan.lr_scaling),
        )


def _require_trainable(config: Config) -> None:
    if config.parallel is not None:
        raise ConfigError(
            "parallel: compare trains on one device", "remove it: the batch of one rank is what it compares"
        )
    if config.script is not None:
        raise ConfigError(
            f"{config.source}: vram compare trains a model and data of its own config, and a script trains by itself",
            "run the script with each batch size; `vram find-batch` finds the largest",
        )
    if config.device.gpu is not None:
        raise ConfigError(
            "device.gpu: training needs a real device, but this key asks for a prediction",
            "remove it; `vram find-batch --gpu` predicts which sizes fit on that GPU",
        )
    if config.mode != "train":
        raise ConfigError(f"mode: {config.mode} takes no training steps, which a comparison needs", "set mode=train")
    if config.data.inputs is not None or "synthetic" in (config.data.name, config.data.source):
        raise _synthetic_data_error("the config asks for synthetic samples")
    if config.step is not None:
        raise ConfigError(
            "step.function: a custom step hides the loss, which validation needs",
            "set loss.factory instead, and remove step",
        )


def _synthetic_data_error(reason: str) -> ConfigError:
    return ConfigError(
        f"data: {reason}: there is nothing to learn from synthetic samples",
        "use --download to get mnist, fashion_mnist or cifar10, set data.root to their folder, or name your own "
        "Dataset with data.factory",
    )


def _report_to(progress: Progress, name: str) -> Callable[[TrainingProgress], None]:
    return lambda at: progress.status(f"{name}: step {at.step:,} of {at.steps:,}, loss {at.loss:.3f}")


def _describe(run: TrainingRun) -> str:
    if run.diverged_at is not None:
        return f"diverged at step {run.diverged_at:,}"
    accuracy = "" if run.accuracy is None else f"accuracy {100 * run.accuracy:.1f} %, "
    return f"{accuracy}loss {run.loss:.4g}, {run.seconds:.1f} s"
