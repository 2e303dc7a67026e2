"""The trials of a script, as its worker runs them: a rehearsal, and then a process a trial."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from vram_cli.config import Config
from vram_cli.errors import ConfigError, ProbeError, VramError, WorkloadError, out_of_host_memory
from vram_cli.hardware.gpus import DEFAULT_GPU, find_gpu
from vram_cli.probe.environment import communication_bytes
from vram_cli.probe.messages import Ready, RunTrial, TrialDone
from vram_cli.probe.scripts import overlay
from vram_cli.probe.scripts.command import Command, parse
from vram_cli.probe.scripts.forked import run_in_fork
from vram_cli.probe.scripts.isolation import Isolation, uses_overlay
from vram_cli.probe.scripts.kept_output import kept_output
from vram_cli.probe.scripts.launched import launch
from vram_cli.probe.scripts.loaders import LoaderPlan
from vram_cli.probe.scripts.messages import SCRIPT_REQUEST, Rehearsal, ScriptDone, ScriptRequest
from vram_cli.probe.scripts.preload import packages_of, preload
from vram_cli.probe.scripts.rank_answers import RankAnswers
from vram_cli.probe.scripts.ranks import check_one_machine, first_of, ranks_of, variables_of_rank
from vram_cli.probe.scripts.run_python import run
from vram_cli.probe.worker.remarks import LARGE_WORKSPACES, NO_GPU, has_tf32
from vram_cli.records import DataInfo, Detail, LoaderInfo, Measurement, Outcome, ParallelInfo, Phase, ScriptInfo
from vram_cli.units import format_bytes

_REHEARSED = (6, 2, 1)
"""Batch sizes to rehearse with, until one fits. Few scripts have a 6 of their own, so it shows that {n} is taken."""
_FORKS = "a fork of a process that has imported its packages"
_MUCH = 64 * 1024**2
"""Bytes of files that a trial writes, above which a remark says so."""
_LEAST_STEPS = 64
"""Steps that an epoch has, at least: more than a trial runs."""


class ScriptTrials:
    """Runs a script once to find out about it, and then a trial a process.

    Attributes:
        ready: the device, the data and the script.

    Raises:
        VramError: the script cannot be run, has no batch size to set, or raises.
    """

    def __init__(self, config: Config, *, is_virtual: bool) -> None:
        if config.script is None:
            raise ProbeError("the config names no script")
        self._config, self._script, self._is_virtual = config, config.script, is_virtual
        command = self._command(1)
        self._isolation = Isolation(has_overlay=uses_overlay(self._script.isolation))
        self._made: tuple[str, ...] = ()
        # Those that are the same for every size: packages read them as they are imported.
        same = self._command(2).environment.items() & command.environment.items()
        os.environ.update(dict(same))
        self._reason = command.reason
        """Why trials are no forks; "" if they are."""
        if command.kind == "file":
            self._reason = self._reason or preload(packages_of(Path(command.target)))
        self._takes_size = self._script.takes_batch_size
        with kept_output() as self._output:
            self._rehearsal, self._rehearsed_size = self._rehearse()
        self._output = lambda: ""  # later trials print to the worker's own
        if not self._reason:
            self._reason = preload(self._rehearsal.modules)
        self._training = self._loaders_to_set()
        if self._takes_size:
            self._check_that_size_is_taken()
        self.ready = self._ready()

    def _command(self, batch_size: int) -> Command:
        """Return the command for a batch size; that of one rank, if the others need not exist."""
        words = self._script.words(batch_size)
        if self._is_virtual:
            return parse(first_of(words))
        check_one_machine(words)
        return parse(words)

    def run(self, trial: RunTrial, on_phase: Callable[[Phase], None]) -> TrialDone:
        """Run a batch size; if its memory is asked for in detail, a second time with all tensors tracked."""
        request = self._request(trial.batch_size, trial.detail)
        done = self._run(request, on_phase)
        wants_rows = trial.detail in (Detail.ROWS, Detail.MODULES)
        if wants_rows and done.measurement.fits and self.ready.device.has_peak_counters:
            tracked = self._run(replace(request, peak=done.step_peak), on_phase).measurement
            if tracked.fits:
                done = replace(
                    done,
                    measurement=replace(done.measurement, breakdown=tracked.breakdown, flops=tracked.flops),
                )
        measurement = self._complete(done.measurement)
        if measurement.outcome is Outcome.HOST_MEMORY and self._is_virtual:
            raise out_of_host_memory(trial.batch_size, measurement.message)
        return TrialDone(measurement=measurement, poisoned=False)

    def _rehearse(self) -> tuple[Rehearsal, int]:
        """Run the script at a small batch size, or at its own if the command does not name one.

        Raises:
            WorkloadError: the script raises.
            ConfigError: it ends before a step.
        """
        sizes = [multiple for multiple in _REHEARSED if multiple % self._config.search.only_multiples_of == 0]
        for size in sizes or [self._config.search.only_multiples_of]:
            done = self._run(self._rehearsal_request(size, LoaderPlan()), lambda _: None)
            if done.measurement.outcome is not Outcome.OUT_OF_MEMORY:
                break
        if done.rehearsal is not None and done.rehearsal.training and not done.measurement.fits:
            # An epoch may have too few batches, and then much else happens: let the loaders that train go on.
            plan = LoaderPlan(training=done.rehearsal.training, least_batches=_LEAST_STEPS)
            done = self._run(self._rehearsal_request(size, plan), lambda _: None)
        measurement = done.measurement
        if done.rehearsal is None or measurement.outcome is not Outcome.FITS:
            raise self._failed_rehearsal(measurement)
        self._discarded_bytes = done.discarded_bytes
        self._ranks, self._rank = max(len(measurement.ranks), 1), measurement.rank or 0
        return done.rehearsal, size

    def _rehearsal_request(self, size: int, plan: LoaderPlan) -> ScriptRequest:
        return ScriptRequest(
            batch_size=size,
            config=self._config.model_dump(mode="json"),
            is_virtual=self._is_virtual,
            has_overlay=self._isolation.has_overlay,
            may_lose=self._script.isolation == "none",
            made=self._made,
            plan=plan,
            is_rehearsal=True,
        )

    def _failed_rehearsal(self, measurement: Measurement) -> VramError:
        rank = "" if measurement.rank is None else f"rank {measurement.rank}: "
        message = f"{self._name}: {rank}{measurement.message}"
        if measurement.traceback:
            return WorkloadError(
                message, "the traceback above comes from the script; fix that first", measurement.traceback
            )
        if measurement.outcome is not Outcome.ENDED:
            return self._ended(message, "the output above is the script's; fix that first")
        return self._ended(
            message,
            "vram follows optimizers of torch.optim and calls of backward(), in the process that it starts and in "
            "those of torchrun: let the script run at least "
            f"{self._config.search.steps} steps of training, or ask for fewer with --steps",
        )

    def _ended(self, message: str, hint: str) -> ConfigError:
        """Return the error for a script that has ended by itself, with its last words."""
        return WorkloadError(message, hint, self._output().strip())

    def _loaders_to_set(self) -> tuple[str, ...]:
        """Return the keys of the loaders that get the batch size.

        Raises:
            ConfigError: there is no such loader and no {n}, or there are several of different sizes.
        """
        rehearsal, hint = self._rehearsal, "put {n} in the command, in place of the batch size"
        named = self._script.loader
        lines = [info for info in rehearsal.loaders if info.trains]
        keys = [key for key in rehearsal.training if named is None or key.rpartition("#")[0] == named]
        if named is not None and not keys:
            seen = ", ".join(dict.fromkeys(info.line for info in lines)) or "none"
            raise ConfigError(f"script.loader: no DataLoader of {named} trains", f"those that train: {seen}")
        if self._takes_size:
            return tuple(keys)
        if not keys:
            raise ConfigError(
                f"{self._name}: no DataLoader of torch feeds its training, and the command has no {{n}}", hint
            )
        obstacle = next((text for key, text in self._obstacles() if text and key in keys), "")
        if obstacle:
            raise ConfigError(
                f"{keys[0].rpartition('#')[0]}: the batch size of this DataLoader cannot be set: {obstacle}", hint
            )
        sizes = {info.batch_size for info in lines if named in (None, info.line)}
        if len(sizes) > 1:
            found = ", ".join(f"{info.line} ({info.batch_size})" for info in lines)
            raise ConfigError(
                f"{self._name}: DataLoaders of different sizes train: {found}",
                f"{hint}, or name one: --set script.loader={lines[0].line}",
            )
        return tuple(keys)

    def _obstacles(self) -> zip[tuple[str, str]]:
        return zip(self._rehearsal.training, self._rehearsal.obstacles, strict=True)

    def _check_that_size_is_taken(self) -> None:
        """Check that {n} reaches the training, by its loader's batch size or by another rehearsal of another size.

        Raises:
            ConfigError: it does not.
        """
        size = self._rehearsed_size
        if any(info.trains and info.batch_size == size for info in self._rehearsal.loaders):
            return
        other = self._run(self._request(2 * size, Detail.NONE, is_rehearsal=True), lambda _: None).rehearsal
        if other is None or _sizes(other) != _sizes(self._rehearsal):
            return
        info = next((info for info in self._rehearsal.loaders if info.trains), None)
        where = f"{info.line} has batches of {info.batch_size}" if info else "its tensors have the same sizes"
        raise ConfigError(
            f"{self._name}: the training does not take its batch size from {{n}}: "
            f"with {size} and with {2 * size}, {where}",
            "put {n} where the script reads the batch size from, or leave it out to set the DataLoader",
        )

    def _request(self, batch_size: int, detail: Detail, *, is_rehearsal: bool = False) -> ScriptRequest:
        rehearsal, steps = self._rehearsal, self._config.search.steps
        least = _LEAST_STEPS * rehearsal.micro_batches
        is_short = detail is Detail.VALIDATION
        return ScriptRequest(
            batch_size=batch_size,
            config=self._config.model_dump(mode="json"),
            is_virtual=self._is_virtual,
            has_overlay=self._isolation.has_overlay,
            may_lose=self._script.isolation == "none",
            made=self._made,
            has_optimizer=rehearsal.has_optimizer,
            is_rehearsal=is_rehearsal,
            detail=detail,
            plan=LoaderPlan(
                training=self._training,
                batch_size=None if self._takes_size else batch_size,
                batches=steps * rehearsal.micro_batches if is_short else None,
                least_batches=least,
                order=rehearsal.order,
                repeats_samples=self._is_virtual,
            ),
        )

    def _run(self, request: ScriptRequest, on_phase: Callable[[Phase], None]) -> ScriptDone:
        """Run a trial in a process of its own.

        Raises:
            VramError: it was refused, or ended without an answer.
        """
        declared = ranks_of(self._script.words(1))[0] if self._is_virtual else None
        needs_all = request.detail is not Detail.VALIDATION
        answers = RankAnswers(request.batch_size, on_phase, declared, needs_all=needs_all)
        command = self._command(request.batch_size)
        run_trial = self._launch if self._reason else self._fork
        exit_code = run_trial(command, request, answers)
        if answers.refused is not None:
            raise answers.refused.to_error()
        done = answers.merged()
        if done is None:
            return ScriptDone(measurement=self._killed(request, exit_code, answers.last_phase))
        self._made = done.made
        return done

    def _fork(self, command: Command, request: ScriptRequest, answers: RankAnswers) -> int | None:
        def work(send: Callable[[str], None]) -> NoReturn:
            from vram_cli.probe.scripts.script_trial import ScriptTrial

            os.environ.update(command.environment)
            effects = self._isolation.start(made=request.made, enters=request.has_overlay)
            ScriptTrial(request, send, effects).run(lambda: run(command))

        return run_in_fork(work, lambda line: answers.receive(json.loads(line)))

    def _launch(self, command: Command, request: ScriptRequest, answers: RankAnswers) -> int | None:
        folder = Path.cwd()
        ranks = ranks_of(self._script.words(1))
        end = launch(
            command,
            variables_of_rank(*ranks) if self._is_virtual and ranks != (1, 1) else {},
            folder,
            SCRIPT_REQUEST.dump_python(request, mode="json"),
            answers,
            prepare=partial(overlay.enter, folder) if request.has_overlay else None,
        )
        if end.exit_code is not None and not end.was_attached:
            raise self._ended(
                f"{self._name}: it ended with exit code {end.exit_code}, and none of its processes imported torch",
                "start the Python that trains in the command, without a login to another machine or a container",
            )
        return end.exit_code

    def _killed(self, request: ScriptRequest, exit_code: int | None, phase: Phase | None) -> Measurement:
        code = exit_code or 0
        ending = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if request.is_rehearsal or self._is_virtual:
            raise self._ended(
                f"{self._name}: the process of the script {ending} before it had trained for "
                f"{self._config.search.steps} steps",
                "run it by itself to see why",
            )
        return Measurement(
            batch_size=request.batch_size, outcome=Outcome.KILLED, phase=phase, message=f"the trial's process {ending}"
        )

    def _complete(self, measurement: Measurement) -> Measurement:
        if measurement.outcome is Outcome.ENDED:
            return replace(measurement, message=f"{self._name}: {measurement.message}")
        return measurement

    @property
    def _name(self) -> str:
        return " ".join(self._script.command)

    def _ready(self) -> Ready:
        rehearsal = self._rehearsal
        own = self._rehearsed_size if self._takes_size else self._chosen()[0].batch_size
        return Ready(
            device=rehearsal.device,
            guard_bytes=rehearsal.guard_bytes,
            data=self._data(),
            versions=rehearsal.versions,
            remark=self._remark(),
            parallel=self._parallel(),
            script=ScriptInfo(
                command=self._script.command,
                batch_size=own,
                set_in="" if self._takes_size else self._chosen()[0].line,
                loaders=rehearsal.loaders,
                micro_batches=rehearsal.micro_batches,
                isolation="overlay" if self._isolation.has_overlay else "none",
                starts=f"a new process, since {self._reason}" if self._reason else _FORKS,
            ),
        )

    def _parallel(self) -> ParallelInfo | None:
        ranks = ranks_of(self._script.words(1))[0] if self._is_virtual else self._ranks
        if ranks == 1:
            return None
        return ParallelInfo(
            strategy=None,
            ranks=ranks,
            micro_batches=self._rehearsal.micro_batches,
            rank=self._rank,
            communication_bytes=communication_bytes(self._config) if self._is_virtual else 0,
            is_allowance=self._is_virtual,
        )

    def _remark(self) -> str:
        remarks = [
            NO_GPU if self._is_virtual and not self._config.device.gpu else "",
            LARGE_WORKSPACES if self._is_virtual and self._may_lack_tf32() else "",
            f"The script writes {format_bytes(self._discarded_bytes)} into its folder, which each trial does again and "
            "discards: if it downloads its data there, run it once by itself first."
            if self._discarded_bytes > _MUCH
            else "",
        ]
        return " ".join(filter(None, remarks))

    def _chosen(self) -> list[LoaderInfo]:
        """Return the loaders that train and get the batch size."""
        trains = [info for info in self._rehearsal.loaders if info.trains]
        return [info for key, info in zip(self._rehearsal.training, trains, strict=True) if key in self._training]

    def _may_lack_tf32(self) -> bool:
        gpu = find_gpu(self._config.device.gpu or DEFAULT_GPU)
        return self._rehearsal.has_float32_convolutions and not has_tf32(gpu)

    def _data(self) -> DataInfo:
        rehearsal, chosen = self._rehearsal, self._chosen()
        lengths = [info.num_samples for info in chosen if info.num_samples is not None]
        return DataInfo(
            name=rehearsal.data_name or "the script's own",
            source="script",
            detail=chosen[0].line if chosen else "no DataLoader",
            tensors=(),
            classes=None,
            num_samples=min(lengths, default=None),
            samples_measured=rehearsal.samples_measured,
            samples_total=rehearsal.samples_total,
        )


def _sizes(rehearsal: Rehearsal) -> tuple[Any, ...]:
    return tuple(info.batch_size for info in rehearsal.loaders if info.trains), rehearsal.input_sizes
