"""`vram advise` as a function: a training without changes, the effect of changes on it, and plans for a batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vram_cli.commands.advise.accumulation import plan_effective_batch, plan_fit_batch
from vram_cli.commands.advise.advice_run import AdviceRun
from vram_cli.commands.advise.fewest_gpus import NUMBERS_OF_GPUS, asks_for_ranks, fewest_gpus
from vram_cli.commands.advise.trial_runner import TrialRunner
from vram_cli.commands.learning_rate import get_effective_batch_size, suggest_learning_rate
from vram_cli.commands.scripts import refuse_for_scripts
from vram_cli.config import Config, load_config, with_overrides
from vram_cli.errors import ConfigError, CutShortError, Interrupted, ProbeError, VramError
from vram_cli.hardware.gpus import Gpu, find_gpu
from vram_cli.probe import OpenProbe, open_probe
from vram_cli.progress import SILENT, Progress
from vram_cli.records import AccumulationPlan, Advice, GpuEstimate, LearningRateSuggestion, OptimizationResult

_OPEN = (
    "a script decides about its model, precision and optimizer itself: only the allocator's options, keys of device "
    "and search (--also-try) and other GPUs (--gpus) are tried"
)


def advise(
    config: Config | str | None = None,
    *,
    also_try: Sequence[str] = (),
    fit_batch: int | None = None,
    effective_batch: int | None = None,
    gpus: Sequence[str] = (),
    download: bool = False,
    progress: Progress = SILENT,
    open_probe: OpenProbe = open_probe,
) -> Advice:
    """Report the changes that let a larger batch fit. Each is tried, by real steps or by prediction.

    Args:
        config: the training without changes; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        also_try: further overrides to try, such as "train.freeze=[features.*]".
        fit_batch: a batch size, of all ranks together; the cheapest combination of changes that makes it fit is
            reported and, if there is none, the fewest GPUs that train it.
        effective_batch: samples per optimizer step, to be accumulated from micro-batches.
        gpus: GPUs of the catalogue to compare.
        download: whether torchvision may download missing data files.
        progress: receives the change that is tried, and every trial.
        open_probe: opens the probes that run the trials.

    Raises:
        ConfigError: the config or an argument is wrong.
        WorkloadError: the model or its data raise at the smallest batch.
        MachineError: the device does not exist, or a prediction ran out of time or RAM.
        ProbeError: the worker process died in a prediction.
        Interrupted: Ctrl-C; `partial` is the answer so far.
    """
    config = config if isinstance(config, Config) else load_config(config)
    if effective_batch and config.mode == "eval":
        raise ConfigError(
            "--effective-batch: mode is eval, and only training accumulates gradients",
            "leave the option out, or set mode to train; --fit-batch works in both modes",
        )
    for flag, size in (("--effective-batch", effective_batch), ("--fit-batch", fit_batch)):
        if size and size % config.ranks:
            raise ConfigError(
                f"{flag}: {size:,} samples cannot be divided among {config.ranks:,} ranks",
                f"use a multiple of {config.ranks:,}",
            )
    refuse_for_scripts(config, effective_batch=effective_batch, download=download)
    for override in also_try:
        _require_open_key(config, override)
        with_overrides(config, [override])  # raises before any trial if it is wrong
    catalogue_gpus = [find_gpu(name) for name in gpus]
    with TrialRunner(config, progress=progress, download=download, open_probe=open_probe) as runner:
        run = AdviceRun(runner, config, also_try)
        plans: dict[str, Any] = {}
        try:
            run.run()
            if fit_batch:
                plans["fit_batch"] = plan_fit_batch(run, fit_batch)
                if asks_for_ranks(run, plans["fit_batch"]):
                    for rank_plan in fewest_gpus(run, fit_batch):
                        plans["fewest_gpus"] = (*plans.get("fewest_gpus", ()), rank_plan)
            if effective_batch:
                plans["effective_batch"] = plan_effective_batch(run, effective_batch)
            plans["learning_rate"] = _learning_rate(run, plans)
            for gpu in catalogue_gpus:
                plans["gpus"] = (*plans.get("gpus", ()), _gpu_estimate(runner, config, gpu, also_try))
        except KeyboardInterrupt:
            raise Interrupted(replace(_advice(run, plans), interrupted=True)) from None
        return _advice(run, plans)


def _require_open_key(config: Config, override: str) -> None:
    """Raise if a script decides about the key of an override itself."""
    section = override.partition("=")[0].partition(".")[0].strip()
    if config.script is not None and section not in ("device", "search"):
        raise ConfigError(
            f"--also-try {override}: a script decides about that itself",
            "for a script, name keys of device and search; change the script to try others",
        )


def _advice(run: AdviceRun, plans: dict[str, Any]) -> Advice:
    """Return the results and the plans so far."""
    considered = (NUMBERS_OF_GPUS,) if plans.get("fewest_gpus") else ()
    return Advice(
        run=run.run_info,
        max_batch_size=run.max_batch_size or None,
        at_batch_size=run.at_batch_size,
        breakdown=run.baseline.breakdown if run.baseline else None,
        growth=run.baseline.growth if run.baseline else None,
        optimizations=tuple(run.results),
        best=run.best,
        notes=(*_notes(run), *considered),
        **plans,
    )


def _learning_rate(run: AdviceRun, plans: dict[str, Any]) -> LearningRateSuggestion | None:
    """Return the learning rate for the requested batch or, without one, for the largest.

    None for the config's own batch size, for another optimizer, for a script, and in evaluation.
    """
    config = run.config
    plan: AccumulationPlan | None = plans.get("effective_batch") or plans.get("fit_batch")
    if config.mode == "eval" or config.script is not None:
        return None
    if plan is None:
        size = run.max_batch_size if _changes_optimizer(config, run.best) else run.best_batch_size
        samples = min(size, run.num_samples or size) * config.train.gradient_accumulation_steps * config.ranks
    elif not (plan.micro_batch_size or _has_enough_gpus(plans)) or _changes_optimizer(config, plan):
        samples = 0
    else:
        is_whole_step = "effective_batch" in plans
        samples = plan.batch_size * (1 if is_whole_step else config.train.gradient_accumulation_steps)
    return suggest_learning_rate(config, samples) if samples not in (0, get_effective_batch_size(config)) else None


def _has_enough_gpus(plans: dict[str, Any]) -> bool:
    return any(plan.ranks for plan in plans.get("fewest_gpus", ()))


def _changes_optimizer(config: Config, changes: OptimizationResult | AccumulationPlan | None) -> bool:
    return changes is not None and with_overrides(config, changes.overrides).optimizer.label != config.optimizer.label


def _gpu_estimate(runner: TrialRunner, config: Config, gpu: Gpu, also_try: Sequence[str]) -> GpuEstimate:
    config = with_overrides(config, ["device.name=auto", f"device.gpu={gpu.name}", "device.memory_limit=null"])
    try:
        run = AdviceRun(runner, config, also_try, gpu.name)
        run.run()
    except (CutShortError, ProbeError):  # these say nothing about the GPU
        raise
    except VramError as error:
        return GpuEstimate(
            name=gpu.name, capacity_bytes=gpu.memory_bytes, max_batch_size=None, best=None, reason=error.message
        )
    return GpuEstimate(
        name=gpu.name,
        capacity_bytes=run.device.capacity_bytes,
        max_batch_size=run.max_batch_size or None,
        best=run.best,
    )


def _notes(run: AdviceRun) -> tuple[str, ...]:
    notes = []
    if run.config.script is not None:
        notes.append(_OPEN)
    if run.device.has_peak_counters:
        notes.append(
            "sizes that run only because the allocator releases its cache do not count as fitting here; in find-batch "
            "they do"
        )
    largest = max([run.max_batch_size, run.best_batch_size, *(result.max_batch_size or 0 for result in run.results)])
    if run.num_samples is not None and largest > run.num_samples:
        holder = "the data set has" if run.config.ranks == 1 else "a rank's part of the data set has"
        notes.append(
            f"{holder} {run.num_samples:,} samples, so no batch can be larger; the sizes here consider memory alone"
        )
    limit = run.config.search.max_batch_size
    if run.max_batch_size and run.max_batch_size == limit:
        notes.append(f"search.max_batch_size ends every search at {limit:,}, so no change can show its gain")
    elif limit is not None and largest == limit:
        notes.append(f"search.max_batch_size ended searches at {limit:,}: a change that reaches it may gain more")
    if not run.device.is_simulated:
        notes.append(
            f"real searches stop within {100 * run.min_gain:g} % below the largest size, so a smaller gain does not "
            "count as help"
        )
    return tuple(notes)
