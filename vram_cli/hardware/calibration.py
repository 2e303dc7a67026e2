"""What real runs on a card have shown that predictions lack: memory outside the allocator, and kernels' workspaces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vram_cli.hardware.gpus import Figure, Gpu, recognise_gpu

Bytes = Annotated[int, Field(ge=0, lt=2**63)]
Text = Annotated[str, Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Case(_Frozen):
    """A run on the card, beside what was predicted for it."""

    workload: Text
    """Such as "resnet18, amp-fp16"."""
    batch_size: Annotated[int, Field(gt=0)]
    convolutions: bool
    """Whether the model has any; matrix products run in each."""
    predicted_allocated_bytes: Annotated[int, Field(gt=0, lt=2**63)]
    measured_allocated_bytes: Annotated[int, Field(gt=0, lt=2**63)]
    predicted_reserved_bytes: Bytes
    """Beside the allocated peak for the record only: in a run this small it shows lumps of 2 and 20 MiB."""
    measured_reserved_bytes: Bytes
    outside_bytes: Bytes
    """On the card outside PyTorch's allocator when the steps were over, and all kernels of the run loaded."""

    @property
    def short_bytes(self) -> int:
        """What the prediction lacks; below 0 where it is too high."""
        return self.measured_allocated_bytes - self.predicted_allocated_bytes


class Allowances(_Frozen):
    """Bytes to allow for workspaces that predictions do not know of, by the kind of kernel.

    A workspace is free again when its kernel is done, so that two are never alive together: of the two allowances the
    larger one counts.
    """

    matrix_products: Bytes = 0
    convolutions: Bytes = 0

    def beside(self, *, convolutions: bool) -> int:
        """Return what to add to the peak of a model with or without convolutions."""
        return max(self.matrix_products, self.convolutions) if convolutions else self.matrix_products


NO_ALLOWANCES = Allowances()


class Calibration(_Frozen):
    """What was measured on one card, and the cases that it was fitted from.

    Raises:
        ValueError: the context is as large as the card, or there is no case, or no version of torch.
    """

    schema_version: Literal[1]
    card: Text
    """As the driver names it."""
    memory_bytes: Annotated[int, Field(gt=0, lt=2**63)]
    """As the driver reports it to programs."""
    measured_on: date
    versions: dict[str, str]
    """Of vram, torch, CUDA, cuDNN, the driver and more, as results carry them."""
    context_bytes: Bytes
    """Outside PyTorch's allocator, a display's share included: it is gone for every training on that card."""
    workspaces: Allowances
    cases: Annotated[tuple[Case, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_possible(self) -> Calibration:
        if self.context_bytes >= self.memory_bytes:
            raise ValueError("context_bytes leaves nothing of memory_bytes")
        if not re.match(r"\d+\.\d+", self.versions.get("torch", "")):
            raise ValueError("versions.torch is no version")
        return self

    @property
    def gpu(self) -> Gpu:
        """The card's entry in the catalogue.

        Raises:
            ConfigError: it has none.
        """
        return recognise_gpu(self.card, self.memory_bytes)

    @property
    def title(self) -> str:
        """Which one it is, such as "of 2026-11-24, torch 2.14.1+cu130"."""
        return f"of {self.measured_on}, torch {self.versions['torch']}"

    @property
    def torch_version(self) -> tuple[int, int]:
        """Major and minor of the torch that ran."""
        major, minor = re.findall(r"\d+", self.versions["torch"])[:2]
        return int(major), int(minor)

    def allowances_for(self, torch_version: tuple[int, int]) -> Allowances:
        """Return the allowances for predictions by the rules of a torch, none where another one was calibrated.

        Which workspaces predictions know of changes from version to version: an allowance fills the gaps of its own.
        """
        return self.workspaces if torch_version == self.torch_version else NO_ALLOWANCES

    def applied_to(self, gpu: Gpu) -> Gpu:
        """Return the card with memory and context as they were measured."""
        source = f"calibration {self.title}"
        memory, context = (
            Figure(bytes=size, status="measured", source=source) for size in (self.memory_bytes, self.context_bytes)
        )
        return gpu.model_copy(update={"memory": memory, "context": context})

    def remaining_error(self, case: Case) -> float:
        """Return how far the prediction of a case is off with the allowances in it, as a share of what was measured."""
        predicted = case.predicted_allocated_bytes + self.workspaces.beside(convolutions=case.convolutions)
        return predicted / case.measured_allocated_bytes - 1

    def describe(self, torch_version: tuple[int, int], *, has_overhead: bool) -> str:
        """Say what of it a prediction by a torch's rules takes, and how well it fits; "" where it takes nothing.

        Args:
            torch_version: major and minor.
            has_overhead: whether the user has said what lies outside the allocator.
        """
        when = f"calibrated on a card of this kind {self.measured_on}, torch {self.versions['torch']}"
        if torch_version != self.torch_version:
            own = "{}.{}".format(*torch_version)
            return "" if has_overhead else f"context {when}; workspaces not, for they differ in torch {own}"
        worst = max(abs(self.remaining_error(case)) for case in self.cases)
        terms = "workspaces" if has_overhead else "context and workspaces"
        return f"{terms} {when}; its {len(self.cases)} runs are then off by at most {100 * worst:.1f} %"


def fit(cases: Sequence[Case]) -> tuple[int, Allowances]:
    """Return the context and the allowances that cover every case.

    The context is the largest: it grows with each kernel that is loaded, and a real training loads more than these.
    An allowance is the largest shortfall of its kind, and never below 0. It is a constant: what the workspaces of one
    small network take for each sample says nothing of another's. What grows with the batch is left to show in
    `Calibration.remaining_error`.

    Raises:
        ValueError: there are no cases.
    """
    if not cases:
        raise ValueError("nothing can be fitted to no cases")
    products, convolutions = (
        max((case.short_bytes for case in cases if case.convolutions is kind), default=0) for kind in (False, True)
    )
    return (
        max(case.outside_bytes for case in cases),
        Allowances(matrix_products=max(products, 0), convolutions=max(convolutions, 0)),
    )
