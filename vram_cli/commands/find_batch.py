"""`vram find-batch` as a function: the largest batch size that fits, proved by running it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from vram_cli.commands.initial_guess import InitialGuess
from vram_cli.commands.throughput import ThroughputSweep, refuse_to_predict
from vram_cli.commands.user_errors import raise_own_error
from vram_cli.config import Config, load_config
from vram_cli.errors import Interrupted
from vram_cli.probe import WorkerProbe
from vram_cli.records import Breakdown, DataInfo, FindBatchResult, Limit, SearchResult, Throughput, ThroughputPoint
from vram_cli.search import SearchListener, find_largest


def find_batch(
    config: Config | str | None = None,
    *,
    download: bool = False,
    detail: bool = False,
    listener: SearchListener | None = None,
    status: Callable[[str], None] = lambda _: None,
    timed: Callable[[ThroughputPoint], None] = lambda _: None,
) -> FindBatchResult:
    """Find the largest batch size that trains within the device's memory, by real training steps.

    On a GPU of the catalogue a prediction, made meanwhile, says where to look first. All trials run in a child process:
    weights, random state and settings of the caller are not touched. Where `search.objective` is throughput, steps at
    sizes up to the largest are timed after that.

    Args:
        config: what to train and where; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        download: whether torchvision may download the data set if it is not there.
        detail: whether the breakdown should carry its modules and a timeline.
        listener: told of each trial as it starts and ends.
        status: told in a few words what is going on before the first trial.
        timed: told how fast each size trains, where that is asked for.

    Returns:
        The answer with its certificate, every trial and the breakdown at the size found. `max_batch_size` is None
        where not even the smallest batch fits.

    Raises:
        ConfigError: the config says something wrong, or asks for the throughput of a GPU that is predicted.
        WorkloadError: the model or its data raise at the smallest batch.
        MachineError: the device asked for is not there.
        Interrupted: Ctrl-C.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    search = settings.search
    refuse_to_predict(settings, settings.device.gpu)
    deadline = time.monotonic() + search.time_limit if search.time_limit else None
    status("starting the process for trials")
    with WorkerProbe(settings, download=download, trial_timeout=search.trial_timeout, deadline=deadline) as probe:
        interrupted, throughput = False, None
        if probe.device.kind == "simulated":
            refuse_to_predict(settings, probe.device.name)
        cap, cap_limit = _cap(settings, probe.data)
        try:
            with InitialGuess(settings, probe.device, probe.capacity_bytes, cap) as guide:
                found = find_largest(
                    probe.measure,
                    capacity_bytes=probe.capacity_bytes,
                    margin_bytes=int(probe.device.capacity_bytes * search.margin),
                    cap=cap,
                    cap_limit=cap_limit,
                    tolerance=search.tolerance,
                    multiple_of=search.multiple_of,
                    time_limit=search.time_limit,
                    confirm=lambda size: probe.measure_afresh(size, detail=detail),
                    expected=guide.expected,
                    listener=listener,
                )
        except Interrupted as stop:
            found, interrupted = stop.partial, True
        raise_own_error(found)
        if not interrupted and found.max_batch_size and not _explained(found) and not settings.train.compile:
            status("accounting for the memory at the size found")
            try:
                found = _explain_below(probe, found, detail=detail)
            except KeyboardInterrupt:  # the search is done: its answer is told all the same
                interrupted = True
        if not interrupted and found.max_batch_size and search.objective == "throughput":
            pacing = ThroughputSweep(settings, found, deadline=deadline, listener=listener, status=status, timed=timed)
            try:
                pacing.run(probe.measure, probe.turn_to_timing)
            except KeyboardInterrupt:
                interrupted = True
            found, throughput = pacing.found, pacing.throughput
        result = _find_batch_result(settings, probe, found, throughput, interrupted=interrupted)
    if interrupted:
        raise Interrupted(result)
    return result


def _cap(config: Config, data: DataInfo) -> tuple[int | None, Limit]:
    """Return the size never to exceed, and which limit that is."""
    length = data.num_samples if config.search.limit_to_dataset else None
    if length is not None and (config.search.max_batch_size is None or length <= config.search.max_batch_size):
        return length, Limit.DATASET
    return config.search.max_batch_size, Limit.MAX_BATCH_SIZE


def _find_batch_result(
    config: Config, probe: WorkerProbe, found: SearchResult, throughput: Throughput | None, *, interrupted: bool
) -> FindBatchResult:
    failed = found.trials[-1] if found.trials and found.max_batch_size is None else None
    return FindBatchResult(
        **vars(found),
        run=probe.info,
        multiple_of=config.search.multiple_of,
        margin=config.search.margin,
        breakdown=_explained(found),
        throughput=throughput,
        shortfall_bytes=failed.shortfall_bytes(probe.capacity_bytes) if failed else None,
        interrupted=interrupted,
    )


def _explained(found: SearchResult) -> Breakdown | None:
    """Return the breakdown at the size found, or at the one that is nearest below it."""
    known = [
        trial.breakdown for trial in found.trials if trial.breakdown and trial.batch_size <= (found.max_batch_size or 0)
    ]
    return max(known, key=lambda breakdown: breakdown.batch_size, default=None)


def _explain_below(probe: WorkerProbe, found: SearchResult, *, detail: bool) -> SearchResult:
    """Account for a smaller size where the largest one leaves no room to watch a step."""
    largest = found.max_batch_size or 1
    size = min(found.recommended_batch_size or largest, max(1, largest * 9 // 10))
    measured = probe.measure(size, explain=True, detail=detail)
    note = f"the breakdown is for {size:,}: at {largest:,} there is no room to watch a step as well"
    return replace(
        found, trials=(*found.trials, measured), notes=(*found.notes, note) if measured.breakdown else found.notes
    )
