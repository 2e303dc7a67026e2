"""The trials of a worker: real ones on a device of this machine, or predictions for another GPU."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from vram_cli.allocator.snapshot import write_snapshot
from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError, MachineError, out_of_host_memory
from vram_cli.hardware.accuracy import accuracy_of
from vram_cli.hardware.calibration_store import load_calibration
from vram_cli.hardware.gpus import DEFAULT_GPU, find_gpu
from vram_cli.probe.devices.monitor import MemoryMonitor
from vram_cli.probe.devices.open_monitor import open_monitor
from vram_cli.probe.devices.virtual import VirtualGpuMonitor, assume_distinct_rows
from vram_cli.probe.environment import communication_bytes
from vram_cli.probe.messages import RankPlace, Ready, RunTrial, TrialDone, WarmUpLeft
from vram_cli.probe.worker.lazy_dynamo import make_dynamo_lazy
from vram_cli.probe.worker.memory_trial import MemoryTrial
from vram_cli.probe.worker.ranks import join_absent_ranks
from vram_cli.probe.worker.remarks import remark_on
from vram_cli.probe.worker.timing_trial import TimingTrials
from vram_cli.probe.worker.versions import versions
from vram_cli.records import Detail, Measurement, Outcome, ParallelInfo, Phase
from vram_cli.virtual_gpu.attached import VirtualGpu, is_attached
from vram_cli.virtual_gpu.refusals import refusal, size_from_values, too_new, unknown_sizes
from vram_cli.workload import (
    DataSource,
    ShapesOnly,
    build_model,
    check_code,
    data_dtype_name,
    open_data,
    set_matmul_precision,
)
from vram_cli.workload.model_without_memory import ReusedModel
from vram_cli.workload.optimizers import refuse_unpredictable
from vram_cli.workload.parallel import fullest_rank, leave_group


class Trials(Protocol):
    """Runs trials."""

    @property
    def ready(self) -> Ready:
        """What the parent has to know before the first trial."""
        ...

    def run(self, trial: RunTrial, on_phase: Callable[[Phase], None]) -> TrialDone | WarmUpLeft:
        """Run a batch size; `on_phase` is called as each phase starts."""
        ...


def open_trials(
    config: Config,
    *,
    download: bool,
    calibrated: bool = True,
    timed: bool = False,
    virtual: bool = False,
    warm: bool = True,
    place: RankPlace | None = None,
) -> Trials:
    """Return real trials; or predictions, if the config names a GPU to predict for, or `auto` finds none.

    Args:
        config: the training and its device.
        download: whether torchvision may download missing data files.
        calibrated: whether a prediction uses the saved calibration of its GPU.
        timed: whether trials time their steps instead of measuring memory.
        virtual: whether this process was started with the virtual GPU, to predict by it.
        warm: whether a small trial of the training may run before the first one; if not, another training's runs.
        place: the place of this process, if it is one of several ranks on devices of this machine or others.

    Raises:
        ConfigError: the data or the GPU that the config names cannot be used, or its calibration cannot be read.
        MachineError: the device does not exist, or the virtual GPU did not load.
    """
    if config.script is not None:
        from vram_cli.probe.scripts.script_trials import ScriptTrials

        return ScriptTrials(config, is_virtual=virtual)
    check_code(config)
    leave_group()
    if not config.train.compile:
        make_dynamo_lazy()
    if place is not None:
        from vram_cli.probe.worker.rank_trials import RankTrials

        return RankTrials(config, place, download=download, warm=warm)
    if timed:
        return TimingTrials(config, download=download)
    device = config.device
    if virtual:
        if not is_attached():
            raise MachineError(
                "the library of the virtual GPU did not load into the worker process",
                "compile it again with `make native`, or predict without it: --set device.engine=fake-tensors",
            )
        return VirtualTrials(config, calibrated=calibrated, warm=warm)
    if device.gpu is not None or (device.name == "auto" and not torch.cuda.is_available()):
        return FakeTensorTrials(config, calibrated=calibrated)
    trials = StepTrials(config, open_data(config, download=download), partial(open_monitor, device.name))
    if warm:
        trials.warm_up()
    else:
        trials.warm_up_with_preset()
    return trials


@contextmanager
def recorded_snapshot(path: str | None) -> Iterator[None]:
    """Record allocations and write them as a snapshot for PyTorch's memory_viz; nothing if there is no path."""
    if path is None:
        yield
        return
    torch.cuda.memory._record_memory_history(stacks="python")
    try:
        yield
    finally:
        write_snapshot(torch.cuda.memory._snapshot(), Path(path))
        torch.cuda.memory._record_memory_history(enabled=None)


