"""A ledger for fake tensors: it knows which operation ran in which module, and what its kernel takes on the side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.flop_counter import flop_registry

from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.allocator.allocation_trace import Mark
from vram_cli.fake_tensors.batch_norm import SHORT_CUTS
from vram_cli.fake_tensors.errors import unsupported

Taken = tuple[int, bool] | Mark
"""Bytes that a kernel allocates, and whether they are kept for ever; or what it tells the allocator."""

WorkspaceRule = Callable[[str, tuple[Any, ...], Mapping[str, Any], Any], Iterable[Taken]]
"""(operation, args, kwargs, result) -> what its kernel takes, in order."""


_RECURRENT = {"aten._cudnn_rnn", "aten.miopen_rnn"}
_FUSED_LAYERS = {"aten._transformer_encoder_layer_fwd", "aten._native_multi_head_attention"}
"""Kernels of evaluation whose parts, and so whose memory, never reach the dispatcher (torch.backends.mha)."""


class Recorder(StorageTracker):
    """Watches a step on fake tensors."""

    def __init__(self, device: torch.device, modules: ModuleTracker, workspaces: WorkspaceRule) -> None:
        super().__init__(device)
        self._workspaces = workspaces
        self.modules = modules
        self.flops = 0
        """Floating-point operations of the matrix products, convolutions and attention since it was last set to 0."""
        self._stepping = 0
        self.attention: Callable[..., torch.Tensor] | None = None
        """The GPU's attention in inference mode; elsewhere autograd's kernel stands for it."""

    @contextmanager
    def optimizers_followed(self) -> Iterator[None]:
        """Know meanwhile when an optimizer or a gradient scaler steps: from a gradient's hook or a user's step too."""

        def step(change: int) -> Callable[..., None]:
            def count(*_: Any) -> None:
                self._stepping += change

            return count

        scaler_step = torch.amp.GradScaler.step

        def scaled(*args: Any, **kwargs: Any) -> Any:
            self._stepping += 1
            try:
                return scaler_step(*args, **kwargs)
            finally:
                self._stepping -= 1

        hooks = [register_optimizer_step_pre_hook(step(1)), register_optimizer_step_post_hook(step(-1))]
        torch.amp.GradScaler.step = scaled  # type: ignore[method-assign]
        try:
            yield
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
        """Run an operation, note what it made and what its kernel took on the side."""
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # half of all calls, and nothing to the memory
        self.op = name = str(func.overloadpacket)  # type: ignore[attr-defined]
        if name == "aten._local_scalar_dense":
            return self._read_value(args[0])
        if name in _RECURRENT:
            raise unsupported(f"{name}, whose reserve is told on the card alone,", self.module)
        if name in _FUSED_LAYERS:
            hint = "disable it by torch.backends.mha.set_fastpath_enabled(False) in the model's code; or"
            raise unsupported(f"{name}, a fused layer whose memory only the GPU knows,", self.module, hint=hint)
        if name.startswith("aten._fused_") and name.endswith("_"):
            return None  # fused optimizers change tensors in place; not all of them have a kernel for fakes
        result = super().__torch_dispatch__(SHORT_CUTS.get(name, func), types, args, kwargs)
        if (formula := flop_registry.get(func.overloadpacket)) is not None:  # type: ignore[attr-defined]
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        for taken in self._workspaces(name, args, kwargs or {}, result):
            if isinstance(taken, Mark):
                self.mark(taken)
            else:
                self._take(*taken)
        return result

    def decompose(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run an operation by its parts, attention by the kernel that the GPU chooses."""
        if self.attention is not None and func is torch.ops.aten.scaled_dot_product_attention.default:
            return self.attention(*args, **kwargs)
        return super().decompose(func, args, kwargs)

    def _take(self, size: int, kept: bool) -> None:
        life = self.begin_life(size)
        if not kept:
            self.end_life(life)

    def _read_value(self, tensor: torch.Tensor) -> Any:
        """Answer optimizers and scalers: the first step, and no infinite gradients. Nobody else can be answered."""
        if not self._stepping:
            raise unsupported(
                "reading a tensor's value (.item(), float(), bool(): aten._local_scalar_dense)",
                self.module,
                hint="leave it out where it is for a log; else",
            )
        return 1.0 if tensor.device.type == "cpu" else 0.0
