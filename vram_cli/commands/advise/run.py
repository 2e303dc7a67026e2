"""The question itself: a training as it is, what changes would do to it, and what the user asks besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vram_cli.commands.advise.accumulation import effective, fitting
from vram_cli.commands.advise.advice_run import AdviceRun
from vram_cli.commands.advise.trial_runner import TrialRunner
from vram_cli.commands.learning_rate import get_effective_batch_size, suggest_learning_rate
from vram_cli.config import Config, load_config, with_overrides
from vram_cli.errors import CutShortError, Interrupted, ProbeError, VramError
from vram_cli.hardware.gpus import Gpu, find_gpu
from vram_cli.probe import OpenProbe, open_probe
from vram_cli.progress import SILENT, Progress
from vram_cli.records import AccumulationPlan, Advice, GpuEstimate, LearningRateSuggestion, OptimizationResult


def advise(
    config: Config | str | None = None,
    *,
    own: Sequence[str] = (),
    fit_batch: int | None = None,
    effective_batch: int | None = None,
    gpus: Sequence[str] = (),
    download: bool = False,
    progress: Progress = SILENT,
    open_probe: OpenProbe = open_probe,
) -> Advice:
    """Say what would let a larger batch fit; everything in it was tried, by real steps or by prediction.

    Args:
        config: the training as it is; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        own: overrides to try as well, such as "train.freeze=[features.*]".
        fit_batch: a batch size for which the cheapest set of changes is looked for.
        effective_batch: a batch size to be made of accumulated smaller ones.
        gpus: cards of the catalogue to compare.
        download: whether missing data files may be downloaded.
        progress: receives the change that is tried, and every trial.
        open_probe: opens the probes that run the trials.

    Raises:
        ConfigError: the config, or something asked for, says something wrong.
        WorkloadError: the model or its data raise at the smallest batch.
        MachineError: the device does not exist, or a prediction ran out of time or RAM.
        ProbeError: the worker process died in a prediction.
        Interrupted: Ctrl-C.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    for override in own:
        with_overrides(settings, [override])  # says now what is wrong with it
    cards = [find_gpu(name) for name in gpus]
    with TrialRunner(settings, progress=progress, download=download, open_probe=open_probe) as bench:
        study = AdviceRun(bench, settings, own)
        found: dict[str, Any] = {}
        try:
            study.run()
            if fit_batch:
                found["fit"] = fitting(study, fit_batch)
            if effective_batch:
                found["effective"] = effective(study, effective_batch)
            found["rate"] = _rate(study, found.get("effective"), found.get("fit"))
            for card in cards:
                found["cards"] = (*found.get("cards", ()), _card(bench, settings, card, own))
        except KeyboardInterrupt:
            raise Interrupted(replace(_known(study), interrupted=True, **found)) from None
        return replace(_known(study), **found)


def _known(study: AdviceRun) -> Advice:
    base = study.base
    return Advice(
        run=study.run_info,
        max_batch_size=study.largest or None,
        at_batch_size=study.at,
        breakdown=base.breakdown if base else None,
        levers=tuple(study.answers),
        best=study.best,
        notes=_notes(study),
    )


def _rate(
    study: AdviceRun, split: AccumulationPlan | None, fit: AccumulationPlan | None
) -> LearningRateSuggestion | None:
    """Return the learning rate for what is asked for, or else for the largest batch.

    None for the batch that the config's own rate is of, for another optimizer, or for an evaluation.
    """
    config, asked = study.config, split or fit
    if config.mode == "eval":
        return None
    if asked is None:
        size = study.largest if _has_another_optimizer(config, study.best) else study.best_size
        samples = min(size, study.length or size) * config.train.gradient_accumulation_steps
    elif asked.micro_batch_size is None or _has_another_optimizer(config, asked):
        samples = 0
    else:
        samples = asked.wanted * (1 if asked is split else config.train.gradient_accumulation_steps)
    return suggest_learning_rate(config, samples) if samples not in (0, get_effective_batch_size(config)) else None


def _has_another_optimizer(config: Config, answer: OptimizationResult | AccumulationPlan | None) -> bool:
    return answer is not None and with_overrides(config, answer.sets).optimizer.label != config.optimizer.label


def _card(bench: TrialRunner, config: Config, card: Gpu, own: Sequence[str]) -> GpuEstimate:
    changed = with_overrides(config, ["device.name=auto", f"device.gpu={card.name}", "device.memory_limit=null"])
    try:
        study = AdviceRun(bench, changed, own, card.name)
        study.run()
    except (CutShortError, ProbeError):  # says nothing about the GPU
        raise
    except VramError as error:
        return GpuEstimate(
            name=card.name, capacity_bytes=card.memory_bytes, max_batch_size=None, best=None, why=error.message
        )
    return GpuEstimate(
        name=card.name,
        capacity_bytes=study.device.capacity_bytes,
        max_batch_size=study.largest or None,
        best=study.best,
    )


def _notes(study: AdviceRun) -> tuple[str, ...]:
    notes = []
    if study.device.has_peak_counters:
        notes.append(
            "sizes that run only because the allocator gives its cache back are not counted as fitting here; "
            "find-batch counts them"
        )
    top = max([study.largest, study.best_size, *(answer.max_batch_size or 0 for answer in study.answers)])
    if study.length is not None and top > study.length:
        notes.append(f"the data set has {study.length:,} samples, and no batch can be larger; sizes here are of memory")
    cap = study.config.search.max_batch_size
    if study.largest and study.largest == cap:
        notes.append(f"search.max_batch_size ends every search at {cap:,}: no change can show what it makes room for")
    elif cap is not None and top == cap:
        notes.append(f"search.max_batch_size ended searches at {cap:,}: what reaches that may make room for more")
    if not study.device.is_simulated:
        within = f"{100 * study.gain:g} % below the largest size"
        notes.append(f"real searches stop within {within}: what gains less is not said to help")
    return tuple(notes)
