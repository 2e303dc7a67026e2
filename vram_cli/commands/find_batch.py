"""`vram find-batch` as a function: the largest batch size that fits, proved by running it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import lcm

from vram_cli.commands.initial_guess import InitialGuess
from vram_cli.commands.scripts import configured_size, refuse_for_scripts, starting
from vram_cli.commands.throughput import ThroughputSweep, refuse_to_predict, refuse_to_time
from vram_cli.commands.user_errors import raise_user_error
from vram_cli.commands.verdicts import require_verdict
from vram_cli.config import Config, load_config, with_overrides
from vram_cli.errors import ConfigError, CutShortError, Interrupted, VramError
from vram_cli.probe import OpenProbe, Probe, open_probe
from vram_cli.probe.live.make_training import MakeTraining, live_config
from vram_cli.progress import SILENT, Progress
from vram_cli.records import (
    Breakdown,
    Detail,
    Device,
    FindBatchResult,
    Limit,
    Measurement,
    Outcome,
    Phase,
    RunInfo,
    SearchResult,
    Throughput,
)
from vram_cli.search import find_largest


def find_batch(
    config: Config | str | MakeTraining | None = None,
    *,
    device: str | None = None,
    memory_limit: str | int | None = None,
    gpu: str | None = None,
    steps: int | None = None,
    overrides: Sequence[str] = (),
    download: bool = False,
    detail: Detail = Detail.ROWS,
    with_eval: bool = False,
    progress: Progress = SILENT,
    open_probe: OpenProbe = open_probe,
) -> FindBatchResult:
    """Find the largest batch size that trains within the device's memory, by real training steps.

    For a GPU of the catalogue, a prediction that runs meanwhile chooses the first sizes to try. All trials run in a
    worker process: weights, random state and settings of the caller are not touched. If `search.objective` is
    throughput, steps at sizes up to the largest are timed after that. The validation of a script runs once, after
    training steps at the largest size.

    A function `make_training(n)` in place of a config returns a training with batches of n: an iterator whose every
    `next` is a step, such as a generator that yields after each, or a function whose every call is one. It may use any
    object of this process. Each trial runs in a fork of this process, so that they stay as they are; if this process
    has used CUDA already, trials run in it, and train them.

    Args:
        config: what to train, and where; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        device: such as "cpu" or "cuda:0"; None for that of the config.
        memory_limit: such as "8GiB", or bytes; None for that of the config.
        gpu: GPU to predict for; None for that of the config.
        steps: steps per trial; None for those of the config.
        overrides: other keys of the config, such as "search.max_batch_size=512".
        download: whether torchvision may download missing data files.
        detail: whether the breakdown has modules and a timeline.
        with_eval: whether to search for the largest evaluation batch as well.
        progress: receives every trial, and what happens between them.
        open_probe: opens the probe that runs the trials.

    Returns:
        The answer with its certificate, every trial, and the breakdown at the answer. `max_batch_size` is None if not
        even the smallest batch fits.

    Raises:
        ConfigError: the config is wrong, asks for the throughput of a GPU that is predicted, asks for the evaluation
            batch of a config that evaluates, or asks of a script for anything that it decides itself; or a function
            returns no training, or is asked for what needs a config.
        WorkloadError: the model, its data or its step raise at the smallest batch.
        MachineError: the device does not exist, or a prediction ran out of time or RAM.
        ProbeError: the worker process died in a prediction.
        Interrupted: Ctrl-C; `partial` is the answer so far.
    """
    given = {"device.name": device, "device.memory_limit": memory_limit, "device.gpu": gpu, "search.steps": steps}
    overrides = (*(f"{key}={value}" for key, value in given.items() if value is not None), *overrides)
    if callable(config):
        open_probe = _open_live(config, with_eval=with_eval)
    config = _config_of(config, overrides)
    refuse_for_scripts(config, with_eval=with_eval, download=download)
    refuse_to_time(config)
    refuse_to_predict(config, config.device.gpu)
    if with_eval and config.mode == "eval":
        raise ConfigError("--with-eval: this config evaluates already, its mode is eval", "leave the option out")
    deadline = time.monotonic() + config.search.time_limit if config.search.time_limit else None
    progress.status(starting(config))
    with open_probe(config, download=download, deadline=deadline) as probe:
        if probe.info.device.is_simulated:
            refuse_to_predict(config, probe.info.device.name)
        search, throughput, interrupted = _search(config, probe, detail, progress, open_probe), None, False
        validation = None
        _require_verdict(search, probe.info.device)
        try:
            if search.max_batch_size and search.limited_by is not None:
                search = _with_breakdown(config, probe, search, detail, progress)
                if config.script is not None and search.limited_by is not Limit.TIME:
                    search, validation = _with_validation(probe, search, progress)
                if config.search.objective == "throughput":
                    sweep = ThroughputSweep(config, search, deadline=deadline, progress=progress)
                    try:
                        sweep.run(probe)
                    finally:
                        search, throughput = sweep.search, sweep.throughput
        except KeyboardInterrupt:  # the search is done, so its answer is reported
            interrupted = True
        interrupted = interrupted or search.limited_by is None
        evaluation = None
        if with_eval and not interrupted:
            try:
                evaluation = _search_for_evaluation(config, probe, deadline, progress, open_probe)
                interrupted = evaluation.limited_by is None
            except KeyboardInterrupt:
                interrupted = True
            except ConfigError as error:  # the search for training is done, so its answer is reported
                note = f"the evaluation batch is not known: {error.message}"
                search = replace(search, notes=(*search.notes, note))
        result = _result(config, probe, search, throughput, evaluation, interrupted=interrupted)
        result = replace(result, validation=validation)
    if interrupted:
        raise Interrupted(result)
    return result


def _config_of(training: Config | str | MakeTraining | None, overrides: Sequence[str]) -> Config:
    if callable(training):
        return live_config(training, overrides)
    if isinstance(training, Config):
        return with_overrides(training, overrides) if overrides else training
    return load_config(training, overrides)


def _open_live(make_training: MakeTraining, *, with_eval: bool) -> OpenProbe:
    if with_eval:
        raise ConfigError("with_eval: an evaluation needs a config", "call find_batch with a function that evaluates")
    from vram_cli.probe.live.open_live import open_live  # it imports torch

    return partial(open_live, make_training)


def _search(config: Config, probe: Probe, detail: Detail, progress: Progress, open_probe: OpenProbe) -> SearchResult:
    """Return what the search found; `limited_by` is None if Ctrl-C ended it."""
    search, device = config.search, probe.info.device
    max_batch_size, limit = _max_batch_size(config, probe.info)
    _require_a_multiple(search.only_multiples_of, max_batch_size)
    try:
        with InitialGuess(config, device, max_batch_size, open_probe) as guess:
            result = find_largest(
                probe.measure,
                capacity_bytes=device.allocator_bytes,
                margin_bytes=int(device.capacity_bytes * search.margin),
                upper_bound=max_batch_size,
                upper_bound_limit=limit,
                tolerance=search.tolerance,
                multiple_of=search.multiple_of,
                only_multiples_of=search.only_multiples_of,
                configured_size=configured_size(config, probe.info),
                time_limit=search.time_limit,
                confirm=lambda size: probe.confirm(size, detail),
                initial_guess=guess.batch_size,
                progress=progress,
            )
    except Interrupted as stop:
        result = stop.partial
    raise_user_error(result)
    return result


def _search_for_evaluation(
    config: Config, training: Probe, deadline: float | None, progress: Progress, open_probe: OpenProbe
) -> SearchResult:
    """Search again in evaluation, in the worker process of the training and the time that it left."""
    progress.status("searching for the largest evaluation batch")
    overrides = ["mode=eval"]
    if deadline is not None:
        overrides.append(f"search.time_limit={max(deadline - time.monotonic(), 1.0)}")
    config = with_overrides(config, overrides)
    with open_probe(config, deadline=deadline, reuse=training) as probe:
        return _search(config, probe, Detail.NONE, progress, open_probe)


def _max_batch_size(config: Config, run: RunInfo) -> tuple[int | None, Limit]:
    """Return the largest size to try, None for no limit, and which limit that is."""
    length = run.num_samples if config.search.limit_to_dataset else None
    if length is not None and (config.search.max_batch_size is None or length <= config.search.max_batch_size):
        return length, Limit.DATASET
    return config.search.max_batch_size, Limit.MAX_BATCH_SIZE


def _require_a_multiple(only_multiples_of: int, samples: int | None) -> None:
    """Raise if the data set is smaller than the smallest size to try."""
    if samples is not None and samples < only_multiples_of:
        raise ConfigError(
            f"search.only_multiples_of: the data set has {samples:,} samples, too few for a batch of "
            f"{only_multiples_of:,}",
            "lower it, or try sizes beyond the data set with --no-dataset-limit (search.limit_to_dataset: false)",
        )


def _require_verdict(search: SearchResult, device: Device) -> None:
    """Raise if no batch had the time to run: that is not a batch that does not fit."""
    if search.max_batch_size is not None:
        return
    if device.is_simulated and search.limited_by is Limit.TIME:
        raise CutShortError(
            f"the time was over before any batch was predicted for {device.name}",
            "this says nothing about the GPU's memory; give it more time with --time-limit",
        )
    if search.trials and search.trials[-1].outcome is Outcome.TIMED_OUT:
        require_verdict(search.trials[-1], device.name)


def _with_breakdown(
    config: Config, probe: Probe, search: SearchResult, detail: Detail, progress: Progress
) -> SearchResult:
    """Return the search with a breakdown; at a smaller size, if the largest leaves no room to track a step."""
    if _breakdown(search) or config.train.compile:
        return search
    progress.status("accounting for the memory of the answer")
    largest = search.max_batch_size or 1
    smaller = search.accepted_sizes.floor(largest * 9 // 10) or largest
    size = min(search.recommended_batch_size or largest, smaller)
    measurement = probe.measure(size, detail)
    note = f"the breakdown is for {size:,}: at {largest:,} there is no room to track a step"
    notes = (*search.notes, note) if measurement.breakdown else search.notes
    return replace(search, trials=(*search.trials, measurement), notes=notes)


def _with_validation(probe: Probe, search: SearchResult, progress: Progress) -> tuple[SearchResult, Measurement | None]:
    """Return the search, and a script's validation after training at the largest size; None if it has none."""
    progress.status("running the script's validation")
    try:
        trial = probe.measure(search.max_batch_size or 1, Detail.VALIDATION)
    except VramError as error:  # the search is done, so its answer is reported
        note = f"validation was not measured: {error.message}"
        return replace(search, notes=(*search.notes, note)), None
    return search, None if trial.fits and trial.peak_in(Phase.VALIDATION) is None else trial


def _result(
    config: Config,
    probe: Probe,
    search: SearchResult,
    throughput: Throughput | None,
    evaluation: SearchResult | None,
    *,
    interrupted: bool,
) -> FindBatchResult:
    failed = search.trials[-1] if search.trials and search.max_batch_size is None else None
    return FindBatchResult(
        **vars(search),
        run=probe.info,
        multiple_of=lcm(config.search.multiple_of, config.search.only_multiples_of),
        margin=config.search.margin,
        breakdown=_breakdown(search),
        throughput=throughput,
        evaluation=evaluation,
        shortfall_bytes=failed.shortfall_bytes(probe.info.device.allocator_bytes) if failed else None,
        global_batch_size=probe.info.global_batch_size(search.max_batch_size) if search.max_batch_size else None,
        interrupted=interrupted,
    )


def _breakdown(search: SearchResult) -> Breakdown | None:
    """Return the breakdown at the answer, or at the nearest size below it."""
    largest = search.max_batch_size or 0
    breakdowns = [trial.breakdown for trial in search.trials if trial.breakdown and trial.batch_size <= largest]
    return max(breakdowns, key=lambda breakdown: breakdown.batch_size, default=None)
