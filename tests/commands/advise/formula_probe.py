"""A probe that computes memory from a formula of the config, so that advice is tested without running a step."""

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
    ParallelInfo,
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
class FormulaBackend:
    """A device on which the memory of a training follows a formula.

    Attributes:
        capacity: bytes of the device, memory outside the allocator included.
        device: kind, name and type of the device.
        num_samples: samples of the data set.
        refusal: returns the reason why a config cannot run; "" if it can.
        user_error: returns the message that the user's code raises with a config; "" for none.
        max_tracked: the largest size with room to track a step; None for no limit.
        thrashes: returns whether the allocator has to release its cache at a size.
        interrupt_at: number of the measurement that Ctrl-C interrupts, counted from 1.
        measurements: config, size and whether a breakdown was requested, in order.
        opened: the configs that were opened.
    """

    capacity: int = 4 * GIB + CONTEXT
    device: dict[str, Any] = field(default_factory=lambda: {"kind": "simulated", "name": "Tesla T4", "type": "cuda:0"})
    num_samples: int | None = None
    refusal: Callable[[Config], str] = lambda _: ""
    user_error: Callable[[Config], str] = lambda _: ""
    thrashes: Callable[[Config, int], bool] = lambda *_: False
    max_tracked: int | None = None
    interrupt_at: int | None = None
    measurements: list[tuple[Config, int, bool]] = field(default_factory=list)
    opened: list[Config] = field(default_factory=list)

    def bytes_by_category(self, config: Config, n: int) -> dict[Category, int]:
        """Return the bytes at the peak."""
        optimizer, train = config.optimizer, config.train
        moments = 2 if optimizer.name in ("adam", "adamw") else int(optimizer.momentum > 0)
        share = {"none": 8, "every-2": 6, "full": 4}.get(train.activation_checkpointing, 8)
        accumulated = WEIGHTS if train.gradient_accumulation_steps > 1 else 0
        parallel = config.parallel
        shard = WEIGHTS // parallel.shard_ranks if parallel else WEIGHTS
        has_buckets = parallel is not None and not parallel.shards and not parallel.gradient_as_bucket_view
        state = WEIGHTS // parallel.ranks if parallel and parallel.zero_redundancy_optimizer else shard
        return {
            Category.PARAMETERS: shard,
            Category.GATHERED_PARAMETERS: WEIGHTS // 4 if parallel and parallel.shards else 0,
            Category.GRADIENTS: accumulated + (0 if train.optimizer_in_backward else shard),
            Category.GRADIENT_BUCKETS: WEIGHTS if has_buckets else 0,
            Category.OPTIMIZER_STATE: moments * state,
            Category.ACTIVATIONS: n * SAMPLE * share // (8 if config.precision == "fp32" else 16),
            Category.ALLOCATOR_SLACK: 0 if config.device.expandable_segments else 2 * WEIGHTS,
        }

    def largest(self, config: Config) -> int:
        """Return the largest batch size by the formula."""
        resident, step = (sum(self.bytes_by_category(config, n).values()) for n in (0, 1))
        return max(0, (self.allocator_bytes - resident) // (step - resident))

    @property
    def allocator_bytes(self) -> int:
        return self.capacity - CONTEXT

    def advise(self, config: Config, **options: Any) -> Advice:
        return advise(config, open_probe=self.open_probe, **options)

    @contextmanager
    def open_probe(self, config: Config, **_: Any) -> Iterator[FormulaProbe]:
        self.opened.append(config)
        if reason := self.refusal(config):
            raise ConfigError(reason)
        yield FormulaProbe(self, config)


class FormulaProbe:
    """A probe of a `FormulaBackend`."""

    def __init__(self, backend: FormulaBackend, config: Config) -> None:
        self._backend, self._config = backend, config

    @property
    def device(self) -> Device:
        gpu, memory_limit = self._config.device.gpu, self._config.device.memory_limit
        facts = self._backend.device | ({"kind": "simulated", "name": gpu, "type": "cuda:0"} if gpu else {})
        return Device(
            capacity_bytes=memory_limit or self._backend.capacity,
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
                name="cifar10",
                source="synthetic",
                detail="",
                tensors=(),
                classes=10,
                num_samples=self._backend.num_samples,
            ),
            versions={"vram": "0.1.0"},
            parallel=None
            if config.parallel is None
            else ParallelInfo(
                strategy=config.parallel.strategy,
                ranks=config.ranks,
                micro_batches=config.train.gradient_accumulation_steps,
            ),
            remark="a remark",
        )

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        with_breakdown = detail is not Detail.NONE
        config, backend = self._config, self._backend
        backend.measurements.append((config, batch_size, with_breakdown))
        if len(backend.measurements) == backend.interrupt_at:
            raise KeyboardInterrupt
        if message := backend.user_error(config):
            return Measurement(
                batch_size=batch_size,
                outcome=Outcome.ERROR,
                phase=Phase.FORWARD,
                message=message,
                traceback=f"Traceback: {message}",
            )
        sizes = backend.bytes_by_category(config, batch_size)
        free = self.device.allocator_bytes - sum(sizes.values())
        fits = free >= 0
        return Measurement(
            batch_size=batch_size,
            outcome=Outcome.FITS if fits else Outcome.OUT_OF_MEMORY,
            steps=3 if fits else 0,
            allocator_retries=int(fits and backend.thrashes(config, batch_size)),
            flops=batch_size * (4 if config.train.activation_checkpointing == "full" else 3),
            step_seconds=0.5 * (1.2 if config.train.activation_checkpointing == "full" else 1) if fits else None,
            breakdown=self._breakdown(batch_size, sizes | {Category.CONTEXT: CONTEXT, Category.FREE: free})
            if with_breakdown and fits and batch_size <= (backend.max_tracked or batch_size)
            else None,
        )

    def _breakdown(self, n: int, sizes: dict[Category, int]) -> Breakdown:
        rows = tuple(
            BreakdownRow(category=category, bytes=sizes[category]) for category in Category if category in sizes
        )
        return Breakdown(batch_size=n, rows=rows, total_bytes=self.device.capacity_bytes, peak_phase=Phase.BACKWARD)

    confirm = measure
