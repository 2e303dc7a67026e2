"""A prediction made beside real trials on a GPU: it says where the search should look first, and nothing more."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from types import TracebackType

from vram_cli.config import Config, DeviceConfig
from vram_cli.errors import VramError
from vram_cli.hardware.gpus import find_gpu, recognise_gpu
from vram_cli.probe import WorkerProbe
from vram_cli.records import Device
from vram_cli.search import find_largest

PATIENCE = 20.0
"""Seconds for which a search waits for its prediction; after that it goes by measured memory alone."""


class InitialGuess:
    """Predicts the largest batch for the card that real trials run on, in a process and a thread of its own.

    A context manager: leaving it ends the prediction. Where nothing can be predicted (a CPU, a card that the catalogue
    does not have, a model that fakes cannot stand for), `expected` is None.

    Args:
        config: what the trials train.
        device: what they run on.
        capacity_bytes: what PyTorch's allocator may reserve there.
        cap: the largest size that may be tried.
    """

    def __init__(self, config: Config, device: Device, capacity_bytes: int, cap: int | None) -> None:
        self._capacity_bytes, self._cap = capacity_bytes, cap
        self._probe: WorkerProbe | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vram-guide")
        self._answer: Future[int | None] | None = None
        prediction = _prediction_of(config, device, capacity_bytes)
        if prediction is not None:
            self._probe = WorkerProbe(prediction)

    def __enter__(self) -> InitialGuess:
        """Begin to predict."""
        if self._probe is not None:
            self._answer = self._pool.submit(self._predict, self._probe)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop predicting."""
        if self._probe is not None:
            self._probe.stop()
        self._pool.shutdown()

    def expected(self) -> int | None:
        """Return the predicted size; None where there is none in time."""
        if self._answer is None:
            return None
        try:
            return self._answer.result(PATIENCE)
        except NotYet:
            return None

    def _predict(self, probe: WorkerProbe) -> int | None:
        try:
            with probe:
                found = find_largest(
                    probe.measure, capacity_bytes=self._capacity_bytes, upper_bound=self._cap, multiple_of=None
                )
        except VramError:  # refused, or stopped: real trials are there to answer
            return None
        return found.max_batch_size


def _prediction_of(config: Config, device: Device, capacity_bytes: int) -> Config | None:
    """Return the config of a prediction for the same card and the same room; None where there is no such card."""
    if device.kind != "real" or not device.type.startswith("cuda"):
        return None
    try:
        # Some names are those of several cards, which their memory tells apart; with a budget that is not known.
        whole = device.memory_limit_bytes is None
        card = (recognise_gpu(device.name, device.capacity_bytes) if whole else find_gpu(device.name)).name
    except VramError:
        return None
    target = DeviceConfig(
        gpu=card,
        memory_limit=device.capacity_bytes,
        overhead=device.capacity_bytes - capacity_bytes or None,
        expandable_segments=config.device.expandable_segments,
        cudnn_benchmark=config.device.cudnn_benchmark,
    )
    return config.model_copy(update={"device": target})
