"""The two questions as functions: the same records that the command line prints."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError, CutShortError, DoesNotFitError, WorkloadError
from vram_cli.guide import Guide
from vram_cli.probe import ProcessProbe
from vram_cli.results import (
    Breakdown,
    DataInfo,
    Device,
    Limit,
    Measurement,
    Outcome,
    Pace,
    Result,
    SearchResult,
    Throughput,
)
from vram_cli.search import SearchInterrupted, SearchListener, find_largest
from vram_cli.throughput import Pacing, refuse_to_predict
from vram_cli.units import format_bytes


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came while a search was running; `result` holds what was known by then."""

    def __init__(self, result: Result) -> None:
        super().__init__("interrupted")
        self.result = result


def find_batch(
    config: Config | str | None = None,
    *,
    download: bool = False,
    detail: bool = False,
    listener: SearchListener | None = None,
    status: Callable[[str], None] = lambda _: None,
    timed: Callable[[Pace], None] = lambda _: None,
) -> Result:
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
        MachineError: the device asked for is not there, or time or RAM ran out before anything was predicted.
        ProbeError: the process that predicts died.
        Interrupted: Ctrl-C.
    """
    settings = _loaded(config)
    search = settings.search
    refuse_to_predict(settings, settings.device.gpu)
    deadline = time.monotonic() + search.time_limit if search.time_limit else None
    status("starting the process for trials")
    with ProcessProbe(settings, download=download, trial_timeout=search.trial_timeout, deadline=deadline) as probe:
        interrupted, throughput = False, None
        if probe.device.kind == "simulated":
            refuse_to_predict(settings, probe.device.name)
        cap, cap_limit = _cap(settings, probe.data)
        try:
            with Guide(settings, probe.device, probe.capacity_bytes, cap) as guide:
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
        except SearchInterrupted as stop:
            found, interrupted = stop.partial, True
        raise_own_error(found)
        if not interrupted:
            _require_prediction(found, probe.device)
        if not interrupted and found.max_batch_size and not _explained(found) and not settings.train.compile:
            status("accounting for the memory at the size found")
            try:
                found = _explain_below(probe, found, detail=detail)
            except KeyboardInterrupt:  # the search is done: its answer is told all the same
                interrupted = True
        if not interrupted and found.max_batch_size and search.objective == "throughput":
            pacing = Pacing(settings, found, deadline=deadline, listener=listener, status=status, timed=timed)
            try:
                pacing.run(probe.measure, probe.turn_to_timing)
            except KeyboardInterrupt:
                interrupted = True
            found, throughput = pacing.found, pacing.throughput
        result = _find_batch_result(settings, probe, found, throughput, interrupted=interrupted)
    if interrupted:
        raise Interrupted(result)
    return result


def breakdown(
    config: Config | str | None = None,
    *,
    batch_size: int | None = None,
    detail: bool = False,
    snapshot: Path | None = None,
    download: bool = False,
    status: Callable[[str], None] = lambda _: None,
) -> Result:
    """Account for the device's memory at the peak of a real training step.

    Args:
        config: what to train and where; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        batch_size: in place of the config's `train.batch_size`.
        detail: whether the breakdown should carry its modules and a timeline.
        snapshot: a file to write for PyTorch's memory_viz page; predictions only.
        download: whether torchvision may download the data set if it is not there.
        status: told in a few words what is going on.

    Raises:
        DoesNotFitError: the batch does not fit; the message says where it failed and what was missing.
        ConfigError, WorkloadError, MachineError, ProbeError: as `find_batch`.
    """
    settings = _loaded(config)
    size = batch_size or settings.train.batch_size
    if settings.train.compile:
        raise ConfigError(
            "train.compile: nobody sees where the memory of compiled code goes",
            "--set train.compile=false shows it for the same model uncompiled; `vram find-batch` works with it",
        )
    if snapshot is not None and settings.device.name != "auto":
        raise _no_snapshot()
    status("starting the process for trials")
    with ProcessProbe(settings, download=download, trial_timeout=settings.search.trial_timeout) as probe:
        status(f"running {settings.search.steps} steps at batch size {size:,}")
        if snapshot is not None and probe.device.kind == "real":
            raise _no_snapshot()
        measured = probe.measure(size, explain=True, detail=detail, snapshot=snapshot)
        if measured.outcome is Outcome.ERROR:
            raise own_error(measured)
        if not measured.fits:
            where = f" in {measured.phase.value}" if measured.phase else ""
            missing = measured.shortfall_bytes(probe.capacity_bytes)
            raise DoesNotFitError(
                f"batch {size:,} does not run on {probe.device.name}: {measured.message}{where}"
                + (f"; at least {format_bytes(missing)} short" if missing else ""),
                "run `vram find-batch` with the same options to find the largest that does",
            )
        return Result(
            command="breakdown",
            config_name=_name(settings),
            config=settings.model_dump(mode="json"),
            overrides=settings.source.overrides,
            device=probe.device,
            data=probe.data,
            versions=probe.versions,
            trials=(replace(measured, breakdown=None),),
            remark=probe.remark,
            breakdown=measured.breakdown,
        )


def raise_own_error(found: SearchResult) -> None:
    """Raise the user's own error where that is why a search found nothing.

    Raises:
        WorkloadError: it is.
    """
    # The last trial: a batch of 1 may fail for batch norm alone, and then a batch of 2 shows what is wrong.
    if found.max_batch_size is None and found.trials and found.trials[-1].outcome is Outcome.ERROR:
        raise own_error(found.trials[-1])


def _require_prediction(found: SearchResult, device: Device) -> None:
    """Raise where a prediction had no time to say anything: that is not a batch that does not fit."""
    if device.kind == "simulated" and found.max_batch_size is None and found.limited_by is Limit.TIME:
        raise CutShortError(
            f"time was over before any batch was predicted for {device.name}",
            "this says nothing about the GPU's memory; give it more time with --time-limit",
        )


def own_error(measured: Measurement) -> WorkloadError:
    """Return the error that a trial of the outcome `ERROR` stands for."""
    where = measured.phase.value if measured.phase else "a trial"
    return WorkloadError(
        f"a batch of {measured.batch_size:,} fails in {where}, and not for memory: {measured.message}",
        "the traceback above is from the model, its data or its step; mend that first",
        traceback=measured.traceback,
    )


def _no_snapshot() -> ConfigError:
    return ConfigError(
        "--snapshot is written from predictions only",
        "for a real run, call torch.cuda.memory._record_memory_history() in your own script",
    )


def _loaded(config: Config | str | None) -> Config:
    return config if isinstance(config, Config) else load_config(config)


def _name(config: Config) -> str:
    return str(config.source.path or config.source.name)


def _cap(config: Config, data: DataInfo) -> tuple[int | None, Limit]:
    """Return the size never to exceed, and which limit that is."""
    length = data.num_samples if config.search.cap == "dataset" else None
    if length is not None and (config.search.max is None or length <= config.search.max):
        return length, Limit.DATASET
    return config.search.max, Limit.CAP


def _find_batch_result(
    config: Config, probe: ProcessProbe, found: SearchResult, throughput: Throughput | None, *, interrupted: bool
) -> Result:
    explained = _explained(found)
    failed = found.trials[-1] if found.trials and found.max_batch_size is None else None
    return Result(
        command="find-batch",
        config_name=_name(config),
        config=config.model_dump(mode="json"),
        overrides=config.source.overrides,
        device=probe.device,
        data=probe.data,
        versions=probe.versions,
        trials=found.trials,
        max_batch_size=found.max_batch_size,
        recommended_batch_size=found.recommended_batch_size,
        limited_by=found.limited_by,
        certificate=found.certificate,
        extrapolated_batch_size=found.extrapolated_batch_size,
        shortfall_bytes=failed.shortfall_bytes(probe.capacity_bytes) if failed else None,
        breakdown=explained,
        throughput=throughput,
        interrupted=interrupted,
        remark=probe.remark,
        notes=found.notes,
    )


def _explained(found: SearchResult) -> Breakdown | None:
    """Return the breakdown at the size found, or at the one that is nearest below it."""
    known = [
        trial.breakdown for trial in found.trials if trial.breakdown and trial.batch_size <= (found.max_batch_size or 0)
    ]
    return max(known, key=lambda breakdown: breakdown.batch_size, default=None)


def _explain_below(probe: ProcessProbe, found: SearchResult, *, detail: bool) -> SearchResult:
    """Account for a smaller size where the largest one leaves no room to watch a step."""
    largest = found.max_batch_size or 1
    size = min(found.recommended_batch_size or largest, max(1, largest * 9 // 10))
    measured = probe.measure(size, explain=True, detail=detail)
    note = f"the breakdown is for {size:,}: at {largest:,} there is no room to watch a step as well"
    return replace(
        found, trials=(*found.trials, measured), notes=(*found.notes, note) if measured.breakdown else found.notes
    )
