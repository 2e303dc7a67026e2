"""The sections about training, search and device: keys, defaults, and valid combinations."""

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
    Fraction,
    Seconds,
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
    """The optimizer; its state is often the largest part of the memory that is independent of the batch size."""

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
    """Momentum; above 0 it needs one more copy of the parameters (sgd and rmsprop only)."""
    nesterov: bool = False
    """Nesterov momentum; needs momentum above 0 (sgd only)."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay; the default for AdamW is 0.01."""
    foreach: bool | None = None
    """Update all parameters at once: faster, with more temporary memory. null leaves the choice to PyTorch."""
    fused: bool | None = None
    """Use one kernel for the whole step, with little temporary memory (not for rmsprop). null leaves it to PyTorch."""

    @model_validator(mode="after")
    def _adamw_decays(self) -> OptimizerConfig:
        if self.name and self.name.endswith(("adamw", "adamw8bit")) and "weight_decay" not in self.model_fields_set:
            # Not a field that was set: a config that is changed to another optimizer does not keep it.
            self.__dict__["weight_decay"] = _ADAMW_WEIGHT_DECAY
        return self

    @model_validator(mode="after")
    def _settings_agree(self) -> OptimizerConfig:
        if self.foreach and self.fused:
            raise invalid("fused and foreach cannot both be true", "remove one of them", key="fused")
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
    """The training loop."""

    batch_size: Count = 128
    """The batch size for `vram breakdown`."""
    learning_rate: float = Field(default=0.01, gt=0)
    """The learning rate for batch_size."""
    zero_grad_set_to_none: bool = True
    """true (PyTorch's default) frees gradients before the forward pass; false keeps them, filled with zeros."""
    optimizer_in_backward: bool = False
    """Step each parameter during backward as soon as its gradient is complete, then free the gradient."""
    activation_checkpointing: Checkpointing = "none"
    """Modules whose activations are recomputed in backward: none, full (all repeated blocks of the model), every-K
    (each K-th of them), or a pattern for names of modules, such as "layer3.*"."""
    gradient_accumulation_steps: Count = 1
    """Micro-batches per optimizer step; a batch size is always that of one micro-batch."""
    channels_last: bool = False
    """Use the channels-last memory format for images and convolutions, which suits tensor cores."""
    compile: bool = False
    """Compile the model with torch.compile (real GPUs only)."""
    freeze: tuple[str, ...] = ()
    """Patterns for names of parameters that are not trained, such as ["features.*"]."""
    ema: bool = False
    """Keep an exponential moving average of the weights on the device: one more copy of the model."""
    clip_grad_norm: float | None = Field(default=None, gt=0)
    """Maximum norm of all gradients, clipped before the optimizer's step; null for no clipping."""

    @field_validator("freeze", mode="before")
    @classmethod
    def _one_pattern_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class SearchConfig(Section):
    """The search for the largest batch."""

    steps: int = Field(default=3, ge=2, le=1_000_000)
    """Steps per trial; the optimizer's state exists only from the second on."""
    limit_to_dataset: bool = True
    """Never try a batch larger than the data set."""
    max_batch_size: Count | None = None
    """Largest batch size to try."""
    tolerance: Fraction = 0.0
    """Allowed distance of the answer from the largest size, as a fraction; 0 for the exact size."""
    only_multiples_of: Count = 1
    """Sizes that the training accepts: only multiples of this are tried. At 1, vram finds out."""
    multiple_of: Count = 8
    """The recommended size is a multiple of this."""
    margin: Fraction = 0.05
    """Fraction of the memory that the recommended size leaves free."""
    time_limit: Seconds | None = None
    """Time limit of the whole search in seconds; null for none."""
    trial_timeout: Seconds = 900.0
    """Time limit of one trial in seconds."""
    objective: Literal["largest", "throughput"] = "largest"
    """throughput: also time steps at sizes up to the largest (real trials only)."""

    @model_validator(mode="after")
    def _a_size_remains(self) -> SearchConfig:
        if self.max_batch_size is not None and self.max_batch_size < self.only_multiples_of:
            hint = f"lower it, or raise search.max_batch_size to {self.only_multiples_of:,} or more"
            problem = f"no multiple of {self.only_multiples_of:,} is at most max_batch_size, {self.max_batch_size:,}"
            raise invalid(problem, hint, key="only_multiples_of")
        return self


class DeviceConfig(Section):
    """The device of the trials. `device: cuda:0` is short for `device: {name: cuda:0}`."""

    name: DeviceName = "auto"
    """auto, cpu, cuda, cuda:N, mps or xpu; a ROCm GPU is cuda."""
    memory_limit: Size | None = None
    """Memory limit, such as 8GiB; null for all memory of the device."""
    gpu: str | None = Field(default=None, min_length=1)
    """GPU to predict for instead of measuring, such as rtx-4090; `vram gpus` lists them."""
    engine: Literal["virtual-gpu", "fake-tensors"] | None = None
    """Engine of predictions; null takes the virtual GPU where it can run, fake tensors elsewhere."""
    overhead: Size | None = None
    """For predictions: memory outside PyTorch's allocator (context, display, other processes); null for the context."""
    expandable_segments: bool = False
    """The CUDA allocator's option of the same name, which reduces fragmentation."""
    cudnn_benchmark: bool = False
    """torch.backends.cudnn.benchmark: the first step tries all algorithms of a convolution and keeps the fastest."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _measured_or_predicted(self) -> DeviceConfig:
        if self.gpu and self.name != "auto":
            hint = f"remove gpu to measure on {self.name}, or set name: auto to predict"
            raise invalid(f"a prediction for {self.gpu} needs no device, got name: {self.name}", hint, key="gpu")
        return self
