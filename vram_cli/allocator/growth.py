"""Memory that grows from step to step: its rate, and the storages that stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from vram_cli.allocator.allocation_trace import Action, AllocationTrace
from vram_cli.records import Category, Growth, Phase

STEPS_TO_TELL = 6
"""Steps after which growth can be told from state that is made late, and from gradients that every other step frees."""

_MODULES_NAMED = 3
_LASTING = (Category.PARAMETERS, Category.OPTIMIZER_STATE, Category.BATCH_DATA)


def may_grow(held: Sequence[int]) -> bool:
    """Return whether more steps should be looked at.

    Args:
        held: bytes that tensors hold after each step. The first step makes gradients and optimizer state.
    """
    return len(held) > 1 and held[-1] > held[1 if len(held) > 2 else 0]


def growth_per_step(held: Sequence[int], *, is_cut_short: bool = False) -> int | None:
    """Return the bytes by which memory grows per step; None if it does not.

    Memory grows if it never falls after the second step, rises more than once, and still rises in the second half. If
    memory ran out before that could be seen (`is_cut_short`), a single rise tells.
    """
    later = held[1:] if len(held) > 2 else held
    rises = [i for i, (before, after) in enumerate(pairwise(later)) if after > before]
    falls = any(after < before for before, after in pairwise(later))
    if falls or len(rises) < (1 if is_cut_short else 2) or rises[-1] < (len(later) - 1) // 2:
        return None
    return max((later[-1] - later[0]) // (len(later) - 1), 1)


def growth_of(trace: AllocationTrace) -> Growth | None:
    """Return the growth over the steps of a trace; None if there is none."""
    rate = growth_per_step(_held_after_steps(trace))
    return None if rate is None else grown(rate, len(trace.steps), trace)


def grown(bytes_per_step: int, steps: int, trace: AllocationTrace, *, is_garbage: bool = False) -> Growth:
    """Return a growth with the phase and the modules of the storages that a trace's last step but one left alive."""
    kept = _kept(trace)
    phases: Counter[Phase] = Counter()
    modules: Counter[str] = Counter()
    for phase, i in kept:
        phases[phase] += trace.storages[i].bytes
        modules[trace.storages[i].module] += trace.storages[i].bytes
    return Growth(
        bytes_per_step=bytes_per_step,
        steps=steps,
        phase=phases.most_common(1)[0][0] if phases else None,
        modules=tuple(name for name, _ in modules.most_common(_MODULES_NAMED) if name),
        is_garbage=is_garbage,
    )


def _held_after_steps(trace: AllocationTrace) -> list[int]:
    held, totals = _change(trace, trace.setup), []
    for step in trace.steps:
        held += _change(trace, step)
        totals.append(held)
    return totals


def _change(trace: AllocationTrace, actions: Sequence[Action]) -> int:
    numbers = (action for action in actions if isinstance(action, int))
    return sum(trace.storages[i].bytes if i >= 0 else -trace.storages[~i].bytes for i in numbers)


def _kept(trace: AllocationTrace) -> list[tuple[Phase, int]]:
    """Return the storages that the last step but one allocated and no step freed, with the phase of each."""
    if len(trace.steps) < 2:
        return []
    freed = {~action for step in trace.steps[-2:] for action in step if isinstance(action, int) and action < 0}
    phase, kept = Phase.FORWARD, []
    for action in trace.steps[-2]:
        if isinstance(action, Phase):
            phase = action
        elif isinstance(action, int) and action >= 0 and action not in freed:
            kept.append((phase, action))
    return [(phase, i) for phase, i in kept if trace.storages[i].category not in _LASTING]
