"""Who holds the memory of a settled step, and when: by module at the moment of highest use, by category over time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, groupby

from vram_cli.allocator.allocation_trace import AllocationTrace
from vram_cli.records import Breakdown, Category, ModuleShare, Phase, Timeline, TimelinePoint

MOST_POINTS = 400
"""More than a terminal or a picture has columns."""


def explained(breakdown: Breakdown, tape: AllocationTrace) -> Breakdown:
    """Return the breakdown with the modules and the timeline of the step that it is of.

    What it has above the tape are temporaries that kernels took for themselves; nobody knows for which module.
    """
    shown = timeline(tape)
    unseen = breakdown.tensor_bytes - shown.peak.bytes
    return replace(breakdown, modules=module_shares(tape, unseen), timeline=shown)


def timeline(tape: AllocationTrace, most: int = MOST_POINTS) -> Timeline:
    """Return the last step of a tape in at most so many points (and one for each phase, if `most` is less).

    Where there are more events, each run of them is stood for by its highest moment, so that no peak is lost.
    """
    points = list(_points(tape))
    run = -(-len(points) // max(most - len(Phase), 1))
    kept: list[TimelinePoint] = []
    for _, group in groupby(points, key=lambda point: point.phase):
        phase = list(group)
        kept += (_highest(phase[i : i + run]) for i in range(0, len(phase), run))
    return Timeline(points=tuple(kept), events=len(points) - 1)


def module_shares(tape: AllocationTrace, unseen_bytes: int = 0) -> tuple[ModuleShare, ...]:
    """Return what modules hold at the highest moment of the last step, each with those that it contains.

    Two things are put down to the model as a whole: `unseen_bytes`, which are temporaries on no tape, and temporaries
    that outlive steps. These are workspaces of cuBLAS, made in whichever module first multiplies, and used by all.
    """
    held: defaultdict[str, Counter[Category]] = defaultdict(Counter)
    held[""][Category.TEMPORARIES] += unseen_bytes
    standing = _alive(tape, 0)
    for i in _alive(tape, _highest(list(_points(tape))).event):
        storage = tape.storages[i]
        shared = i in standing and storage.category is Category.TEMPORARIES
        for path in _path("" if shared else storage.module):
            held[path][storage.category] += storage.bytes
    return tuple(_share(path, held[path]) for path in _tree(held))


def _points(tape: AllocationTrace) -> Iterator[TimelinePoint]:
    """Return the last step event by event, the moment before it first."""
    live: Counter[Category] = Counter()
    for i in _alive(tape, 0):
        live[tape.storages[i].category] += tape.storages[i].bytes
    step = tape.steps[-1]
    phase, event = next((action for action in step if isinstance(action, Phase)), Phase.FORWARD), 0
    yield _point(event, phase, live)
    for action in step:
        if not isinstance(action, int):
            phase = action if isinstance(action, Phase) else phase
            continue
        storage, event = tape.storages[max(action, ~action)], event + 1
        live[storage.category] += storage.bytes if action >= 0 else -storage.bytes
        yield _point(event, phase, live)


def _point(event: int, phase: Phase, live: Counter[Category]) -> TimelinePoint:
    return TimelinePoint(
        event=event, phase=phase, by_category={category: live[category] for category in Category if live[category]}
    )


def _highest(points: list[TimelinePoint]) -> TimelinePoint:
    return max(points, key=lambda point: point.bytes)


def _alive(tape: AllocationTrace, event: int) -> set[int]:
    """Return the storages that live after so many events of the last step."""
    before = (action for action in chain(tape.setup, *tape.steps[:-1]) if isinstance(action, int))
    within = [action for action in tape.steps[-1] if isinstance(action, int)][:event]
    alive: set[int] = set()
    for action in chain(before, within):
        if action >= 0:
            alive.add(action)
        else:
            alive.remove(~action)
    return alive


def _path(module: str) -> Iterator[str]:
    """Return the module's name and those of all that contain it: "", "layer1", "layer1.0"."""
    yield ""
    names = module.split(".") if module else []
    for depth in range(len(names)):
        yield ".".join(names[: depth + 1])


def _tree(held: dict[str, Counter[Category]]) -> Iterator[str]:
    """Return paths, each before those in it, and the largest first of those in the same one."""
    inside: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(filter(None, held), key=lambda path: (-held[path].total(), path)):
        inside[path.rpartition(".")[0]].append(path)
    waiting = [""]
    while waiting:
        path = waiting.pop()
        yield path
        waiting += reversed(inside[path])


def _share(path: str, held: Counter[Category]) -> ModuleShare:
    return ModuleShare(
        path=path,
        bytes=held.total(),
        by_category={category: held[category] for category in Category if held[category]},
    )
