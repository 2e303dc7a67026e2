"""Track storages of fake tensors, with the operation, the module, and the memory that the kernel itself allocates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.allocator.allocation_trace import AllocatorCall
from vram_cli.errors import VramError
from vram_cli.fake_tensors.errors import unsupported
from vram_cli.fake_tensors.kernel_limits import check_kernel_limits
from vram_cli.fake_tensors.shortcuts import SHORTCUTS
from vram_cli.records import Category
from vram_cli.workload.optimizers import refuse_unpredictable
from vram_cli.workload.user_code import error_summary

KernelAllocation = tuple[int, bool] | AllocatorCall
"""(bytes that a kernel allocates, whether they are never freed), or a call that it makes to the allocator."""

WorkspaceRule = Callable[[str, tuple[Any, ...], Mapping[str, Any], Any], Iterable[KernelAllocation]]
"""(operation, args, kwargs, result) -> allocations of its kernel, in order."""

_RECURRENT = {"aten._cudnn_rnn", "aten.miopen_rnn"}
_FUSED_LAYERS = {"aten._transformer_encoder_layer_fwd", "aten._native_multi_head_attention"}
"""Kernels of evaluation whose parts, and so whose memory, never reach the dispatcher (torch.backends.mha)."""


_SPARSE = {"aten.embedding", "aten._embedding_bag", "aten._embedding_bag_forward_only"}


def _wants_sparse_gradients(func: Any, args: Sequence[Any]) -> bool:
    named = zip((argument.name for argument in func._schema.arguments), args, strict=False)
    return args[0].requires_grad and dict(named).get("sparse") is True


class Recorder(StorageTracker):
    """Tracks the storages of a training on fake tensors."""

    def __init__(self, device: torch.device, modules: ModuleTracker, workspaces: WorkspaceRule) -> None:
        super().__init__(device)
        self._workspaces = workspaces
        self.modules = modules
        self._running_optimizers = 0
        self._has_assumed_value = False
        """Whether the running optimizer has read a value, which `_read_value` makes up."""
        self.attention: Callable[..., torch.Tensor] | None = None
        """The GPU's attention in inference mode; in training, autograd's kernel stands for it."""

    @contextmanager
    def tracking_optimizers(self) -> Iterator[None]:
        """Track whether an optimizer or a gradient scaler steps, in hooks and user code too.

        Raises:
            UnsupportedError: an optimizer fails after it has read a value, as NAdam does, which divides by 1 - value.
        """

        def add(change: int) -> Callable[..., None]:
            def hook(*_: Any) -> None:
                self._running_optimizers += change
                self._has_assumed_value = False

            return hook

        scaler_step = torch.amp.GradScaler.step

        def tracked_scaler_step(*args: Any, **kwargs: Any) -> Any:
            self._running_optimizers += 1
            try:
                return scaler_step(*args, **kwargs)
            finally:
                self._running_optimizers -= 1

        hooks = [
            register_optimizer_step_pre_hook(refuse_unpredictable),
            register_optimizer_step_pre_hook(add(1)),
            register_optimizer_step_post_hook(add(-1)),
        ]
        torch.amp.GradScaler.step = tracked_scaler_step  # type: ignore[method-assign]
        try:
            yield
        except Exception as error:
            if self._running_optimizers and self._has_assumed_value and not isinstance(error, (VramError, MemoryError)):
                raise unsupported(f"an optimizer that reads its own state ({error_summary(error)})") from error
            raise
        finally:
            torch.amp.GradScaler.step = scaler_step  # type: ignore[method-assign]
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and record the storages that it allocates and the memory of its kernel."""
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # half of all calls, without effect on memory
        self.op = name = str(func.overloadpacket)  # type: ignore[attr-defined]
        if name == "aten._local_scalar_dense":
            return self._read_value(args[0])
        if name in _RECURRENT:
            raise unsupported(f"{name}, whose reserve size cuDNN reports only on the GPU itself,", self.module)
        if name in _FUSED_LAYERS:
            hint = "disable it by torch.backends.mha.set_fastpath_enabled(False) in the model's code; or"
            raise unsupported(f"{name}, a fused layer whose memory only the GPU knows,", self.module, hint=hint)
        if name in _SPARSE and _wants_sparse_gradients(func, args):
            raise unsupported("sparse gradients", self.module)
        if name.startswith("aten._fused_") and name.endswith("_"):
            return None  # fused optimizers work in place; not all of them have a fake kernel
        check_kernel_limits(name, args, kwargs or {})
        result = super().__torch_dispatch__(SHORTCUTS.get(name, func), types, args, kwargs)
        for allocation in self._workspaces(name, args, kwargs or {}, result):
            if isinstance(allocation, AllocatorCall):
                self.mark_call(allocation)
            else:
                self._record_workspace(*allocation)
        return result

    def decompose(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run an operation by its parts, attention by the kernel that the GPU chooses."""
        if self.attention is not None and func is torch.ops.aten.scaled_dot_product_attention.default:
            return self.attention(*args, **kwargs)
        return super().decompose(func, args, kwargs)

    def _record_workspace(self, size: int, never_freed: bool) -> None:
        record = self.record_alloc(size)
        record.category = Category.WORKSPACES
        if not never_freed:
            self.record_free(record)

    def _read_value(self, tensor: torch.Tensor) -> Any:
        """Answer optimizers and scalers (first step, no infinite gradients), and refuse all other code."""
        if not self._running_optimizers:
            raise unsupported(
                "reading a tensor's value (.item(), float(), bool(): aten._local_scalar_dense)",
                self.module,
                hint="if it is only for logging, remove it; otherwise",
            )
        self._has_assumed_value = True
        return 1.0 if tensor.device.type == "cpu" else 0.0
