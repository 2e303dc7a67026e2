"""Tapes and their replay, against cases worked out by hand and by simulations of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.accounting.storage_tracker import Life
from vram_cli.allocator.allocation_trace import AllocationTrace, Storage, line_through, record
from vram_cli.allocator.replay import play
from vram_cli.allocator.settings import AllocatorSettings
from vram_cli.config import load_config
from vram_cli.fake_tensors import Simulation, subject_of
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Category, Phase
from vram_cli.units import MIB

SMALL, LARGE = 2 * MIB, 20 * MIB


def life(size: int, born: int, died: int | None = None, category: Category | None = None) -> Life:
    return Life(size, born, died, Phase.FORWARD, category)


def example(activation: int = 30 * MIB) -> AllocationTrace:
    """Parameters of 4 MiB; each step an activation, and a gradient that lives until the next step."""
    lives = [
        life(4 * MIB, 1, category=Category.PARAMETERS),
        life(activation, 2, 4, Category.ACTIVATIONS),
        life(4 * MIB, 3, 5, Category.GRADIENTS),
        life(activation, 6, 8, Category.ACTIVATIONS),
        life(4 * MIB, 7, None, Category.GRADIENTS),
    ]
    marks = [(0, Phase.BUILD), (1, None), (1, Phase.FORWARD), (2, Phase.BACKWARD)]
    return record(lives, [*marks, (4, None), (5, Phase.FORWARD), (6, Phase.BACKWARD), (8, None)])


def test_a_tape_is_in_order_and_cut_into_steps() -> None:
    tape = example()
    assert tape.setup == (Phase.BUILD, 0)
    assert tape.steps == (
        (Phase.FORWARD, 1, Phase.BACKWARD, 2, ~1),
        (~2, Phase.FORWARD, 3, Phase.BACKWARD, 4, ~3),
    )
    assert tape.carried == {2: 4}
    assert tape.repeats


def test_replay_by_hand() -> None:
    """4 MiB of parameters and 4 MiB of gradients share a segment of 20 MiB; 30 MiB have one of their own."""
    played = play(example(), steps=5)
    assert played.failure is None
    assert played.steps == 5
    assert {peak.phase: (peak.allocated_bytes, peak.reserved_bytes) for peak in played.peaks} == {
        Phase.BUILD: (4 * MIB, LARGE),
        Phase.FORWARD: (34 * MIB, LARGE + 30 * MIB),
        Phase.BACKWARD: (38 * MIB, LARGE + 30 * MIB),
    }
    assert played.resident_bytes == 4 * MIB
    assert played.at_peak == {Category.PARAMETERS: 4 * MIB, Category.ACTIVATIONS: 30 * MIB, Category.GRADIENTS: 4 * MIB}
    assert played.peak_phase is Phase.BACKWARD


def test_replay_fails_where_the_card_ends() -> None:
    played = play(example(), LARGE + 30 * MIB - 1)
    assert played.failure is not None
    assert played.failure.requested_bytes == 30 * MIB
    assert (played.failed_phase, played.steps) == (Phase.FORWARD, 0)
    assert played.failed_storage == Storage(30 * MIB, Category.ACTIVATIONS)
    assert play(example(), LARGE + 30 * MIB).failure is None


def test_a_step_that_frees_something_else_than_it_leaves_is_not_repeated() -> None:
    tape = record([life(MIB, 1, 3), life(2 * MIB, 2)], [(0, None), (0, Phase.FORWARD), (1, None), (3, None)])
    assert not tape.repeats
    assert play(tape, steps=5).steps == 2


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 5000))
def test_a_line_gives_back_every_size(first: int, step: int, other: int) -> None:
    def at(n: int) -> AllocationTrace:
        return example(activation=1000 + 12 * n)

    line = line_through(at(first), first, at(first + step), first + step)
    assert line is not None
    assert line.at(other) == at(other)


def test_there_is_no_line_where_the_sequences_differ() -> None:
    other = record([life(MIB, 1)], [(0, None), (0, Phase.FORWARD), (1, None)])
    assert line_through(example(), 1, other, 2) is None


RESNET18 = pytest.param("resnet18_cifar10", marks=pytest.mark.torchvision)


@pytest.mark.parametrize("name", ["mlp_mnist", "cnn_cifar10", RESNET18])
@pytest.mark.parametrize("precision", ["fp32", "amp-fp16"])
def test_a_line_through_two_sizes_is_exact_at_a_third(name: str, precision: str) -> None:
    subject, _ = subject_of(load_config(name, [f"precision={precision}"]))
    simulation = Simulation(subject, find_gpu("a100-80gb"))
    small, large, third = (simulation.tape(n) for n in (2, 37, 1000))
    line = line_through(small, 2, large, 37)
    assert line is not None
    assert line.at(1000) == third


def test_expandable_segments_reserve_no_more_than_pages() -> None:
    played = play(example(), settings=AllocatorSettings(expandable_segments=True))
    assert max(peak.reserved_bytes for peak in played.peaks) == 2 * LARGE
