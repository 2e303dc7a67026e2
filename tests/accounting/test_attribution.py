"""Who holds the memory of a step, and when: against traces worked out by hand, and against the breakdown's own rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.accounting.attribution import module_shares, timeline, with_modules_and_timeline
from vram_cli.allocator.allocation_trace import Action, AllocationTrace, Storage
from vram_cli.config import load_config
from vram_cli.fake_tensors import FakeTensorProbe
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Breakdown, BreakdownRow, Category, Phase

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


def test_a_timeline_by_hand() -> None:
    shown = timeline(TRACE)
    before = {Category.PARAMETERS: 100, Category.BATCH_DATA: 10, Category.TEMPORARIES: 7}
    activations = before | {Category.ACTIVATIONS: 80}
    assert [(point.event, point.phase, point.bytes) for point in shown.points] == [
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
    assert [shown.points[i].by_category for i in (0, 2)] == [before, activations]
    assert (shown.events, shown.peak.event) == (8, 6)


def test_module_shares_by_hand() -> None:
    """At the peak live parameters, batch, the old workspace, a temporary and a gradient: 277 bytes and 3 unseen."""
    shares = [(share.path, share.bytes) for share in module_shares(TRACE, unseen_bytes=3)]
    assert shares == [("", 280), ("block", 260), ("block.first", 200), ("block.second", 60)]
    assert module_shares(TRACE)[2].by_category == {Category.PARAMETERS: 100, Category.GRADIENTS: 100}


def test_temporaries_that_outlive_steps_belong_to_no_module() -> None:
    whole, block = module_shares(TRACE, unseen_bytes=3)[:2]
    assert whole.by_category[Category.TEMPORARIES] == 7 + 3 + 60
    assert block.by_category[Category.TEMPORARIES] == 60


def test_a_breakdown_gains_modules_that_add_up_to_it() -> None:
    sizes = {Category.PARAMETERS: 100, Category.BATCH_DATA: 10, Category.GRADIENTS: 100, Category.TEMPORARIES: 70}
    rows = tuple(BreakdownRow(category=category, bytes=sizes.get(category, 5)) for category in Category)
    plain = Breakdown(batch_size=1, rows=rows, total_bytes=sum(r.bytes for r in rows), peak_phase=Phase.BACKWARD)
    made = with_modules_and_timeline(plain, TRACE)
    # 277 bytes are on the trace; 5 + 5 more (optimizer's state, activations), and 3 of the temporaries, are not.
    assert made.modules[0].bytes == made.tensor_bytes == 290
    assert made.timeline == timeline(TRACE)
    assert made.rows == plain.rows


def test_modules_that_do_not_add_up_are_refused() -> None:
    rows = tuple(BreakdownRow(category=category, bytes=1) for category in Category)
    with pytest.raises(ValueError, match="modules hold 277 bytes"):
        Breakdown(batch_size=1, rows=rows, total_bytes=9, peak_phase=Phase.BACKWARD, modules=module_shares(TRACE))


@st.composite
def steps(draw: st.DrawFn) -> AllocationTrace:
    """A step that allocates all storages in order, frees each at some time after, and has three phases."""
    sizes = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
    actions: list[Action] = list(range(len(sizes)))
    for i in range(len(sizes)):
        actions.insert(draw(st.integers(actions.index(i) + 1, len(actions))), ~i)
    cuts = sorted(draw(st.integers(0, len(actions))) for _ in range(2))
    actions[cuts[1] : cuts[1]] = [Phase.OPTIMIZER]
    actions[cuts[0] : cuts[0]] = [Phase.BACKWARD]
    modules = st.sampled_from(["", "a", "a.b", "a.b.c", "d", "d.e"])
    kinds = st.sampled_from([Category.ACTIVATIONS, Category.GRADIENTS, Category.TEMPORARIES])
    storages = tuple(Storage(size, draw(kinds), "", draw(modules)) for size in sizes)
    return AllocationTrace(storages, (), ((Phase.FORWARD, *actions),), {})


@given(steps(), st.integers(8, 60))
def test_thinning_keeps_the_peak_the_order_and_every_phase(trace: AllocationTrace, most: int) -> None:
    whole, thin = timeline(trace, 1000), timeline(trace, most)
    assert len(thin.points) <= most
    assert all(whole.points[point.event] == point for point in thin.points)
    assert [point.event for point in thin.points] == sorted({point.event for point in thin.points})
    assert thin.peak == whole.peak
    assert {point.phase for point in thin.points} == {point.phase for point in whole.points}
    assert len(whole.points) == whole.events + 1


@given(steps())
def test_parents_hold_what_they_and_their_children_hold(trace: AllocationTrace) -> None:
    shares = {share.path: share for share in module_shares(trace)}
    numbers = [action for action in trace.steps[0] if not isinstance(action, Phase)][: timeline(trace).peak.event]
    alive = [trace.storages[i] for i in numbers if i >= 0 and ~i not in numbers]
    assert shares[""].bytes == timeline(trace).peak.bytes
    for path, share in shares.items():
        inside = [other.bytes for other in shares.values() if other.path and other.path.rpartition(".")[0] == path]
        own = sum(storage.bytes for storage in alive if storage.module == path)
        assert share.bytes == sum(inside) + own
        assert not path or list(shares).index(path) > list(shares).index(path.rpartition(".")[0])


@pytest.mark.parametrize("name", ["mlp_mnist", "resnet18_cifar10"])
def test_a_predicted_breakdown_is_explained_to_the_byte(name: str) -> None:
    probe = FakeTensorProbe(load_config(name), find_gpu("t4"))
    made = probe.measure_afresh(64, detail=True).breakdown
    assert made is not None
    assert made.timeline is not None
    assert made.timeline.peak.bytes == made.modules[0].bytes == made.tensor_bytes
    rows = {row.category: row.bytes for row in made.rows}
    assert all(rows[category] == size for category, size in made.timeline.peak.by_category.items())
    assert made.timeline.peak.phase is made.peak_phase
    state = sum(share.by_category.get(Category.OPTIMIZER_STATE, 0) for share in made.modules if "." not in share.path)
    assert state == 2 * rows[Category.OPTIMIZER_STATE]  # the whole and its parts: each state has its parameter's module
