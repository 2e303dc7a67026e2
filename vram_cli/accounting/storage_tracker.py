"""A ledger of tensor storages: which lives when, and as what, seen at PyTorch's dispatcher on a real training step.

Allocations inside a kernel (workspaces of cuBLAS, cuDNN, oneDNN) never pass the dispatcher: the ledger does not see
them, and whoever knows the device's own counters adds the difference to the temporaries.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.allocator.allocation_trace import Mark
from vram_cli.records import Category, Phase


@dataclass(slots=True)
class Life:
    """One storage from birth to death, on the ledger's clock of births and deaths."""

    bytes: int
    born: int
    died: int | None
    phase: Phase
    category: Category | None
    op: str = ""
    """The operation that made it, where the ledger was told."""
    module: str = ""
    """The module in which that ran, where the ledger was told."""


class StorageTracker(TorchDispatchMode):
    """Watches every storage on one device while it is entered as a context.

    Storages that exist before are unknown until `adopt` names them. `enter` must be told of each phase: what is made in
    the forward pass and still lives when the backward pass begins is an activation.

    `live_bytes` is what is alive, `phase_peak_bytes` the most since `enter`, `peak_bytes` the most since `reset_peak`,
    in phase `peak_phase`. `lives` are all storages in order of birth, `marks` the clock at which each phase began;
    `failed_at_bytes` is what was alive as the last operation failed, if one did.
    `op` and `module` are noted with every birth; the module only where `modules` has been set.

    Args:
        device: storages on other devices are not looked at.
        on_birth: called after every operation that made a storage; for sampling a process-wide counter.
    """

    def __init__(self, device: torch.device, on_birth: Callable[[], None] = lambda: None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.peak_bytes = 0
        self.peak_phase = Phase.BUILD
        self.phase_peak_bytes = 0
        self.op = ""
        self.modules: ModuleTracker | None = None
        self.lives: list[Life] = []
        self.marks: list[tuple[int, Phase | Mark | None]] = []
        self.failed_at_bytes: int | None = None
        self._device_type = device.type
        self._on_birth = on_birth
        self._phase = Phase.BUILD
        self._clock = 0
        self._peak_clock = 0
        self._alive: dict[int, tuple[weakref.ref[Any], Life]] = {}
        self._stance: Any = None
        self._depth = 0

    def __enter__(self) -> StorageTracker:
        """Start watching; functions that libraries compile run eagerly, since compiled code cannot be watched."""
        if self._depth == 0:
            self._stance = torch.compiler.set_stance("force_eager")
        self._depth += 1
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        """Stop watching."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._depth -= 1
        if self._depth == 0:
            self._stance.__exit__(*error)

    @property
    def module(self) -> str:
        """The name of the module that is running."""
        return self.modules.running if self.modules else ""

    def adopt(self, tensors: Iterable[torch.Tensor], category: Category, owner: str | None = None) -> None:
        """Name the category of tensors, and the module whose they are, whether the ledger knows their storages or not.

        Without an owner they stay with the module that made them.
        """
        for tensor in chain.from_iterable(map(_plain_tensors, tensors)):
            life = self._see(tensor)
            if life is not None:
                life.category = category
                life.module = life.module if owner is None else owner

    def enter(self, phase: Phase) -> None:
        """Begin a phase; what the forward pass leaves alive becomes an activation as the backward pass begins."""
        if phase is Phase.BACKWARD:
            for _, life in self._alive.values():
                if life.category is None and life.phase is Phase.FORWARD:
                    life.category = Category.ACTIVATIONS
        if self.modules:
            self.modules.begin_phase()
        self._phase, self.phase_peak_bytes = phase, self.live_bytes
        self.marks.append((self._clock, phase))

    def mark_step(self) -> None:
        """Note that a step begins, or the last one ends."""
        self.marks.append((self._clock, None))

    def mark(self, mark: Mark) -> None:
        """Note what the allocator is told."""
        self.marks.append((self._clock, mark))

    def reset_peak(self) -> None:
        """Forget the highest use so far: from here on, it is what is alive now."""
        self.peak_bytes, self.peak_phase, self._peak_clock = self.live_bytes, self._phase, self._clock

    def bytes_at_peak(self) -> Counter[Category]:
        """Return the bytes of each category at the moment of highest use; they add up to `peak_bytes`.

        To be asked when the step is over: only then is it known what became of each storage.
        """
        totals: Counter[Category] = Counter()
        for life in self.lives:
            if life.born <= self._peak_clock and (life.died is None or life.died > self._peak_clock):
                totals[life.category or Category.TEMPORARIES] += life.bytes
        return totals

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and note the storages that it made."""
        if self.modules:
            self.modules.enter_running_node()
        # In inference mode, composite operations arrive whole: their parts have to be seen as well.
        if torch.is_inference_mode_enabled():
            with self:
                result = self.decompose(func, args, kwargs or {})
            if result is not NotImplemented:
                return result
        try:
            result = func(*args, **(kwargs or {}))
        except Exception:
            self.failed_at_bytes = self.live_bytes  # by the time that others see the error, backward has let go of much
            raise
        clock = self._clock
        for leaf in (result,) if isinstance(result, torch.Tensor) else tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._see(leaf)
        if self._clock != clock:
            self._on_birth()
        return result

    def decompose(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run an operation by its parts; return NotImplemented if it has none."""
        return func.decompose(*args, **kwargs) if isinstance(func, torch._ops.OpOverload) else NotImplemented

    def _see(self, tensor: torch.Tensor) -> Life | None:
        """Return the life of a tensor's storage, new or known; None where it lies elsewhere or has no storage."""
        if tensor.device.type != self._device_type or tensor.layout is not torch.strided:
            return None
        if is_traceable_wrapper_subclass(tensor):  # the tensors inside were seen when they were made
            return None
        storage = tensor.untyped_storage()
        known = self._alive.get(id(storage))
        if known is not None:
            return known[1]
        life = self.begin_life(storage.nbytes())
        key = id(storage)
        # PyTorch keeps a storage's Python object for as long as the storage lives, so the callback marks its death.
        self._alive[key] = (weakref.ref(storage, lambda _: self.end_life(self._alive.pop(key)[1])), life)
        return life

    def begin_life(self, size: int) -> Life:
        """Count bytes as alive, those of no tensor (a kernel's workspace) too, until `end_life`."""
        self._clock += 1
        life = Life(size, self._clock, None, self._phase, None, self.op, self.module)
        self.lives.append(life)
        self.live_bytes += size
        self.phase_peak_bytes = max(self.phase_peak_bytes, self.live_bytes)
        if self.live_bytes > self.peak_bytes:
            self.peak_bytes, self.peak_phase, self._peak_clock = self.live_bytes, self._phase, self._clock
        return life

    def end_life(self, life: Life) -> None:
        """Count them no longer."""
        self._clock += 1
        life.died = self._clock
        self.live_bytes -= life.bytes


def _plain_tensors(tensor: torch.Tensor) -> Iterable[torch.Tensor]:
    """Return a tensor, or the tensors inside a wrapper subclass, such as a quantized optimizer state."""
    if not is_traceable_wrapper_subclass(tensor):
        return (tensor,)
    names, _ = tensor.__tensor_flatten__()
    return chain.from_iterable(_plain_tensors(getattr(tensor, name)) for name in names)