class StepTrials:
    """Steps on a device of this process: a GPU, the CPU, or the virtual GPU.

    Args:
        config: the training.
        data: the source of its batches.
        open_monitor: opens the monitor of the device with a memory limit in bytes, None for none.
        in_group: whether other ranks run the same steps, so that none may run more of them than the others.
    """

    def __init__(
        self,
        config: Config,
        data: DataSource,
        open_monitor: Callable[[int | None], MemoryMonitor],
        *,
        in_group: bool = False,
    ) -> None:
        set_matmul_precision(config)
        torch.backends.cudnn.benchmark = config.device.cudnn_benchmark
        self._config, self._data, self._open_monitor = config, data, open_monitor
        self._in_group = in_group
        self.data_dtype = "float32"
        """That of data that follow the model; known once the model has been built."""
        self._is_clean = True
        """Whether no tensor of the warm-up is alive."""
        self.monitor = monitor = open_monitor(config.device.memory_limit)
        if config.train.compile and not monitor.has_peak_counters:
            raise ConfigError(
                f"train.compile: {monitor.device.type} has no peak counters, so tensors are tracked one by one; "
                "compiled code cannot be tracked",
                "leave it out, or run on a CUDA GPU",
            )

    def warm_up(self, batch_size: int = 2) -> bool:
        """Run a small trial without a limit, whose errors occur again in the first trial; return whether it ran.

        Modules and kernels that are loaded on first use stay in memory, and would count as memory of the training.
        """
        return self._warmed_up(batch_size).fits

    def _warmed_up(self, batch_size: int) -> Measurement:
        measurement, trial = self._run_small(self._config, self._data, batch_size)
        self._is_clean, self.data_dtype = not trial.leaves_tensors, trial.data_dtype
        return measurement

    def warm_up_with_preset(self) -> None:
        """Run a small trial of a training that keeps nothing, if the user's own keeps tensors of its warm-up."""
        preset = load_config("cnn_cifar10.yaml", ["data.source=synthetic"])
        self._run_small(preset, open_data(preset), 2)

    def _run_small(self, config: Config, data: DataSource, batch_size: int) -> tuple[Measurement, MemoryTrial]:
        trial = MemoryTrial(self._open_monitor(None), lambda _: None, watches_growth=False)
        measurement, _ = trial.run(config, data, batch_size, 2)
        # All objects alive now stay alive: the garbage collection after each trial can skip them, which saves 0.2 s.
        gc.freeze()
        return measurement, trial

    @property
    def ready(self) -> Ready:
        """The device as it is now, the data and the versions."""
        return Ready(
            device=self.monitor.describe(),
            guard_bytes=self.monitor.guard_bytes,
            data=self._data.info.for_model(self.data_dtype),
            versions=versions() | self.monitor.versions(),
        )

    def run(self, trial: RunTrial, on_phase: Callable[[Phase], None]) -> TrialDone | WarmUpLeft:
        """Run a trial, and repeat it if the CUDA context grew during it, so that the limit was exceeded."""
        if not self._is_clean:
            return WarmUpLeft()
        if trial.is_warm_up:
            return TrialDone(measurement=self._warmed_up(trial.batch_size), poisoned=False, data_dtype=self.data_dtype)
        for _ in range(1 if self._in_group else 2):
            memory_trial = MemoryTrial(self.monitor, on_phase, trial.detail, watches_growth=not self._in_group)
            steps = self._config.search.steps
            measurement, poisoned = memory_trial.run(self._config, self._data, trial.batch_size, steps)
            exceeded = measurement.fits and self.monitor.exceeded_limit()
            if memory_trial.leaves_tensors or not exceeded:
                break
        return TrialDone(measurement=measurement, poisoned=poisoned, exceeded_limit=exceeded)


