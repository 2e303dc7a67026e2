"""A probe that answers by a formula of the config: the seam at which advice is tested without a single step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from vram_cli.commands.advise import advise
from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError
from vram_cli.records import (
    Advice,
    Breakdown,
    BreakdownRow,
    Category,
    DataInfo,
    Detail,
    Device,
    Measurement,
    Outcome,
    Phase,
    RunInfo,
)
from vram_cli.units import GIB, MIB

WEIGHTS = 64 * MIB
SAMPLE = 16 * MIB
CONTEXT = 128 * MIB


def training(*overrides: str) -> Config:
    return load_config("cnn_cifar10.yaml", overrides)


@dataclass
class World:
    """What a training takes, and what happens meanwhile.

    Attributes:
        capacity: of the device, what lies outside the allocator included.
        device: where it runs.
        length: of the data set.
        refuses: says why a config cannot be had; "" where it can.
        breaks: says what the config's own code raises; "" for nothing.
        watched: the largest size at which there is room to watch a step; None where there always is.
        thrashes: says at which sizes the allocator has to give its cache back.
        interrupt_at: the measurement at which Ctrl-C comes, counted from 1.
        measured: each size with its config, in order.
        opened: each config that was opened.
    """

    capacity: int = 4 * GIB + CONTEXT
    device: dict[str, Any] = field(default_factory=lambda: {"kind": "simulated", "name": "Tesla T4", "type": "cuda:0"})
    length: int | None = None
    refuses: Callable[[Config], str] = lambda _: ""
    breaks: Callable[[Config], str] = lambda _: ""
    thrashes: Callable[[Config, int], bool] = lambda *_: False
    watched: int | None = None
    interrupt_at: int | None = None
    measured: list[tuple[Config, int, bool]] = field(default_factory=list)
    opened: list[Config] = field(default_factory=list)

    def held(self, config: Config, n: int) -> dict[Category, int]:
        """Return the bytes of each row at the peak."""
        optimizer, train = config.optimizer, config.train
        moments = 2 if optimizer.name in ("adam", "adamw") else int(optimizer.momentum > 0)
        share = {"none": 8, "every-2": 6, "full": 4}.get(train.activation_checkpointing, 8)
        waiting = WEIGHTS if train.gradient_accumulation_steps > 1 else 0
        return {
            Category.PARAMETERS: WEIGHTS,
            Category.GRADIENTS: waiting + (0 if train.optimizer_in_backward else WEIGHTS),
            Category.OPTIMIZER_STATE: moments * WEIGHTS,
            Category.ACTIVATIONS: n * SAMPLE * share // (8 if config.precision == "fp32" else 16),
            Category.ALLOCATOR_SLACK: 0 if config.device.expandable_segments else 2 * WEIGHTS,
        }

    def largest(self, config: Config) -> int:
        """Return the largest batch, from the formula."""
        resident, step = (sum(self.held(config, n).values()) for n in (0, 1))
        return max(0, (self.room - resident) // (step - resident))

    @property
    def room(self) -> int:
        return self.capacity - CONTEXT

    def advise(self, config: Config, **options: Any) -> Advice:
        return advise(config, open_probe=self.open_probe, **options)

    @contextmanager
    def open_probe(self, config: Config, **_: Any) -> Iterator[FormulaProbe]:
        self.opened.append(config)
        if why := self.refuses(config):
            raise ConfigError(why)
        yield FormulaProbe(self, config)


class FormulaProbe:
    """A probe of a world."""

    def __init__(self, world: World, config: Config) -> None:
        self._world, self._config = world, config

    @property
    def device(self) -> Device:
        gpu, memory_limit = self._config.device.gpu, self._config.device.memory_limit
        facts = self._world.device | ({"kind": "simulated", "name": gpu, "type": "cuda:0"} if gpu else {})
        return Device(
            capacity_bytes=memory_limit or self._world.capacity,
            memory_limit_bytes=memory_limit,
            outside_bytes=CONTEXT,
            has_peak_counters=facts["type"] != "cpu",
            **facts,
        )

    @property
    def info(self) -> RunInfo:
        config = self._config
        return RunInfo(
            config_name=str(config.source.path or config.source.name),
            config=config.model_dump(mode="json"),
            overrides=config.source.overrides,
            device=self.device,
            data=DataInfo(
                name="cifar10", source="synthetic", detail="", tensors=(), classes=10, num_samples=self._world.length
            ),
            versions={"vram": "0.1.0"},
            remark="a remark",
        )

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        explain = detail is not Detail.NONE
        config, world = self._config, self._world
        world.measured.append((config, batch_size, explain))
        if len(world.measured) == world.interrupt_at:
            raise KeyboardInterrupt
        if message := world.breaks(config):
            return Measurement(
                batch_size=batch_size,
                outcome=Outcome.ERROR,
                phase=Phase.FORWARD,
                message=message,
                traceback=f"Traceback: {message}",
            )
        held = world.held(config, batch_size)
        free = self.device.allocator_bytes - sum(held.values())
        fits = free >= 0
        return Measurement(
            batch_size=batch_size,
            outcome=Outcome.FITS if fits else Outcome.OUT_OF_MEMORY,
            steps=3 if fits else 0,
            allocator_retries=int(fits and world.thrashes(config, batch_size)),
            flops=batch_size * (4 if config.train.activation_checkpointing == "full" else 3),
            step_seconds=0.5 * (1.2 if config.train.activation_checkpointing == "full" else 1) if fits else None,
            breakdown=self._breakdown(batch_size, held | {Category.CONTEXT: CONTEXT, Category.FREE: free})
            if explain and fits and batch_size <= (world.watched or batch_size)
            else None,
        )

    def _breakdown(self, n: int, held: dict[Category, int]) -> Breakdown:
        rows = tuple(BreakdownRow(category=category, bytes=held.get(category, 0)) for category in Category)
        return Breakdown(batch_size=n, rows=rows, total_bytes=self.device.capacity_bytes, peak_phase=Phase.BACKWARD)

    confirm = measure
