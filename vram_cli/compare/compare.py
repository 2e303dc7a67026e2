"""The question itself: which sizes fit, then training with each, and what that comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from vram_cli.commands.learning_rate import scaled, scaling_of
from vram_cli.compare.findings import findings, noise_exponent
from vram_cli.compare.messages import RunTraining, TrainingProgress
from vram_cli.compare.options import CompareOptions
from vram_cli.compare.records import ComparePlan, Comparison, MemoryCheck, Run
from vram_cli.compare.results_file import Journal, SimulatedTraining
from vram_cli.compare.summary import size_answer
from vram_cli.compare.training_client import TrainingClient
from vram_cli.config import Config, load_config, with_overrides
from vram_cli.errors import ConfigError, Interrupted, WorkloadError
from vram_cli.probe import OpenProbe, Probe, open_probe
from vram_cli.progress import SILENT, Progress
from vram_cli.records import Measurement, Outcome, RunInfo

DEFAULT_FILE = Path("vram-compare.jsonl")


def compare_batch_sizes(
    config: Config | str | None = None,
    asked: CompareOptions = CompareOptions(),  # noqa: B008 - it is frozen
    *,
    results: Path = DEFAULT_FILE,
    fresh: bool = False,
    download: bool = False,
    progress: Progress = SILENT,
    open_probe: OpenProbe = open_probe,
) -> Comparison:
    """Train with each batch size on the same samples, and put side by side what that does.

    Everything that is finished is kept in a file, line by line; where that has some of it already, only the rest is
    trained. All of it happens in child processes: weights, random state and settings of the caller are not touched.

    Args:
        config: what to train; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        asked: which sizes, on how much data, how often.
        results: the file.
        fresh: whether what the file has is thrown away.
        download: whether missing data files may be downloaded.
        progress: receives every training that is finished, and what happens between them.
        open_probe: opens the probe that measures memory.

    Raises:
        ConfigError: the config or what is asked for says something wrong, or the file is about something else.
        WorkloadError: the model, its data or its loss raise.
        MachineError: the device asked for is not there.
        Interrupted: Ctrl-C.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    _require_trainable(settings)
    progress.status("starting the process that measures memory")
    with ExitStack() as stack:
        probe = stack.enter_context(open_probe(settings, download=download))
        remark = ""
        if probe.info.device.is_simulated:  # device: auto, and no GPU is here
            settings = with_overrides(settings, ["device.name=cpu"])
            remark = "There is no GPU here: trained on this computer's CPU."
            probe = stack.enter_context(open_probe(settings, download=download, reuse=probe))
        data = probe.info.data
        if data is None or data.source == "synthetic" or data.num_samples is None:
            raise _made_up(data.detail if data else "there is none")
        plan = asked.plan(data.num_samples, scaling_of(settings))
        sizes = asked.sizes(plan)
        info = replace(probe.info, remark=remark)
        subject = SimulatedTraining(config=info.config, plan=plan, device=info.device.name, versions=info.versions)
        bench = _Bench(settings, asked, plan, sizes, info)
        with Journal(results, subject, fresh=fresh) as journal:
            try:
                bench.measure(journal, probe, stack, open_probe, progress)
                stack.close()  # training needs the memory
                bench.train(journal, download, progress)
            except KeyboardInterrupt:
                raise Interrupted(bench.answer(journal, interrupted=True)) from None
            return bench.answer(journal)


