"""Attribute the memory of a repeated step: to modules at its peak, and to categories over time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, groupby

from vram_cli.allocator.allocation_trace import AllocationTrace
from vram_cli.module_paths import parent_path
from vram_cli.records import Breakdown, Category, ModuleShare, Phase, Timeline, TimelinePoint

MAX_POINTS = 400
"""Points of a timeline: more than a terminal or a picture has columns."""


def with_modules_and_timeline(breakdown: Breakdown, trace: AllocationTrace) -> Breakdown:
    """Return the breakdown of a step with its modules and its timeline.

    Bytes of the breakdown that are not in the trace are workspaces of kernels, whose module is unknown.
    """
    step = timeline(trace)
    unseen = breakdown.tensor_bytes - step.peak.bytes
    return replace(breakdown, modules=module_shares(trace, unseen), timeline=step)


def timeline(trace: AllocationTrace, max_points: int = MAX_POINTS) -> Timeline:
    """Return the last step of a trace in at most `max_points` points (and one per phase, if that is more).

    If there are more events, the highest of several in a row stands for all of them, so that no peak is lost.
    """
    points = list(_points(trace))
    run = -(-len(points) // max(max_points - len(Phase), 1))
    highest: list[TimelinePoint] = []
    for _, group in groupby(points, key=lambda point: point.phase):
        phase = list(group)
        highest += (_highest(phase[i : i + run]) for i in range(0, len(phase), run))
    return Timeline(points=tuple(highest), events=len(points) - 1)


def module_shares(trace: AllocationTrace, unseen_bytes: int = 0) -> tuple[ModuleShare, ...]:
    """Return the bytes of each module at the peak of the last step, including the modules that it contains.

    The model as a whole gets `unseen_bytes`, which are workspaces outside the trace, and workspaces that outlive
    steps: those are cuBLAS workspaces, allocated in the first module that multiplies and used by all.
    """
    totals: defaultdict[str, Counter[Category]] = defaultdict(Counter)
    totals[""][Category.WORKSPACES if unseen_bytes > 0 else Category.TEMPORARIES] += unseen_bytes
    before_step = _alive(trace, 0)
    for i in _alive(trace, _highest(list(_points(trace))).event):
        storage = trace.storages[i]
        shared = i in before_step and storage.category in (Category.TEMPORARIES, Category.WORKSPACES)
        for path in _ancestors("" if shared else storage.module):
            totals[path][storage.category] += storage.bytes
    return tuple(_share(path, totals[path]) for path in _in_tree_order(totals))


def _points(trace: AllocationTrace) -> Iterator[TimelinePoint]:
    """Yield the last step event by event, beginning with the moment before it."""
    live: Counter[Category] = Counter()
    for i in _alive(trace, 0):
        live[trace.storages[i].category] += trace.storages[i].bytes
    step = trace.steps[-1]
    phase, event = next((action for action in step if isinstance(action, Phase)), Phase.FORWARD), 0
    yield _point(event, phase, live)
    for action in step:
        if not isinstance(action, int):
            phase = action if isinstance(action, Phase) else phase
            continue
        storage, event = trace.storages[max(action, ~action)], event + 1
        live[storage.category] += storage.bytes if action >= 0 else -storage.bytes
        yield _point(event, phase, live)


def _point(event: int, phase: Phase, live: Counter[Category]) -> TimelinePoint:
    return TimelinePoint(
        event=event, phase=phase, by_category={category: live[category] for category in Category if live[category]}
    )


def _highest(points: list[TimelinePoint]) -> TimelinePoint:
    return max(points, key=lambda point: point.bytes)


def _alive(trace: AllocationTrace, event: int) -> set[int]:
    """Return the storages that are alive after the first `event` events of the last step."""
    before = (action for action in chain(trace.setup, *trace.steps[:-1]) if isinstance(action, int))
    within = [action for action in trace.steps[-1] if isinstance(action, int)][:event]
    alive: set[int] = set()
    for action in chain(before, within):
        if action >= 0:
            alive.add(action)
        else:
            alive.remove(~action)
    return alive


def _ancestors(module: str) -> Iterator[str]:
    """Yield the modules that contain a module, outermost first, and itself: "", "layer1", "layer1.0"."""
    yield ""
    names = module.split(".") if module else []
    for depth in range(len(names)):
        yield ".".join(names[: depth + 1])


def _in_tree_order(totals: dict[str, Counter[Category]]) -> Iterator[str]:
    """Yield each path before those inside it, and siblings in descending order of size."""
    children: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(filter(None, totals), key=lambda path: (-totals[path].total(), path)):
        children[parent_path(path)].append(path)
    stack = [""]
    while stack:
        path = stack.pop()
        yield path
        stack += reversed(children[path])


def _share(path: str, totals: Counter[Category]) -> ModuleShare:
    return ModuleShare(
        path=path,
        bytes=totals.total(),
        by_category={category: totals[category] for category in Category if totals[category]},
    )
