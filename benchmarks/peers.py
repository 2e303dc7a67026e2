"""Batch-size finders of other projects and vram's, each looking for the limit of the same counting device.

The device is not hardware: a training step above the limit raises PyTorch's out-of-memory error. vram also reads memory
peaks, so it gets those that belong to the limit, in three shapes; the others read none.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.fakes import limited_to
from vram_cli.records import Measurement
from vram_cli.search import find_largest

STEPS = 3
"""Steps per trial, if a finder has that option: the default of Lightning and of vram."""

REACH = 2**21
"""The maximum for finders that need one: above every limit of the benchmark."""


class GaveUpError(BaseException):
    """Too many trials. Not an Exception, because finders read any Exception as "too large"."""


@dataclass
class Device:
    """A device that runs out of memory above a limit, and counts trials and steps."""

    limit: int
    max_trials: int = 200
    trials: int = 0
    steps: list[int] = field(default_factory=list)

    def begin(self) -> None:
        """Begin a trial."""
        self.trials += 1
        if self.trials > self.max_trials:
            raise GaveUpError

    def step(self, batch_size: int) -> None:
        """Run a training step, or fail as PyTorch does."""
        self.steps.append(batch_size)
        if batch_size > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def trial(self, batch_size: int, steps: int = 1) -> int:
        """Run a whole trial and return its size."""
        self.begin()
        for _ in range(steps):
            self.step(batch_size)
        return batch_size

    @property
    def ooms(self) -> int:
        """Number of steps that failed."""
        return sum(batch_size > self.limit for batch_size in self.steps)


@dataclass(frozen=True)
class Finder:
    """One way to find the limit; `package` is None if nothing has to be installed."""

    name: str
    package: str | None
    find: Callable[[Device], int | None]
    setting: str


def vram(shape: str) -> Callable[[Device], int | None]:
    """Return vram's search alone, on a device with memory of this shape."""

    def find(device: Device) -> int | None:
        memory, measure = _measured(device, shape)
        return find_largest(measure, capacity_bytes=memory, multiple_of=1).max_batch_size

    return find


def vram_all(device: Device) -> int | None:
    """Run vram's search as `vram find-batch` does: with a second run of the answer, and the recommended size."""
    memory, measure = _measured(device, "2 MiB")
    margin = memory // 20
    result = find_largest(measure, capacity_bytes=memory, margin_bytes=margin, multiple_of=8, confirm=measure)
    return result.max_batch_size


def _measured(device: Device, shape: str) -> tuple[int, Callable[[int], Measurement]]:
    memory = limited_to(device.limit, shape)

    def measure(batch_size: int) -> Measurement:
        with contextlib.suppress(torch.OutOfMemoryError):
            device.trial(batch_size, STEPS)
        return memory(batch_size)

    return memory.capacity_bytes, measure


def plain(device: Device) -> int | None:
    """Run vram's search without memory peaks: doubling and bisection."""

    def fits(batch_size: int) -> bool:
        try:
            return bool(device.trial(batch_size, STEPS))
        except torch.OutOfMemoryError:
            return False

    return find_largest(fits, multiple_of=1).max_batch_size


def lightning(mode: str, **options: float) -> Callable[[Device], int | None]:
    """Return Lightning's Tuner with its real training loop, and a data set that never ends a trial early."""

    def find(device: Device) -> int | None:
        import lightning.pytorch as pl
        from lightning.pytorch.tuner import Tuner

        logging.getLogger("lightning.pytorch").setLevel(logging.CRITICAL)

        class Rows(torch.utils.data.Dataset[torch.Tensor]):
            def __len__(self) -> int:
                return STEPS * REACH

            def __getitems__(self, rows: list[int]) -> torch.Tensor:
                return torch.zeros(len(rows), 1)

        class Model(pl.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.batch_size = 2
                self.layer = torch.nn.Linear(1, 1)

            def on_train_start(self) -> None:
                device.begin()

            def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
                device.step(len(batch))
                return self.layer(batch[:1]).mean()

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.Adam(self.parameters())

            def train_dataloader(self) -> Any:
                return torch.utils.data.DataLoader(Rows(), batch_size=self.batch_size, collate_fn=lambda rows: rows)

        with tempfile.TemporaryDirectory() as folder:
            trainer = pl.Trainer(
                accelerator="cpu",
                max_epochs=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=folder,
            )
            return Tuner(trainer).scale_batch_size(Model(), mode=mode, steps_per_trial=STEPS, max_val=REACH, **options)

    return find


def accelerate(device: Device) -> int | None:
    """Start above the limit, because this finder only shrinks."""
    from accelerate.utils import find_executable_batch_size

    @find_executable_batch_size(starting_batch_size=_start(device))
    def train(batch_size: int) -> int:
        return device.trial(batch_size)

    return int(train())


def toma(device: Device) -> int | None:
    """Start above the limit, because this finder only shrinks."""
    from toma import simple

    return int(simple.batch(device.trial, _start(device)))


def batch_finder(device: Device) -> int | None:
    """Run in this process: trials in a separate process could not be counted."""
    from batch_finder import find_max_minibatch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            device.trial(len(x))
            return self.layer(x[:1])

    result = find_max_minibatch(
        Model,
        input_shapes=(-1, 1),
        forward_params=["x"],
        use_subprocess=False,
        delay=0.0,
        memory_guided=False,
        n_attempts=100,
    )
    return result[0] if result else None


def _start(device: Device) -> int:
    """Return the first power of two above the limit: closer than a user could guess, but not chosen to fit."""
    return 1 << device.limit.bit_length()


def quietly(find: Callable[[Device], int | None], device: Device) -> int | None:
    """Run a finder without its output and warnings."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        return find(device)


FINDERS = (
    Finder("vram, smooth memory", None, vram("smooth"), f"{STEPS} steps per trial"),
    Finder("vram, 2 MiB lumps", None, vram("2 MiB"), f"{STEPS} steps per trial"),
    Finder("vram, optimizer-dominated", None, vram("optimizer"), f"{STEPS} steps per trial"),
    Finder("vram find-batch, whole", None, vram_all, "with confirmation and recommended size"),
    Finder("doubling + bisection", None, plain, f"{STEPS} steps per trial"),
    Finder("Lightning binsearch", "lightning", lightning("binsearch", margin=0.0), f"margin 0, max_val {REACH}"),
    Finder("Lightning power", "lightning", lightning("power"), f"max_val {REACH}"),
    Finder("accelerate", "accelerate", accelerate, "started at the power of two above N"),
    Finder("toma", "toma", toma, "started at the power of two above N"),
    Finder("batch-finder", "batch-finder", batch_finder, "in this process, no optimizer step"),
)