@dataclass(frozen=True)
class _Bench:
    config: Config
    asked: CompareOptions
    plan: ComparePlan
    sizes: tuple[int, ...]
    run_info: RunInfo

    def measure(
        self, journal: Journal, probe: Probe, stack: ExitStack, open_probe: OpenProbe, progress: Progress
    ) -> None:
        """Measure the memory of each size that the journal does not know; of what does not fit, that of parts too."""
        too_large: list[Measurement] = []
        for size in self.sizes:
            if size not in journal.fits:
                progress.status(f"measuring the memory of batch size {size:,}")
                measured = probe.measure(size)
                _raise_own_error(probe, measured)
                if measured.fits:
                    journal.keep_fit(MemoryCheck(batch_size=size, fits=True, peak_bytes=measured.peak_reserved_bytes))
                else:
                    too_large.append(measured)
        if too_large:
            # Between parts gradients wait, which takes more than a batch of that size by itself.
            batches = 2 * self.config.train.gradient_accumulation_steps
            config = with_overrides(self.config, [f"train.gradient_accumulation_steps={batches}"])
            probe = stack.enter_context(open_probe(config, reuse=probe))
        for measured in too_large:
            progress.status(f"looking for parts of batch size {measured.batch_size:,} that fit")
            journal.keep_fit(_in_parts(probe, measured))

    def train(self, journal: Journal, download: bool, progress: Progress) -> None:
        """Run what the journal lacks, one repeat of all sizes after the other, so that they stay side by side."""
        tasks = list(self._tasks(journal))
        missing = [task for task in tasks if task not in journal.runs]
        if len(missing) < len(tasks):
            progress.note(f"{len(tasks) - len(missing)} of {len(tasks)} trainings are in the file already")
        fits = [journal.fits[size] for size in self.sizes]
        largest = max((fit.batch_size if fit.fits else fit.part or 1 for fit in fits), default=1)
        place = self.run_info.device.type
        with TrainingClient(self.config, self.plan, device=place, largest=largest, download=download) as trainer:
            for index, (size, repeat, fold) in enumerate(missing, len(tasks) - len(missing) + 1):
                fit = journal.fits[size]
                if not self._is_trained(fit):  # found out by an earlier training
                    continue
                which = f"{index} of {len(tasks)}: batch size {size:,}, repeat {repeat + 1}"
                name = which + (f", fold {fold + 1}" if self.plan.folds > 1 else "")
                progress.status(name)
                task = self._task(fit, repeat, fold)
                done = trainer.train(task, _teller(progress, name))
                if done.run is None:
                    journal.keep_fit(MemoryCheck(batch_size=size, fits=False, peak_bytes=0, message=done.message))
                    progress.note(f"{name}: {done.message}")
                else:
                    journal.keep_run(done.run)
                    progress.note(f"{name}: {_came_out(done.run)}")

    def answer(self, journal: Journal, *, interrupted: bool = False) -> Comparison:
        """Return what the journal comes to."""
        runs = [run for key, run in journal.runs.items() if key in set(self._tasks(journal))]
        accumulate = self.config.train.gradient_accumulation_steps
        answers = tuple(
            size_answer(size, self.plan, accumulate, journal.fits.get(size), _of(runs, size)) for size in self.sizes
        )
        return Comparison(
            run=self.run_info,
            plan=self.plan,
            repeats=self.asked.repeats,
            sizes=answers,
            findings=findings(answers, self.plan),
            noise_exponent=noise_exponent(answers),
            runs=tuple(runs),
            interrupted=interrupted,
        )

    def _tasks(self, journal: Journal) -> Iterator[tuple[int, int, int]]:
        for repeat in range(self.asked.repeats):
            for fold in range(self.plan.folds):
                for size in self.sizes:
                    if self._is_trained(journal.fits.get(size)):
                        yield size, repeat, fold

    def _is_trained(self, fit: MemoryCheck | None) -> bool:
        return fit is None or fit.fits or (self.asked.accumulate and fit.part is not None)

    def _task(self, fit: MemoryCheck, repeat: int, fold: int) -> RunTraining:
        samples = fit.batch_size * self.config.train.gradient_accumulation_steps
        return RunTraining(
            batch_size=fit.batch_size,
            parts=1 if fit.fits else fit.parts,
            repeat=repeat,
            fold=fold,
            learning_rate=scaled(self.config, samples, self.plan.scaling),
        )


def _require_trainable(config: Config) -> None:
    if config.device.gpu is not None:
        raise ConfigError(
            "device.gpu: training happens on a device that is there, and this names one to predict for",
            "leave it out; `vram find-batch --gpu` says which sizes fit that card",
        )
    if config.data.inputs is not None or "synthetic" in (config.data.name, config.data.source):
        raise _made_up("the config asks for made-up samples")
    if config.step is not None:
        raise ConfigError(
            "step.function: a step of your own has no loss that could be taken without training",
            "set loss.factory in its place, and leave step out",
        )


def _made_up(why: str) -> ConfigError:
    return ConfigError(f"data: {why}: there is nothing to learn from made-up samples", _REAL_DATA)


def _in_parts(probe: Probe, failed: Measurement) -> MemoryCheck:
    """Return into how many parts a batch has to be cut, twice as many each time."""
    where = f" in {failed.phase.value}" if failed.phase else ""
    fit = MemoryCheck(
        batch_size=failed.batch_size, fits=False, peak_bytes=0, message=failed.outcome.value.replace("_", " ") + where
    )
    parts = 2
    while parts <= failed.batch_size:
        part = -(-failed.batch_size // parts)
        measured = probe.measure(part)
        if measured.fits:
            return replace(fit, part=part, parts=parts, peak_bytes=measured.peak_reserved_bytes)
        parts *= 2
    return fit


def _raise_own_error(probe: Probe, measured: Measurement) -> None:
    """Raise what is the user's own error; batch norm may refuse one sample, and take two."""
    if measured.outcome is Outcome.ERROR and measured.batch_size == 1:
        measured = probe.measure(2)
    if measured.outcome is Outcome.ERROR:
        raise WorkloadError(
            f"a batch of {measured.batch_size:,} fails, and not for memory: {measured.message}",
            "the traceback above is from the model, its data or its loss; mend that first",
            traceback=measured.traceback,
        )


def _teller(progress: Progress, name: str) -> Callable[[TrainingProgress], None]:
    return lambda at: progress.status(f"{name}: step {at.step:,} of {at.steps:,}, loss {at.loss:.3f}")


def _came_out(run: Run) -> str:
    if run.diverged_at is not None:
        return f"diverged at step {run.diverged_at:,}"
    accuracy = "" if run.accuracy is None else f"accuracy {100 * run.accuracy:.1f} %, "
    return f"{accuracy}loss {run.loss:.4g}, {run.seconds:.1f} s"


def _of(runs: Sequence[Run], size: int) -> list[Run]:
    return [run for run in runs if run.batch_size == size]


_REAL_DATA = (
    "--download gets the files of mnist, fashion_mnist and cifar10, or set data.root to their folder; code of your own "
    "can name a Dataset by data.factory"
)
