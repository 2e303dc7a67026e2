"""A prediction that runs beside real trials on a GPU: it chooses the first size to try, and nothing more."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import AbstractContextManager
from types import TracebackType

from vram_cli.config import Config, DeviceConfig
from vram_cli.errors import VramError
from vram_cli.hardware.gpus import find_gpu, recognise_gpu
from vram_cli.probe import OpenProbe, Probe
from vram_cli.records import Device
from vram_cli.search import find_largest

PREDICTION_TIMEOUT_S = 20.0
"""How long a search waits for its prediction. After that it relies on measured memory alone."""


class InitialGuess:
    """Predicts the largest batch for the GPU of real trials, in a process and a thread of its own.

    A context manager: leaving it ends the prediction. `batch_size` is None if nothing can be predicted: on a CPU, for a
    GPU that the catalogue does not have, for a script, for a model that fake tensors cannot run, or if the prediction
    breaks.

    Args:
        config: what the trials train.
        device: the device of the trials.
        max_batch_size: the largest size to try.
        open_probe: opens the probe that predicts.
    """

    def __init__(self, config: Config, device: Device, max_batch_size: int | None, open_probe: OpenProbe) -> None:
        self._config, self._capacity_bytes, self._max_batch_size = config, device.allocator_bytes, max_batch_size
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vram-initial-guess")
        self._future: Future[int | None] | None = None
        prediction = prediction_of(config, device)
        self._context: AbstractContextManager[Probe] | None = open_probe(prediction) if prediction else None

    def __enter__(self) -> InitialGuess:
        """Start to predict."""
        if self._context is not None:
            self._future = self._pool.submit(self._predict, self._context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop predicting."""
        if self._context is not None:
            self._context.__exit__(None, None, None)
        self._pool.shutdown()

    def batch_size(self) -> int | None:
        """Return the predicted size; None if there is none in time."""
        if self._future is None:
            return None
        try:
            return self._future.result(PREDICTION_TIMEOUT_S)
        except NotYet:
            return None

    def _predict(self, context: AbstractContextManager[Probe]) -> int | None:
        try:
            with context as probe:
                search = find_largest(
                    probe.measure,
                    capacity_bytes=self._capacity_bytes,
                    upper_bound=self._max_batch_size,
                    multiple_of=None,
                    only_multiples_of=self._config.search.only_multiples_of,
                    configured_size=self._config.train.batch_size,
                )
        except VramError:  # refused, broken or closed: the real trials give the answer
            return None
        return search.max_batch_size


def prediction_of(config: Config, device: Device) -> Config | None:
    """Return the config of a prediction for the GPU of real trials and its memory; None if not predictable."""
    if device.is_simulated or not device.is_gpu or config.script is not None:  # a prediction would run it again
        return None
    try:
        # Some names are shared by several GPUs, which differ in memory; under a memory limit that is not known.
        is_whole = device.memory_limit_bytes is None
        gpu = recognise_gpu(device.name, device.capacity_bytes) if is_whole else find_gpu(device.name)
    except VramError:
        return None
    target = DeviceConfig(
        gpu=gpu.name,
        memory_limit=device.capacity_bytes,
        overhead=device.outside_bytes or None,
        expandable_segments=config.device.expandable_segments,
        cudnn_benchmark=config.device.cudnn_benchmark,
    )
    parallel = config.parallel and config.parallel.model_copy(update={"memory_limits": None})
    return config.model_copy(update={"device": target, "parallel": parallel})
