"""The prediction beside real trials: it names the size that a prediction for the same GPU finds, or nothing."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.probe.conftest import small_config
from vram_cli.commands.initial_guess import InitialGuess
from vram_cli.config import load_config
from vram_cli.errors import ProbeError
from vram_cli.probe import WorkerProbe, open_probe
from vram_cli.records import Device
from vram_cli.units import GIB, MIB

RTX_3090 = Device(kind="real", name="NVIDIA GeForce RTX 3090", type="cuda:0", capacity_bytes=24 * GIB)


def with_room(allocator_bytes: int) -> Device:
    return replace(RTX_3090, outside_bytes=RTX_3090.capacity_bytes - allocator_bytes)


def test_it_expects_what_a_prediction_for_the_card_and_its_free_memory_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "vram_cli.commands.initial_guess.PREDICTION_TIMEOUT_S", 300.0
    )  # what a machine under load may take
    config = load_config("mlp_mnist.yaml")
    with InitialGuess(config, with_room(300 * MIB), None, open_probe) as guess:
        small = guess.batch_size()
    with InitialGuess(config, with_room(600 * MIB), None, open_probe) as guess:
        large = guess.batch_size()
    assert small is not None
    assert large is not None
    # 784 floats a sample are most of it, and the rest of the room is the same for both.
    assert 300 * MIB / (784 * 4 * 1.6) < large - small < 300 * MIB / (784 * 4)


@pytest.mark.parametrize(
    "device",
    [
        replace(RTX_3090, type="cpu", name="CPU"),
        replace(RTX_3090, kind="simulated"),
        replace(RTX_3090, name="An unknown GPU"),
    ],
)
def test_it_expects_nothing_where_it_cannot_know(device: Device) -> None:
    with InitialGuess(load_config("mlp_mnist.yaml"), device, None, open_probe) as guess:
        assert guess.batch_size() is None


def test_leaving_it_ends_the_prediction() -> None:
    began = time.monotonic()
    with InitialGuess(load_config("mlp_mnist.yaml"), with_room(GIB), None, open_probe) as guess:
        pass
    assert guess.batch_size() is None
    assert time.monotonic() - began < 60


def test_a_stopped_probe_starts_nothing_more() -> None:
    probe = WorkerProbe(small_config("device={gpu: t4}"))
    probe.__exit__(None, None, None)
    with pytest.raises(ProbeError, match="closed"), probe:
        pass
