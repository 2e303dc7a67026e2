"""Modules and timeline of a step, against traces by hand and the rows of the breakdown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.accounting.attribution import module_shares, timeline, with_modules_and_timeline
from vram_cli.allocator.allocation_trace import Action, AllocationTrace, Storage
from vram_cli.config import load_config
from vram_cli.fake_tensors import FakeTensorProbe
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import OF_ONE_RANK, Breakdown, BreakdownRow, Category, Phase

STORAGES = (
    Storage(100, Category.PARAMETERS, module="block.first"),
    Storage(10, Category.BATCH_DATA),
    Storage(7, Category.TEMPORARIES, "aten.mm", "block.first"),
    Storage(50, Category.ACTIVATIONS, "aten.relu", "block.second"),
    Storage(30, Category.ACTIVATIONS, "aten.add", "block"),
    Storage(60, Category.TEMPORARIES, "aten.mul", "block.second"),
    Storage(100, Category.GRADIENTS, "aten.mm", "block.first"),
)
STEP: tuple[Action, ...] = (Phase.FORWARD, 3, 4, Phase.BACKWARD, 5, ~4, ~3, 6, ~5, Phase.OPTIMIZER, ~6)
TRACE = AllocationTrace(STORAGES, (Phase.BUILD, 0, Phase.BATCH, 1), ((2,), STEP), {})


def test_timeline_by_hand() -> None:
    step = timeline(TRACE)
    before = {Category.PARAMETERS: 100, Category.BATCH_DATA: 10, Category.TEMPORARIES: 7}
    activations = before | {Category.ACTIVATIONS: 80}
    assert [(point.event, point.phase, point.bytes) for point in step.points] == [
        (0, Phase.FORWARD, 117),
        (1, Phase.FORWARD, 167),
        (2, Phase.FORWARD, 197),
        (3, Phase.BACKWARD, 257),
        (4, Phase.BACKWARD, 227),
        (5, Phase.BACKWARD, 177),
        (6, Phase.BACKWARD, 277),
        (7, Phase.BACKWARD, 217),
        (8, Phase.OPTIMIZER, 117),
    ]
    assert [step.points[i].by_category for i in (0, 2)] == [before, activations]
    assert (step.events, step.peak.event) == (8, 6)


def test_module_shares_by_hand() -> None:
    """Alive at the peak: parameters, batch, the old workspace, a temporary and a gradient; 277 bytes and 3 unseen."""
    shares = [(share.path, share.bytes) for share in module_shares(TRACE, unseen_bytes=3)]
    assert shares == [("", 280), ("block", 260), ("block.first", 200), ("block.second", 60)]
    assert module_shares(TRACE)[2].by_category == {Category.PARAMETERS: 100, Category.GRADIENTS: 100}


def test_persistent_temporaries_belong_to_the_whole_model() -> None:
    whole, block = module_shares(TRACE, unseen_bytes=3)[:2]
    assert whole.by_category[Category.TEMPORARIES] == 7 + 60
    assert whole.by_category[Category.WORKSPACES] == 3
    assert block.by_category[Category.TEMPORARIES] == 60


def test_breakdown_with_modules_adds_up() -> None:
    sizes = {Category.PARAMETERS: 100, Category.BATCH_DATA: 10, Category.GRADIENTS: 100, Category.TEMPORARIES: 70}
    rows = tuple(BreakdownRow(category=category, bytes=sizes.get(category, 5)) for category in OF_ONE_RANK)
    plain = Breakdown(batch_size=1, rows=rows, total_bytes=sum(r.bytes for r in rows), peak_phase=Phase.BACKWARD)
    detailed = with_modules_and_timeline(plain, TRACE)
    # The trace has 277 bytes; 15 of optimizer state, activations and workspaces and 3 of the temporaries are unseen.
    assert detailed.modules[0].bytes == detailed.tensor_bytes == 295
    assert detailed.timeline == timeline(TRACE)
    assert detailed.rows == plain.rows


def test_modules_that_do_not_add_up_raise() -> None:
    rows = tuple(BreakdownRow(category=category, bytes=1) for category in OF_ONE_RANK)
    with pytest.raises(ValueError, match="modules hold 277 bytes"):
        Breakdown(batch_size=1, rows=rows, total_bytes=10, peak_phase=Phase.BACKWARD, modules=module_shares(TRACE))


@st.composite
def steps(draw: st.DrawFn) -> AllocationTrace:
    """A step of three phases that allocates all storages in order and frees each of them later."""
    sizes = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
    actions: list[Action] = list(range(len(sizes)))
    for i in range(len(sizes)):
        actions.insert(draw(st.integers(actions.index(i) + 1, len(actions))), ~i)
    cuts = sorted(draw(st.integers(0, len(actions))) for _ in range(2))
    actions[cuts[1] : cuts[1]] = [Phase.OPTIMIZER]
    actions[cuts[0] : cuts[0]] = [Phase.BACKWARD]
    modules = st.sampled_from(["", "a", "a.b", "a.b.c", "d", "d.e"])
    categories = st.sampled_from([Category.ACTIVATIONS, Category.GRADIENTS, Category.TEMPORARIES])
    storages = tuple(Storage(size, draw(categories), "", draw(modules)) for size in sizes)
    return AllocationTrace(storages, (), ((Phase.FORWARD, *actions),), {})


@given(steps(), st.integers(8, 60))
def test_thinned_timeline_keeps_peak_order_and_phases(trace: AllocationTrace, max_points: int) -> None:
    whole, thin = timeline(trace, 1000), timeline(trace, max_points)
    assert len(thin.points) <= max_points
    assert all(whole.points[point.event] == point for point in thin.points)
    assert [point.event for point in thin.points] == sorted({point.event for point in thin.points})
    assert thin.peak == whole.peak
    assert {point.phase for point in thin.points} == {point.phase for point in whole.points}
    assert len(whole.points) == whole.events + 1


@given(steps())
def test_modules_include_their_children(trace: AllocationTrace) -> None:
    shares = {share.path: share for share in module_shares(trace)}
    numbers = [action for action in trace.steps[0] if not isinstance(action, Phase)][: timeline(trace).peak.event]
    alive = [trace.storages[i] for i in numbers if i >= 0 and ~i not in numbers]
    assert shares[""].bytes == timeline(trace).peak.bytes
    for path, share in shares.items():
        inside = [other.bytes for other in shares.values() if other.path and other.path.rpartition(".")[0] == path]
        itself = sum(storage.bytes for storage in alive if storage.module == path)
        assert share.bytes == sum(inside) + itself
        assert not path or list(shares).index(path) > list(shares).index(path.rpartition(".")[0])


@pytest.mark.parametrize("name", ["mlp_mnist", "resnet18_cifar10"])
def test_predicted_breakdown_adds_up_to_the_byte(name: str) -> None:
    probe = FakeTensorProbe(load_config(name), find_gpu("t4"))
    breakdown = probe.measure(64, detail=True).breakdown
    assert breakdown is not None
    assert breakdown.timeline is not None
    assert breakdown.timeline.peak.bytes == breakdown.modules[0].bytes == breakdown.tensor_bytes
    rows = {row.category: row.bytes for row in breakdown.rows}
    assert all(rows[category] == size for category, size in breakdown.timeline.peak.by_category.items())
    assert breakdown.timeline.peak.phase is breakdown.peak_phase
    top_level = [share for share in breakdown.modules if "." not in share.path]
    state = sum(share.by_category.get(Category.OPTIMIZER_STATE, 0) for share in top_level)
    # Once in the whole model and once in its parts: state belongs to the module of its parameter.
    assert state == 2 * rows[Category.OPTIMIZER_STATE]
