"""A training script in an answer: where its batch size is set, what it did, and its validation."""

from __future__ import annotations

from collections.abc import Iterable

from vram_cli.records import FindBatchResult, LoaderInfo, Measurement, Outcome, Phase, RunInfo, ScriptInfo
from vram_cli.report import document as doc
from vram_cli.report.words import count, ended, number, one_line, setting
from vram_cli.shell import shell_line
from vram_cli.units import format_bytes

_WRITES_SHOWN = 20


def script_remark(run: RunInfo, size: int | None = None) -> str:
    """Return what to read before the figures: where a script's batch size is set, and the remark of the run.

    Args:
        run: the run.
        size: the batch size of an answer about one size.
    """
    return "\n".join(filter(None, (_place_of_size(run, size), run.remark)))


def script_lines(run: RunInfo) -> tuple[doc.Line, ...]:
    """Return how a script was run, as evidence; none if there is no script."""
    script = run.script
    if script is None:
        return ()
    return (
        ("script", one_line(shell_line(script.command), 1000)),
        ("loaders", "\n".join(_loader(loader, script) for loader in script.loaders) or "no DataLoader"),
        ("steps", f"{count(script.micro_batches, 'batch', 'batches')} per step of the optimizer"),
        ("start", one_line(script.starts)),
        ("isolation", _isolation(script.isolation)),
    )


def writes_line(run: RunInfo, trials: Iterable[Measurement]) -> doc.Line:
    """Return what a script wrote in its trials, each once; "" if there is no script."""
    writes = dict.fromkeys(one_line(line) for trial in trials for line in trial.writes)
    if run.script is None:
        return "it wrote", ""
    more = len(writes) - _WRITES_SHOWN
    lines = [*list(writes)[:_WRITES_SHOWN], *([f"and {number(more)} more"] if more > 0 else [])]
    return "it wrote", "\n".join(lines) or "nothing"


def host_memory_note(run: RunInfo) -> str:
    """Return that the figures of a script on the CPU include its own host memory; "" elsewhere."""
    if run.script is None or run.device.type != "cpu":
        return ""
    return (
        "On the CPU, memory that the script itself takes counts as well, such as its data set and lists: the figures "
        "differ from those of a config with the same model."
    )


def validation_headline(result: FindBatchResult) -> tuple[doc.Line, ...]:
    """Return a line on a script's validation if it takes more memory than training, or did not run to the end."""
    trial = result.validation
    if trial is None or not (_takes_more(trial) or not trial.fits):
        return ()
    own = _own_batch(result.run, trial)
    if trial.fits:
        return (("Validation:", f"takes more than training: {format_bytes(_peak(trial))}{own}"),)
    why = f": {one_line(trial.message)}" if trial.message and trial.outcome is not Outcome.OUT_OF_MEMORY else ""
    end = ended(trial.outcome, trial.phase)
    if trial.phase is not Phase.VALIDATION:
        return (("Validation:", f"not known: the training before it {end}{why}"),)
    return (("Validation:", f"{end}{own}{why}"),)


def validation_evidence(result: FindBatchResult) -> doc.Line:
    """Return a script's validation as evidence; "" if the headline has it, or there is none."""
    trial = result.validation
    if trial is None or validation_headline(result):
        return "validation", ""
    reserved = format_bytes(_peak(trial))
    return (
        "validation",
        f"ran{_own_batch(result.run, trial)}: {reserved} reserved at its peak, no more than in training",
    )


def _place_of_size(run: RunInfo, size: int | None) -> str:
    script = run.script
    if script is None:
        return ""
    if not script.set_in:
        return "Batch size: {n} in the command."
    loader = f"the DataLoader of {one_line(script.set_in)}"
    if size is not None and setting(run, "train.batch_size") is None:
        return f"Batch size: {number(size)}, the script's own, of {loader}."
    return f"Batch size: set in {loader}."


def _loader(loader: LoaderInfo, script: ScriptInfo) -> str:
    size = "no batch size" if loader.batch_size is None else f"batch size {number(loader.batch_size)}"
    size = "batch size {n}" if _is_set(loader, script) else size
    samples = "no length" if loader.num_samples is None else count(loader.num_samples, "sample")
    return f"{one_line(loader.line)}: {size}, {samples}{', trains' if loader.trains else ''}"


def _isolation(isolation: str) -> str:
    if isolation == "overlay":
        return "files in the working folder were discarded (overlay)"
    return "none: files that it writes are kept"


def _takes_more(trial: Measurement) -> bool:
    training = max((peak.reserved_bytes for peak in trial.peaks if peak.phase is not Phase.VALIDATION), default=0)
    return _peak(trial) > training


def _peak(trial: Measurement) -> int:
    peak = trial.peak_in(Phase.VALIDATION)
    return peak.reserved_bytes if peak else 0


def _own_batch(run: RunInfo, trial: Measurement) -> str:
    """Return the batch size of validation, if one loader is it."""
    loaders = [loader for loader in run.script.loaders if not loader.trains] if run.script else []
    if run.script is None or len(loaders) != 1 or loaders[0].batch_size is None:
        return ""
    if _is_set(loaders[0], run.script):
        return f" with the same batch of {number(trial.batch_size)}"
    return f" with its own batch of {number(loaders[0].batch_size)}"


def _is_set(loader: LoaderInfo, script: ScriptInfo) -> bool:
    """Return whether the command's {n} sets the size of a loader: it had that of the rehearsal."""
    return not script.set_in and loader.batch_size == script.batch_size
