"""Batches of tensors that a config declares: random values of the declared sizes and ranges."""

from __future__ import annotations

import torch

from vram_cli.config import Config, TensorConfig
from vram_cli.records import DataInfo, TensorInfo
from vram_cli.workload.batches import Batch
from vram_cli.workload.data_source import DataSource


class SyntheticTensors(DataSource):
    """Batches as `data.inputs` and `data.targets` declare them: a mapping, or (mapping, targets)."""

    def __init__(self, config: Config) -> None:
        data = config.data
        self._inputs, self._targets = dict(data.inputs or {}), data.targets
        self._converts_all = config.precision == "bf16"
        tensors = self._inputs | ({"targets": data.targets} if data.targets else {})
        self.info = DataInfo(
            name="inputs",
            source="synthetic",
            detail="random values as the config declares; if lengths vary, the declared ones are taken as the longest",
            tensors=tuple(self._info(name, tensor) for name, tensor in tensors.items()),
            classes=None,
            num_samples=data.length,
        )

    def make_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return n samples on the device; float32 tensors whose dtype the config leaves open get the dtype."""
        inputs = {name: self._random(tensor, n, device, dtype) for name, tensor in self._inputs.items()}
        return inputs if self._targets is None else (inputs, self._random(self._targets, n, device, dtype))

    def _random(self, tensor: TensorConfig, n: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        kind: torch.dtype = dtype if self._follows_model(tensor) else getattr(torch, tensor.kind)
        shape = (n, *tensor.shape)
        if kind.is_floating_point:
            # Filled in place: a cast would take the memory of two batches for a moment.
            return torch.empty(shape, dtype=kind, device=device).normal_()
        return torch.empty(shape, dtype=kind, device=device).random_(*tensor.values)

    def _follows_model(self, tensor: TensorConfig) -> bool:
        """Whether the config leaves a dtype open; `precision: bf16` converts a declared float32 too."""
        return tensor.dtype is None or (self._converts_all and tensor.dtype == "float32")

    def _info(self, name: str, tensor: TensorConfig) -> TensorInfo:
        return TensorInfo(name=name, shape=tensor.shape, dtype=tensor.kind, follows_model=self._follows_model(tensor))
