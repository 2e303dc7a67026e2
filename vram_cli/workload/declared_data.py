"""Batches of tensors that a config declares: made up, of the declared sizes and within the declared range."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vram_cli.config import Config, TensorConfig
from vram_cli.records import DataInfo, TensorInfo
from vram_cli.workload.batches import Batch


@dataclass(frozen=True)
class Declared:
    """Batches as `data.inputs` and `data.targets` declare them: a mapping, or (mapping, targets)."""

    info: DataInfo
    inputs: dict[str, TensorConfig]
    targets: TensorConfig | None

    def make_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return n samples; float32 becomes `dtype`."""
        inputs = {name: _tensor(declared, n, device, dtype) for name, declared in self.inputs.items()}
        return inputs if self.targets is None else (inputs, _tensor(self.targets, n, device, dtype))


def declared(config: Config) -> Declared:
    """Return the source of a config that declares its inputs."""
    data = config.data
    inputs = dict(data.inputs or {})
    named = inputs | ({"targets": data.targets} if data.targets else {})
    return Declared(
        info=DataInfo(
            name="inputs",
            source="synthetic",
            detail="made up as the config declares; where lengths vary, these are taken to be the longest",
            tensors=tuple(TensorInfo(name=name, shape=t.shape, dtype=_dtype(t, config)) for name, t in named.items()),
            classes=None,
            num_samples=data.length,
        ),
        inputs=inputs,
        targets=data.targets,
    )


def _dtype(tensor: TensorConfig, config: Config) -> str:
    return "bfloat16" if config.precision == "bf16" and tensor.dtype == "float32" else tensor.dtype


def _tensor(declared: TensorConfig, n: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    kind: torch.dtype = getattr(torch, declared.dtype)
    shape = (n, *declared.shape)
    if kind.is_floating_point:
        # Filled in place: a cast would take the memory of two batches for a moment.
        return torch.empty(shape, dtype=dtype if kind is torch.float32 else kind, device=device).normal_()
    return torch.empty(shape, dtype=kind, device=device).random_(*declared.values)