class VirtualTrials:
    """Steps of PyTorch's CUDA code on the virtual GPU, whose library this process has."""

    def __init__(self, config: Config, *, calibrated: bool, warm: bool) -> None:
        gpu = find_gpu(config.device.gpu or DEFAULT_GPU)
        calibration = load_calibration(gpu) if calibrated else None
        self._library = VirtualGpu()
        assume_distinct_rows(self._library.assumed_size)
        accuracy = accuracy_of(gpu.vendor, "virtual-gpu")
        if calibration is not None and config.device.overhead is None:
            accuracy = f"memory and context calibrated on {calibration.measured_on}; {accuracy}"
        if config.parallel is not None:
            accuracy = f"{accuracy_of(gpu.vendor, 'ranks')}; one GPU: {accuracy}"
        register_optimizer_step_pre_hook(refuse_unpredictable)
        data = ShapesOnly(open_data(config, read_files=False))
        limit = config.device.memory_limit
        modules: defaultdict[str, ReusedModel] = defaultdict(ReusedModel)
        # At once, so that a model that cannot be built is refused.
        model = modules["model"].built(lambda: build_model(config)).model
        with self._answered():
            parallel = _join(config, model)
            outside = parallel.communication_bytes if parallel else 0
            self._trials = StepTrials(
                config,
                data,
                lambda _: VirtualGpuMonitor(gpu.product, limit, accuracy, modules, outside),
            )
            self._trials.data_dtype = data_dtype_name(config, model)
            remark = remark_on(config, gpu, model, is_virtual=True)
            self.ready = replace(self._trials.ready, parallel=parallel, remark=remark)
        self._is_warm = not warm

    def run(self, trial: RunTrial, on_phase: Callable[[Phase], None]) -> TrialDone | WarmUpLeft:
        """Run a batch size.

        Raises:
            UnsupportedError: the training calls a function of CUDA that the virtual GPU does not answer, or the size of
                a tensor depends on values.
        """
        snapshot = trial.snapshot if trial.detail in (Detail.ROWS, Detail.MODULES) else None
        with self._answered():
            if not self._is_warm:  # not before: if the training ends the process, that ends a prediction
                # The size of the first trial, if that is small: cuDNN's plans for it are then known.
                self._is_warm = self._trials.warm_up(min(trial.batch_size, 2)) or trial.batch_size > 1
                self._library.reads()
            with recorded_snapshot(snapshot):
                done = self._trials.run(trial, on_phase)
        if isinstance(done, WarmUpLeft):
            return done
        if not done.measurement.fits and "CUDA out of memory" not in done.measurement.message:
            self._check_imports()
        reads = self._library.reads()
        if lines := unknown_sizes(reads):
            raise size_from_values(lines)
        if done.measurement.outcome is Outcome.HOST_MEMORY:
            raise out_of_host_memory(trial.batch_size, done.measurement.message)
        # The time of steps that compute nothing says nothing.
        measurement = replace(done.measurement, step_seconds=None, reads=reads)
        return replace(done, measurement=measurement)

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Raise UnsupportedError if a function of CUDA refused, whatever error or answer came of that."""
        try:
            yield
        except Exception:
            self._check_imports()
            raise
        finally:
            if names := self._library.refusals():
                raise refusal(names)

    def _check_imports(self) -> None:
        """Raise UnsupportedError if an error may come from a function of CUDA that the library lacks."""
        if names := self._library.unknown_imports():
            raise too_new(names)


def _join(config: Config, model: nn.Module) -> ParallelInfo | None:
    """Make this process the rank that holds the most, if the config has several."""
    if (parallel := config.parallel) is None:
        return None
    rank = fullest_rank(config, model)
    join_absent_ranks(parallel.ranks, rank)
    return ParallelInfo(
        strategy=parallel.strategy,
        ranks=parallel.ranks,
        micro_batches=config.micro_batches_per_step,
        rank=rank,
        communication_bytes=communication_bytes(config),
        is_allowance=parallel.nccl is None,
    )


class FakeTensorTrials:
    """Steps on fake tensors, for a GPU of the catalogue."""

    def __init__(self, config: Config, *, calibrated: bool = True) -> None:
        from vram_cli.fake_tensors import FakeTensorProbe  # 0.1 s that the other trials do not need

        device, gpu = config.device, find_gpu(config.device.gpu or DEFAULT_GPU)
        self._probe = FakeTensorProbe(
            config,
            gpu,
            calibration=load_calibration(gpu) if calibrated else None,
            expandable_segments=device.expandable_segments,
            overhead_bytes=device.overhead,
            capacity_bytes=device.memory_limit,
        )
        self.ready = Ready(
            device=self._probe.device,
            data=self._probe.data,
            versions=versions(),
            remark=remark_on(config, gpu, self._probe.model, is_virtual=False),
        )

    def run(self, trial: RunTrial, on_phase: Callable[[Phase], None]) -> TrialDone:  # noqa: ARG002 - it has no phases
        """Predict a batch size."""
        size, with_rows = trial.batch_size, trial.detail in (Detail.ROWS, Detail.MODULES)
        measurement = self._probe.measure(size, explain=with_rows, detail=trial.detail is Detail.MODULES)
        if trial.snapshot is not None and with_rows:
            self._probe.save_snapshot(size, Path(trial.snapshot))
        return TrialDone(measurement=measurement, poisoned=False)
