"""`vram breakdown` of a batch that does not fit: what it would take, predicted with more memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from vram_cli.commands.breakdown import breakdown
from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError, DoesNotFitError
from vram_cli.records import (
    OF_ONE_RANK,
    Breakdown,
    BreakdownResult,
    BreakdownRow,
    Category,
    Device,
    Measurement,
    Outcome,
    Phase,
    RunInfo,
)
from vram_cli.report.answers.breakdown import breakdown_document
from vram_cli.units import GIB

PER_SAMPLE = GIB // 4
FIXED = {Category.PARAMETERS: GIB, Category.OPTIMIZER_STATE: 2 * GIB, Category.CONTEXT: GIB // 2}


class Memory:
    """A probe on a device where activations take a quarter of a GiB per sample."""

    def __init__(self, config: Config, device: Device) -> None:
        self.info = RunInfo(
            config_name="c.yaml", config=config.model_dump(mode="json"), device=device, data=None, versions={}
        )
        self._capacity = device.capacity_bytes

    def measure(self, batch_size: int, detail: Any = None) -> Measurement:
        sizes = {**FIXED, Category.ACTIVATIONS: batch_size * PER_SAMPLE}
        if sum(sizes.values()) > self._capacity:
            return Measurement(
                batch_size=batch_size, outcome=Outcome.OUT_OF_MEMORY, phase=Phase.FORWARD, message="no room. GPU 0 has"
            )
        sizes[Category.FREE] = self._capacity - sum(sizes.values())
        rows = tuple(BreakdownRow(category=category, bytes=sizes.get(category, 0)) for category in OF_ONE_RANK)
        whole = Breakdown(batch_size=batch_size, rows=rows, total_bytes=self._capacity, peak_phase=Phase.BACKWARD)
        return Measurement(batch_size=batch_size, outcome=Outcome.FITS, steps=3, breakdown=whole)


def result_of(batch_size: int, kind: str, name: str = "Tesla T4", refuses: bool = False) -> BreakdownResult:
    """Return the result of a batch that does not fit on a device of 15 GiB."""
    opened: list[Config] = []

    @contextmanager
    def open_probe(config: Config, **_: Any) -> Iterator[Memory]:
        opened.append(config)
        if refuses and len(opened) > 1:
            raise ConfigError("it cannot be predicted")
        capacity = config.device.memory_limit or 15 * GIB
        simulated = kind == "simulated" or config.device.gpu is not None
        yield Memory(
            config,
            Device(
                kind="simulated" if simulated else "real",
                name=name,
                type="cpu" if name.startswith("CPU") else "cuda:0",
                capacity_bytes=capacity,
                memory_limit_bytes=config.device.memory_limit,
            ),
        )

    config = load_config("mlp_mnist.yaml", ["device.gpu=t4"] if kind == "simulated" else [])
    with pytest.raises(DoesNotFitError) as caught:
        breakdown(config, batch_size=batch_size, open_probe=open_probe)  # type: ignore[arg-type]
    assert "does not run on" in caught.value.message
    assert "GPU 0" not in caught.value.message
    assert isinstance(caught.value.result, BreakdownResult)
    return caught.value.result


@pytest.mark.parametrize("kind", ["simulated", "real"])
def test_a_batch_that_does_not_fit_has_the_rows_that_it_would_need(kind: str) -> None:
    needed = result_of(100, kind).needed
    assert needed is not None
    assert needed.total_bytes == sum(FIXED.values()) + 100 * PER_SAMPLE
    assert needed.bytes_of(Category.FREE) == 0
    assert needed.bytes_of(Category.ACTIVATIONS) == 25 * GIB


def test_the_first_line_says_how_much_is_missing_and_which_row_goes_beyond() -> None:
    document = breakdown_document(result_of(100, "simulated"))
    assert document.heading == (
        "Does not fit:",
        (
            "batch size 100 would take 28.5 GiB, 13.5 GiB more than Tesla T4 has (15.0 GiB); "
            "activations go beyond it, in backward"
        ),
    )


def test_what_cannot_be_predicted_is_left_out() -> None:
    assert result_of(100, "real", "CPU (two cores)").needed is None
    assert result_of(100, "simulated", refuses=True).needed is None
