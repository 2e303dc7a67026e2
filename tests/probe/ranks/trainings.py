"""Trainings of two ranks that end, hang or raise at a place of one's choice, in one of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import Dataset

LARGE = 4
"""Batches from this size on meet the fault: not the small one that loads what is loaded on first use."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise() -> None:
    raise ValueError("one rank is wrong")


_FAULTS: dict[str, Callable[[], object]] = {
    "kill": _kill,
    "exit": lambda: os._exit(5),
    "raise": _raise,
    "hang": lambda: time.sleep(600),
    "memory": lambda: torch.empty(1 << 40),
}


class _Fault:
    """Something that happens in one rank, in one phase."""

    def __init__(self, kind: str = "", rank: int = 0, phase: str = "") -> None:
        self._kind, self._rank, self._phase = kind, rank, phase

    def __call__(self, phase: str) -> None:
        is_member = dist.is_initialized() and dist.get_rank() == self._rank
        if phase == self._phase and is_member:
            _FAULTS[self._kind]()


class Faulty(nn.Module):
    """Two layers; the fault is that of its arguments."""

    def __init__(self, width: int = 64, features: int = 1024, **fault: Any) -> None:
        super().__init__()
        self.fault = _Fault(**fault)
        self.fault("build")
        self.first, self.second = nn.Linear(features, width), nn.Linear(width, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return scores."""
        hidden = self.first(inputs).relu()
        if len(inputs) >= LARGE:
            self.fault("forward")
            hidden.register_hook(lambda _: self.fault("backward"))
        return self.second(hidden)


class FaultyStep(torch.optim.SGD):
    """Meets the fault as it steps."""

    def __init__(self, parameters: Any, lr: float = 0.1, **fault: Any) -> None:
        super().__init__(parameters, lr=lr)
        self.fault = _Fault(**fault)

    def step(self, closure: Any = None) -> Any:
        """Step."""
        self.fault("optimizer")
        return super().step(closure)


class FaultySamples(Dataset[tuple[torch.Tensor, int]]):
    """Meets the fault as a sample is read."""

    def __init__(self, features: int = 1024, **fault: Any) -> None:
        self.features, self.fault = features, _Fault(**fault)

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.fault("batch")
        return torch.zeros(self.features), 0
