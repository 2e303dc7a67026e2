"""Track tensor storages: their lifetimes and categories, as PyTorch's dispatcher sees them in a real training step.

Allocations inside a kernel (workspaces of cuBLAS, cuDNN, oneDNN) never pass the dispatcher, so the tracker does not see
them. A caller that reads the device's own counters reports the difference as workspaces.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vram_cli.accounting.collectives import buffers_of, following_resizes, is_collective
from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.allocator.allocation_trace import AllocatorCall
from vram_cli.records import Category, Phase

_DTENSOR = "torch.distributed.tensor"


@dataclass(slots=True)
class StorageRecord:
    """The lifetime of one storage, on the tracker's clock, which counts allocations and frees."""

    bytes: int
    allocated_at: int
    freed_at: int | None
    phase: Phase
    category: Category | None
    op: str = ""
    """The operation that allocated it, if known."""
    module: str = ""
    """The module in which that operation ran, if known."""
    line: str = ""
    """The line of the user's code that called it, if known."""


class StorageTracker(TorchDispatchMode):
    """Tracks every storage on one device while it is active as a context manager.

    Storages that exist before are unknown until `label` names them. Call `enter_phase` as each phase begins: a storage
    that is allocated in the forward pass and still alive as the backward pass begins is an activation.

    Args:
        device: the device to track; storages on other devices are ignored.
        on_alloc: called after each operation that allocates a storage; for sampling a process-wide counter.
        after_steps: whether the same step has run untracked before.

    Attributes:
        live_bytes: bytes alive now.
        phase_peak_bytes: the highest value since `enter_phase`.
        peak_bytes: the highest value since `reset_peak`, in phase `peak_phase`.
        records: all storages, in order of allocation.
        markers: the clock at which each phase or step began, or the allocator was called.
        failed_at_bytes: bytes alive as the last operation failed, if one did.
        flops: floating-point operations of matrix products, convolutions and attention since it was last set to 0,
            counted from shapes.
        op: the operation that is running.
        modules: if set, each record names the module that was running.
        line: if set, each record names the line that this returns.
        on_failure: if set, it is called with the exception of an operation before any caller sees it.
    """

    def __init__(
        self, device: torch.device, on_alloc: Callable[[], None] = lambda: None, *, after_steps: bool = False
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.peak_bytes = 0
        self.peak_phase = Phase.BUILD
        self.phase_peak_bytes = 0
        self.op = ""
        self.flops = 0
        self.modules: ModuleTracker | None = None
        self.line: Callable[[], str] | None = None
        self.on_failure: Callable[[Exception], None] | None = None
        self.records: list[StorageRecord] = []
        self.markers: list[tuple[int, Phase | AllocatorCall | None]] = []
        self.failed_at_bytes: int | None = None
        self._device_type, self._after_steps = device.type, after_steps
        self._on_alloc = on_alloc
        self._phase = Phase.BUILD
        self._clock = 0
        self._peak_clock = 0
        self._alive: dict[int, tuple[weakref.ref[Any], StorageRecord]] = {}
        self._stance: Any = None
        self._resizes: Any = None
        self._depth = 0

    def __enter__(self) -> StorageTracker:
        """Start tracking; functions that libraries compile run eagerly, since compiled code cannot be tracked."""
        if self._depth == 0:
            # Importing torch._dynamo takes a second. Where steps ran before without it, nothing is compiled.
            is_needed = not self._after_steps or "torch._dynamo.eval_frame" in sys.modules
            self._stance = torch.compiler.set_stance("force_eager") if is_needed else nullcontext()
            self._resizes = following_resizes(self._on_resize)
            self._resizes.__enter__()
        self._depth += 1
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        """Stop tracking."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._depth -= 1
        if self._depth == 0:
            self._resizes.__exit__(*error)
            self._stance.__exit__(*error)

    @property
    def module(self) -> str:
        """The name of the module that is running."""
        return self.modules.current if self.modules else ""

    def label(self, tensors: Iterable[torch.Tensor], category: Category, module: str | None = None) -> None:
        """Set the category of tensors and the module that owns them; storages that are still unknown are added.

        If `module` is None, tensors keep the module that allocated them.
        """
        for tensor in chain.from_iterable(map(_plain_tensors, tensors)):
            record = self._record_of(tensor)
            if record is not None:
                record.category = category
                record.module = record.module if module is None else module

    def category_of(self, tensor: torch.Tensor) -> Category | None:
        """Return the category of a tensor's storage; None if it has none yet, or is not known."""
        entry = self._alive.get(id(tensor.untyped_storage())) if tensor.layout is torch.strided else None
        return entry[1].category if entry else None

    def label_unknown(self, phase: Phase, category: Category) -> None:
        """Set the category of all storages that a phase allocated, that are alive and that have none."""
        for _, record in self._alive.values():
            if record.category is None and record.phase is phase:
                record.category = category

    def label_kept(self, category: Category) -> None:
        """Set the category of the living storages that have none and are older than the current step."""
        step = max((clock for clock, marker in self.markers if marker is None), default=0)
        for _, record in self._alive.values():
            if record.category is None and (record.allocated_at <= step or record.phase is Phase.BUILD):
                record.category = category

    def label_inputs(self, tensors: Iterable[torch.Tensor], category: Category) -> None:
        """Set the category of tensors that have none, unless a forward pass has made them; unknown ones are added."""
        for tensor in chain.from_iterable(map(_plain_tensors, tensors)):
            count = len(self.records)
            record = self._record_of(tensor)
            is_new = len(self.records) > count
            if record is not None and record.category is None and (is_new or record.phase is not Phase.FORWARD):
                record.category = category

    def live_bytes_of(self, category: Category) -> int:
        """Return the bytes of a category that are alive now."""
        return sum(record.bytes for _, record in self._alive.values() if record.category is category)

    def enter_phase(self, phase: Phase) -> None:
        """Begin a phase. As the backward pass begins, storages left alive by the forward pass become activations."""
        if phase is Phase.BACKWARD:
            self.label_unknown(Phase.FORWARD, Category.ACTIVATIONS)
        if self.modules:
            self.modules.begin_phase()
        self._phase, self.phase_peak_bytes = phase, self.live_bytes
        self.markers.append((self._clock, phase))

    def mark_step(self) -> None:
        """Mark the beginning of a step, or the end of the last one."""
        self.markers.append((self._clock, None))

    def mark_call(self, call: AllocatorCall) -> None:
        """Mark a call of the allocator."""
        self.markers.append((self._clock, call))

    def reset_peak(self) -> None:
        """Reset the peak to the bytes that are alive now."""
        self.peak_bytes, self.peak_phase, self._peak_clock = self.live_bytes, self._phase, self._clock

    def bytes_at_peak(self) -> Counter[Category]:
        """Return the bytes of each category at the peak; they add up to `peak_bytes`.

        Call it after the step: the category of a storage may become known only then.
        """
        totals: Counter[Category] = Counter()
        for record in self.records_at_peak():
            totals[record.category or Category.TEMPORARIES] += record.bytes
        return totals

    def records_at_peak(self) -> list[StorageRecord]:
        """Return the storages that are alive at the peak."""
        return [
            record
            for record in self.records
            if record.allocated_at <= self._peak_clock
            and (record.freed_at is None or record.freed_at > self._peak_clock)
        ]

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and record the storages that it allocates."""
        if any(kind.__module__ == _DTENSOR for kind in types):
            return NotImplemented  # comes back as operations on the tensors of this rank
        if self.modules:
            self.modules.follow_backward_node()
        # In inference mode, composite operations arrive whole: their parts have to be seen as well.
        if torch.is_inference_mode_enabled():
            with self:
                result = self.decompose(func, args, kwargs or {})
            if result is not NotImplemented:
                return result
        try:
            result = func(*args, **(kwargs or {}))
        except Exception as error:
            self.failed_at_bytes = self.live_bytes  # backward frees much of it before callers see the exception
            if self.on_failure is not None:
                self.on_failure(error)
            raise
        if is_collective(func):
            for buffer, category in buffers_of(func, args, self.category_of):
                self.label([buffer], category)
        self.count_flops(func, args, kwargs or {}, result)
        clock = self._clock
        for leaf in (result,) if isinstance(result, torch.Tensor) else tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._record_of(leaf)
        if self._clock != clock:
            self._on_alloc()
        return result

    def count_flops(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> None:
        """Add the floating-point operations of an operation."""
        if (formula := flop_registry.get(getattr(func, "overloadpacket", None))) is not None:
            self.flops += formula(*args, **kwargs, out_val=result)

    def decompose(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run an operation by its parts; return NotImplemented if it has none."""
        return func.decompose(*args, **kwargs) if isinstance(func, torch._ops.OpOverload) else NotImplemented

    def _record_of(self, tensor: torch.Tensor) -> StorageRecord | None:
        """Return the record of a tensor's storage, new or known; None if it is on another device or has no storage."""
        if tensor.device.type != self._device_type or tensor.layout is not torch.strided:
            return None
        if is_traceable_wrapper_subclass(tensor):  # the tensors inside were seen when they were made
            return None
        storage = tensor.untyped_storage()
        entry = self._alive.get(id(storage))
        if entry is not None:
            return entry[1]
        return self._add(storage)

    def _on_resize(self, storage: torch.UntypedStorage) -> None:
        if storage.device.type != self._device_type:
            return
        if (entry := self._alive.pop(id(storage), None)) is not None:
            self.record_free(entry[1])
        if storage.nbytes():
            self._add(storage).category = Category.GATHERED_PARAMETERS

    def _add(self, storage: torch.UntypedStorage) -> StorageRecord:
        record = self.record_alloc(storage.nbytes())
        key = id(storage)
        # PyTorch keeps a storage's Python object for as long as the storage lives, so the callback marks its end.
        self._alive[key] = (weakref.ref(storage, lambda _: self.record_free(self._alive.pop(key)[1])), record)
        return record

    def record_alloc(self, size: int) -> StorageRecord:
        """Count bytes as alive until `record_free`, including those of no tensor, such as a kernel's workspace."""
        self._clock += 1
        line = self.line() if self.line else ""
        record = StorageRecord(size, self._clock, None, self._phase, None, self.op, self.module, line)
        self.records.append(record)
        self.live_bytes += size
        self.phase_peak_bytes = max(self.phase_peak_bytes, self.live_bytes)
        if self.live_bytes > self.peak_bytes:
            self.peak_bytes, self.peak_phase, self._peak_clock = self.live_bytes, self._phase, self._clock
        return record

    def record_free(self, record: StorageRecord) -> None:
        """Stop counting the bytes of a record."""
        self._clock += 1
        record.freed_at = self._clock
        self.live_bytes -= record.bytes


def _plain_tensors(tensor: torch.Tensor) -> Iterable[torch.Tensor]:
    """Return a tensor, or those inside a sparse one or a wrapper subclass; none for an uninitialized parameter."""
    if is_lazy(tensor):
        return ()
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if not is_traceable_wrapper_subclass(tensor):
        return (tensor,)
    names, _ = tensor.__tensor_flatten__()
    parts = (getattr(tensor, name) for name in names)  # a DTensor also names its mesh
    return chain.from_iterable(_plain_tensors(part) for part in parts if isinstance(part, torch.Tensor))
