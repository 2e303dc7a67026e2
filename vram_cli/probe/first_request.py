"""The start of a worker: imports, then the first request, each with its limit of time. Imports no torch."""

from __future__ import annotations

import time
from typing import Any

from vram_cli.config import Config
from vram_cli.probe.messages import ImportTorch, InspectWorkload, WorkloadInspected
from vram_cli.probe.stopped_worker import start_error, start_timeout
from vram_cli.probe.user_code import code_folder
from vram_cli.probe.worker_process import WorkerProcess, WorkerStopped
from vram_cli.records import Outcome

START_TIMEOUT_S = 600.0
"""Time limit for importing torch, and for a first request that may download data."""


def first_reply(
    worker: WorkerProcess,
    request: Any,
    config: Config,
    *,
    download: bool,
    deadline: float | None = None,
    purpose: str = "before its first trial",
) -> Any:
    """Return a worker's reply to its first request: it opens data and builds models, which may take any time.

    A worker that does not reply is ended.

    Args:
        worker: the worker.
        request: the request.
        config: its config, whose `search.trial_timeout` limits it.
        download: whether torchvision may download missing data files.
        deadline: `time.monotonic()` value at which the worker is stopped.
        purpose: the end of a sentence about the worker, for messages.

    Raises:
        WorkloadError: code that the config names ended the worker.
        MachineError: the time or the computer's RAM ran out, or another process ended the worker.
        ProbeError: the worker ended for another reason.
        VramError: the worker refused the request.
    """
    import_torch(worker, config, deadline=deadline, purpose=purpose)
    timeout = config.search.trial_timeout
    timeout = max(timeout, START_TIMEOUT_S) if download else timeout
    return _reply(worker, request, config, timeout=timeout, deadline=deadline, purpose=purpose)


def import_torch(
    worker: WorkerProcess, config: Config, *, deadline: float | None = None, purpose: str = "before its first trial"
) -> None:
    """Let a worker import torch; otherwise as `first_reply`."""
    _reply(worker, ImportTorch(), config, timeout=START_TIMEOUT_S, deadline=deadline, purpose=purpose)


def _reply(
    worker: WorkerProcess, request: Any, config: Config, *, timeout: float, deadline: float | None, purpose: str
) -> Any:
    left = float("inf") if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        return worker.request(request, timeout=min(timeout, left))
    except WorkerStopped as stop:
        is_late = stop.outcome is Outcome.TIMED_OUT
        error = (
            start_timeout(timeout, config, is_deadline=left < timeout)
            if is_late
            else start_error(stop, worker, config, purpose)
        )
        worker.end()
        raise error from None


def inspect_workload(config: Config, *, download: bool = False, samples: int = 0) -> WorkloadInspected:
    """Return a description of a config's data and model, with `samples` images per class.

    Raises:
        VramError: as `first_reply`.
    """
    request = InspectWorkload(
        config=config.model_dump(mode="json"), download=download, folder=code_folder(config), samples=samples
    )
    worker = WorkerProcess({})
    try:
        reply: WorkloadInspected = first_reply(
            worker, request, config, download=download, purpose="during the inspection"
        )
    finally:
        worker.end()
    return reply
