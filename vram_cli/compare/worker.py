"""The worker process of `vram compare`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from vram_cli.compare.messages import REPLY, REQUEST, OpenTraining, Request, TrainingOpened
from vram_cli.probe.messages import ImportTorch
from vram_cli.probe.worker.main import import_torch, read_config, run

if TYPE_CHECKING:
    from vram_cli.compare.training_worker import TrainingWorker


class TrainingService:
    """Opens a config for training, and trains it once per request."""

    requests: TypeAdapter[Any] = REQUEST
    replies: TypeAdapter[Any] = REPLY

    def __init__(self) -> None:
        self._worker: TrainingWorker | None = None

    def handle(self, request: Request, send: Callable[[Any], None]) -> Any:
        """Import torch, open a config, or train it."""
        if isinstance(request, ImportTorch):
            return import_torch("vram_cli.compare.training_worker")
        if isinstance(request, OpenTraining):
            from vram_cli.compare.training_worker import TrainingWorker

            self._worker = TrainingWorker(read_config(request.config, request.folder), request)
            return TrainingOpened()
        return None if self._worker is None else self._worker.train(request, send)


def main() -> None:
    """Serve requests until the parent closes the pipe."""
    run(TrainingService())
