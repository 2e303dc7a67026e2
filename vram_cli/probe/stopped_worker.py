"""Errors for workers that stopped without a reply: the user's code, this machine, or vram ended them."""

from __future__ import annotations

from vram_cli.config import Config
from vram_cli.errors import CutShortError, MachineError, ProbeError, VramError
from vram_cli.probe import last_words
from vram_cli.probe.user_code import ended_by_user_code
from vram_cli.probe.worker_process import WorkerProcess, WorkerStopped
from vram_cli.records import Outcome
from vram_cli.virtual_gpu.refusals import refusal, refused_functions

NO_VERDICT = "this says nothing about the GPU's memory"

_SENDERS = {
    "SIGKILL": "the kernel sends it if RAM runs out, and at the limit of CPU time (`ulimit -t`)",
    "SIGXCPU": "the kernel sends it at the limit of CPU time (`ulimit -t`)",
}
_SHORTAGES = (
    "MemoryError",
    "Cannot allocate memory",
    "cannot allocate memory",
    "std::bad_alloc",
    "failed to map segment",
    "pthread_create failed",
    "can't start new thread",
    "Resource temporarily unavailable",
    "Too many open files",
    "No space left on device",
)
"""Texts of errors that a limit of this machine causes: RAM, address space, processes, files, disk."""


def start_error(stop: WorkerStopped, worker: WorkerProcess, config: Config, purpose: str) -> VramError:
    """Return the error for a worker that stopped before its first reply.

    Args:
        stop: how it stopped.
        worker: the worker.
        config: its config.
        purpose: the end of a sentence about the worker, such as "before its first trial".
    """
    if stop.outcome is Outcome.HOST_MEMORY:
        return MachineError(stop.message, "close other programs, or train a smaller model")
    if functions := refused_functions(worker.stderr()):
        return refusal(functions)
    message = f"the worker process {stop.message} {purpose}"
    return (
        ended_from_outside(worker, message)
        or ended_by_user_code(stop, worker, config)
        or _ended_by_a_shortage(worker, message)
        or ProbeError(message, last_words.summary(worker.stderr()))
    )


def start_timeout(seconds: float, config: Config, *, is_deadline: bool) -> CutShortError:
    """Return the error for a worker that was not ready in time; for that of a script, which trains before."""
    if is_deadline:
        return CutShortError(
            "the time was over before the first trial",
            f"{NO_VERDICT}; imports, data and a warm-up come first: give them more time with --time-limit",
        )
    if config.script is not None:
        return CutShortError(
            f"{' '.join(config.script.command)}: the script had not trained for {config.search.steps} steps within "
            f"{seconds:.0f} s",
            f"{NO_VERDICT}; if it needs longer, give it more time with --set search.trial_timeout=SECONDS",
        )
    return CutShortError(
        f"the worker process was not ready for its first trial within {seconds:.0f} s",
        f"{NO_VERDICT}; if your data or model needs longer, give it more time with --set search.trial_timeout=SECONDS",
    )


def prediction_error(stop: WorkerStopped, worker: WorkerProcess, config: Config, subject: str) -> VramError:
    """Return the error for a prediction that ended early, for a reason unrelated to the GPU's memory.

    Args:
        stop: how it ended.
        worker: its worker.
        config: its config.
        subject: the subject of the message, such as "the prediction of batch 8 for Tesla T4".
    """
    if stop.outcome is Outcome.TIMED_OUT:
        return CutShortError(
            f"{subject} did not finish within {config.search.trial_timeout:.0f} s",
            f"{NO_VERDICT}; give it more time with --set search.trial_timeout=SECONDS",
        )
    if stop.outcome is not Outcome.KILLED:
        return CutShortError(
            f"{subject} was stopped: {stop.message}",
            f"{NO_VERDICT}; close other programs, or predict on a computer with more RAM",
        )
    if functions := refused_functions(worker.stderr()):
        return refusal(functions)
    message = f"{subject} failed: its process {stop.message}"
    if error := ended_from_outside(worker, message):
        return error
    cause, code = last_words.summary(worker.stderr()), config.user_code
    return ProbeError(
        message + (f": {cause}" if cause else ""),
        f"{NO_VERDICT}; try again, and report the error if it persists"
        + (f"; that process also ran {', '.join(code)}" if code else ""),
    )


def ended_from_outside(worker: WorkerProcess, message: str) -> CutShortError | None:
    """Return the error for a worker that another process or the kernel ended; None if the cause is another."""
    return CutShortError(message, f"{NO_VERDICT}; {sender_of(worker)}") if worker.signal_from_outside else None


def sender_of(worker: WorkerProcess) -> str:
    """Return who may have sent the signal that ended a worker from outside."""
    name = worker.signal_from_outside
    sender = _SENDERS.get(name, "other programs send it, such as `kill` or a batch system")
    return f"{name} is a signal from outside: {sender}"


def _ended_by_a_shortage(worker: WorkerProcess, message: str) -> MachineError | None:
    """Return the error for a worker that this machine's limits ended; None if the cause is another."""
    stderr = worker.stderr()
    line = next((line.strip() for line in reversed(stderr.splitlines()) if any(map(line.count, _SHORTAGES))), "")
    if not line:
        return None
    hint = "close other programs, or raise the limits of this shell: `ulimit -a` shows them"
    return MachineError(f"{message}, because this machine refuses it memory, processes, files or disk: {line}", hint)
