"""Models that are built without memory: once for all trials, unless a trial changed them."""

from __future__ import annotations

import torch
from torch import nn

from vram_cli.workload.model_without_memory import ReusedModel

CPU = torch.device("cpu")


class Counting(nn.Linear):
    """A layer that may keep the result of its last call, as caches of rotary embeddings do."""

    def forward(self, numbers: torch.Tensor, keep: bool = False) -> torch.Tensor:
        """Return the product."""
        result = super().forward(numbers)
        if keep:
            self.last = result
        return result


def test_a_model_is_built_once_and_its_tensors_are_new_for_each_trial() -> None:
    reused, builds = ReusedModel(), []

    def build() -> nn.Module:
        builds.append(1)
        return Counting(2, 3)

    first = reused.place(build, CPU, None)
    weight = first.weight
    first(torch.ones(1, 2))
    reused.release()
    assert first.weight.device.type == "meta"
    second = reused.place(build, CPU, torch.bfloat16)
    assert (second is first, len(builds)) == (True, 1)
    assert second.weight is not weight
    assert second.weight.dtype is torch.bfloat16


def test_a_model_that_a_trial_changed_is_built_again() -> None:
    reused = ReusedModel()
    first = reused.place(lambda: Counting(2, 3), CPU, None)
    first(torch.ones(1, 2), keep=True)
    assert reused.place(lambda: Counting(2, 3), CPU, None) is not first
