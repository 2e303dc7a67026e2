"""Calibrations: memory that real runs on a GPU use and predictions lack, outside the allocator and in workspaces."""

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
    """A run on the GPU, and its prediction."""

    workload: Text
    """The model and precision, such as "resnet18, amp-fp16"."""
    batch_size: Annotated[int, Field(gt=0)]
    convolutions: bool
    """Whether the model has convolutions; every model has matrix products."""
    predicted_allocated_bytes: Annotated[int, Field(gt=0, lt=2**63)]
    measured_allocated_bytes: Annotated[int, Field(gt=0, lt=2**63)]
    predicted_reserved_bytes: Bytes
    """For the record only: in a run this small, reserved bytes are dominated by segments of 2 and 20 MiB."""
    measured_reserved_bytes: Bytes
    outside_bytes: Bytes
    """GPU memory outside PyTorch's allocator after the steps, with all kernels of the run loaded."""

    @property
    def shortfall_bytes(self) -> int:
        """Bytes that the prediction lacks; negative if it is too high."""
        return self.measured_allocated_bytes - self.predicted_allocated_bytes


class Allowances(_Frozen):
    """Bytes to add for workspaces that predictions do not know, by kind of kernel.

    A workspace is freed when its kernel has finished, so two are never alive together: only the larger of the two
    allowances counts.
    """

    matrix_products: Bytes = 0
    convolutions: Bytes = 0

    def for_model(self, *, convolutions: bool) -> int:
        """Return the bytes to add to the peak of a model with or without convolutions."""
        return max(self.matrix_products, self.convolutions) if convolutions else self.matrix_products


NO_ALLOWANCES = Allowances()


class Calibration(_Frozen):
    """Measurements on one GPU, and the cases that they were fitted from.

    Raises:
        ValueError: the context is as large as the GPU's memory, or there is no case or no PyTorch version.
    """

    schema_version: Literal[1]
    product: Text
    """The GPU's name as the driver reports it."""
    memory_bytes: Annotated[int, Field(gt=0, lt=2**63)]
    """The GPU's memory as the driver reports it."""
    measured_on: date
    versions: dict[str, str]
    """Versions of vram, torch, CUDA, cuDNN, the driver and more, as in results."""
    context_bytes: Bytes
    """GPU memory outside PyTorch's allocator, including a display's share: no training on this GPU can use it."""
    workspaces: Allowances
    cases: Annotated[tuple[Case, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_possible(self) -> Calibration:
        if self.context_bytes >= self.memory_bytes:
            raise ValueError("context_bytes leaves nothing of memory_bytes")
        if not re.match(r"\d+\.\d+", self.versions.get("torch", "")):
            raise ValueError("versions.torch is not a version")
        return self

    @property
    def gpu(self) -> Gpu:
        """The GPU's entry in the catalogue.

        Raises:
            ConfigError: the catalogue does not have it.
        """
        return recognise_gpu(self.product, self.memory_bytes)

    @property
    def title(self) -> str:
        """Date and PyTorch version, such as "of 2026-11-24, torch 2.14.1+cu130"."""
        return f"of {self.measured_on}, torch {self.versions['torch']}"

    @property
    def torch_version(self) -> tuple[int, int]:
        """Major and minor version of PyTorch."""
        major, minor = re.findall(r"\d+", self.versions["torch"])[:2]
        return int(major), int(minor)

    def allowances_for(self, torch_version: tuple[int, int]) -> Allowances:
        """Return the allowances for predictions by the rules of a PyTorch version; none if another one was calibrated.

        The workspaces that predictions know differ between versions, and allowances fill the gaps of one version.
        """
        return self.workspaces if torch_version == self.torch_version else NO_ALLOWANCES

    def apply_to(self, gpu: Gpu) -> Gpu:
        """Return the GPU with the measured memory and context."""
        source = f"calibration {self.title}"
        memory, context = (
            Figure(bytes=size, status="measured", source=source) for size in (self.memory_bytes, self.context_bytes)
        )
        return gpu.model_copy(update={"memory": memory, "context": context})

    def remaining_error(self, case: Case) -> float:
        """Return the relative error of a case's prediction with the allowances added."""
        predicted = case.predicted_allocated_bytes + self.workspaces.for_model(convolutions=case.convolutions)
        return predicted / case.measured_allocated_bytes - 1

    def describe(self, torch_version: tuple[int, int], *, has_overhead: bool) -> str:
        """Return the figures that a prediction takes from the calibration and their accuracy; "" if it takes none.

        Args:
            torch_version: the PyTorch version (major, minor) whose rules the prediction follows.
            has_overhead: whether the user has set the memory outside the allocator.
        """
        when = f"calibrated on this GPU model on {self.measured_on}, torch {self.versions['torch']}"
        if torch_version != self.torch_version:
            version = "{}.{}".format(*torch_version)
            return "" if has_overhead else f"context {when}; workspaces not, because they differ in torch {version}"
        worst = max(abs(self.remaining_error(case)) for case in self.cases)
        terms = "workspaces" if has_overhead else "context and workspaces"
        return f"{terms} {when}; the predictions of its {len(self.cases)} runs are off by at most {100 * worst:.1f} %"


def fit(cases: Sequence[Case]) -> tuple[int, Allowances]:
    """Return the context bytes and the allowances that cover every case.

    The context is the largest: it grows with each loaded kernel, and a real training loads more than these runs. An
    allowance is the largest shortfall of its kind, at least 0. It is a constant, since the workspace per sample of a
    small network says nothing about another one. Errors that grow with the batch remain visible in
    `Calibration.remaining_error`.

    Raises:
        ValueError: there are no cases.
    """
    if not cases:
        raise ValueError("no cases to fit")
    products, convolutions = (
        max((case.shortfall_bytes for case in cases if case.convolutions is kind), default=0) for kind in (False, True)
    )
    return (
        max(case.outside_bytes for case in cases),
        Allowances(matrix_products=max(products, 0), convolutions=max(convolutions, 0)),
    )
