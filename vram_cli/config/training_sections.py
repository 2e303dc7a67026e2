"""The sections on how and where it is trained: their keys, defaults, and which of them go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from vram_cli.config.section import Section
from vram_cli.config.value_types import (
    Arguments,
    Checkpointing,
    CodeReference,
    Count,
    DeviceName,
    Seconds,
    Share,
    Size,
    invalid,
)

OptimizerName = Literal[
    "sgd", "adam", "adamw", "rmsprop", "adagrad", "adam8bit", "adamw8bit", "paged_adamw", "paged_adamw8bit"
]
Precision = Literal["fp32", "tf32", "amp-bf16", "amp-fp16", "bf16"]

_ADAMW_WEIGHT_DECAY = 0.01  # PyTorch's default for AdamW, bitsandbytes' too; for every other optimizer it is 0
_PYTORCH = ("sgd", "adam", "adamw", "rmsprop", "adagrad")  # the other names are from bitsandbytes


class OptimizerConfig(Section):
    """The optimizer; its state is often the largest part of the memory that does not grow with the batch."""

    choices: ClassVar[tuple[str, ...]] = ("name", "factory")
    # As in torch 2.9 to 2.14: RMSprop has no `fused` argument, and only SGD has `nesterov`.
    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "momentum": ("sgd", "rmsprop"),
        "nesterov": ("sgd",),
        "weight_decay": get_args(OptimizerName),
        "foreach": _PYTORCH,
        "fused": ("sgd", "adam", "adamw", "adagrad"),
        "kwargs": ("factory",),
    }

    name: OptimizerName | None = None
    """A preset: PyTorch's optimizers, or those of bitsandbytes with 8-bit or paged state."""
    factory: CodeReference | None = None
    """Code that makes the optimizer, package.module:name; called with the trained parameters, lr and kwargs."""
    kwargs: Arguments = Field(default_factory=dict)
    """Arguments for the factory; lr is train.learning_rate unless it is given here."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Above 0 it costs one more copy of the parameters (sgd and rmsprop only)."""
    nesterov: bool = False
    """Look ahead; needs momentum (sgd only)."""
    weight_decay: float = Field(default=0.0, ge=0)
    """adamw: 0.01 where it is not given."""
    foreach: bool | None = None
    """All parameters at once: faster, with more temporary memory. null leaves the choice to PyTorch."""
    fused: bool | None = None
    """One kernel for the whole step, with hardly any temporary memory (not for rmsprop). null leaves it to PyTorch."""

    @model_validator(mode="after")
    def _adamw_decays(self) -> OptimizerConfig:
        if self.name and self.name.endswith(("adamw", "adamw8bit")) and "weight_decay" not in self.model_fields_set:
            # Not a key that was given: a config that is changed to another optimizer does not keep it.
            self.__dict__["weight_decay"] = _ADAMW_WEIGHT_DECAY
        return self

    @model_validator(mode="after")
    def _settings_agree(self) -> OptimizerConfig:
        if self.foreach and self.fused:
            raise invalid("fused and foreach cannot both be true", "leave one of them out", key="fused")
        if self.nesterov and self.momentum == 0:
            raise invalid("needs momentum above 0", "such as momentum: 0.9", key="nesterov")
        return self

    @property
    def label(self) -> str:
        """The preset's name, or the factory."""
        return str(self.name or self.factory)

    @property
    def family(self) -> Literal["sgd", "adam", "other"]:
        """The update rule; "adam" keeps two moments of each parameter in full precision."""
        rule = self.label.rpartition(":")[2].rpartition(".")[2].lower()
        if rule.startswith("sgd"):
            return "sgd"
        return "adam" if rule in ("adam", "adamw") else "other"

    @property
    def needs_gpu(self) -> bool:
        """Whether the optimizer is from bitsandbytes, which makes its state with kernels of the GPU."""
        return self.label not in _PYTORCH if self.name else self.label.startswith("bitsandbytes")


class TrainConfig(Section):
    """What you train with today."""

    batch_size: Count = 128
    """The batch size that a breakdown is made for."""
    learning_rate: float = Field(default=0.01, gt=0)
    """The learning rate that goes with batch_size."""
    zero_grad_set_to_none: bool = True
    """true (PyTorch's default) frees gradients before the forward pass; false keeps them, filled with zeros."""
    optimizer_in_backward: bool = False
    """Step each parameter in the backward pass as soon as its gradient exists, then free the gradient."""
    activation_checkpointing: Checkpointing = "none"
    """none, full, every-K, or the names of modules, such as "layer3.*": recompute what is in them in the backward pass.
    full takes every one of the model's repeated blocks, every-2 every second one."""
    gradient_accumulation_steps: Count = 1
    """Batches whose gradients are added up before the optimizer's step; a batch size is always that of one of them."""
    channels_last: bool = False
    """Lay images and convolutions out with the channels last, as tensor cores like it."""
    compile: bool = False
    """torch.compile the model (real GPUs only)."""
    freeze: tuple[str, ...] = ()
    """Parameters that are not trained, by name, such as ["features.*"]."""
    ema: bool = False
    """Keep an exponential moving average of the weights on the device: one more copy of the model."""
    clip_grad_norm: float | None = Field(default=None, gt=0)
    """Clip the norm of all gradients to this before the optimizer's step."""

    @field_validator("freeze", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


class SearchConfig(Section):
    """How the largest batch is looked for."""

    steps: int = Field(default=3, ge=2)
    """Full training steps a trial; the optimizer's state is there from the second on only."""
    limit_to_dataset: bool = True
    """Never try a batch size larger than the data set."""
    max_batch_size: Count | None = None
    """Largest batch size to try."""
    tolerance: Share = 0.0
    """How far below the largest size the answer may be; 0 for the exact one."""
    multiple_of: Count = 8
    """The recommended size is a multiple of this."""
    margin: Share = 0.05
    """Share of the memory that the recommended size leaves free."""
    time_limit: Seconds | None = None
    """Seconds for the whole search; null for as long as it takes."""
    trial_timeout: Seconds = 900.0
    """Seconds after which one trial is given up."""
    objective: Literal["largest", "throughput"] = "largest"
    """throughput: once the largest size is found, time steps at sizes up to it (real trials only)."""


class DeviceConfig(Section):
    """Where the trials run. `device: cuda:0` is short for `device: {name: cuda:0}`."""

    name: DeviceName = "auto"
    """auto, cpu, cuda, cuda:N, mps or xpu; a ROCm GPU is cuda."""
    memory_limit: Size | None = None
    """Memory to stay within, such as 8GiB; null for all there is."""
    gpu: str | None = Field(default=None, min_length=1)
    """A card to predict for instead of measuring, such as rtx-4090; `vram gpus` lists them."""
    overhead: Size | None = None
    """Predictions: memory outside PyTorch's allocator (context, display, other processes); null for the card's own."""
    expandable_segments: bool = False
    """The CUDA allocator's option of that name: less fragmentation."""
    cudnn_benchmark: bool = False
    """torch.backends.cudnn.benchmark: the first step tries all ways to run a convolution, and keeps the fastest."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _measured_or_predicted(self) -> DeviceConfig:
        if self.gpu and self.name != "auto":
            hint = f"leave gpu out to measure on {self.name}, or set name: auto to predict"
            raise invalid(f"a prediction for {self.gpu} needs no device, got name: {self.name}", hint, key="gpu")
        return self
