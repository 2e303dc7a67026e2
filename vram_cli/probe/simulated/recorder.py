"""A ledger for fake tensors: it knows which operation ran in which module, and what its kernel takes on the side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from vram_cli.memory.ledger import Ledger
from vram_cli.memory.modules import Modules
from vram_cli.probe.simulated.errors import unsupported
from vram_cli.results import Phase

WorkspaceRule = Callable[[str, tuple[Any, ...], Mapping[str, Any], Any], Iterable[tuple[int, bool]]]
"""(operation, args, kwargs, result) -> what its kernel allocates: bytes, and whether they are kept for ever."""


class Recorder(Ledger):
    """Watches a step on fake tensors."""

    def __init__(self, device: torch.device, modules: Modules, workspaces: WorkspaceRule) -> None:
        super().__init__(device)
        self._workspaces = workspaces
        self.modules = modules

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, note what it made and what its kernel took on the side."""
        self.op = name = str(func.overloadpacket)  # type: ignore[attr-defined]
        if name == "aten._local_scalar_dense":
            return self._read_value(args[0])
        if name.startswith("aten._fused_") and name.endswith("_"):
            return None  # fused optimizers change tensors in place; not all of them have a kernel for fakes
        result = super().__torch_dispatch__(func, types, args, kwargs)
        for size, kept in self._workspaces(name, args, kwargs or {}, result):
            life = self.begin_life(size)
            if not kept:
                self.end_life(life)
        return result

    def _read_value(self, tensor: torch.Tensor) -> Any:
        """Answer the optimizer: its first step, and no infinite gradients. Nobody else can be answered."""
        if self._phase is not Phase.OPTIMIZER:
            raise unsupported(
                "reading a tensor's value (.item(), float(), bool(): aten._local_scalar_dense)", self.module
            )
        return 1.0 if tensor.device.type == "cpu" else 0.0
