"""The sections of a config: their keys, defaults, and which of them go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from vram_cli.config.fields import Count, DeviceName, Folder, Seconds, Shape, Share, Size, wrong
from vram_cli.config.presets import DATA_PRESETS
from vram_cli.config.section import Section

ModelName = Literal["mlp", "cnn", "resnet18", "resnet50"]
DataName = Literal["mnist", "fashion_mnist", "cifar10", "synthetic"]
OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]
Precision = Literal["fp32", "tf32", "amp-bf16", "amp-fp16", "bf16"]

_ADAMW_WEIGHT_DECAY = 0.01  # PyTorch's default for AdamW; for every other optimizer it is 0


class ModelConfig(Section):
    """The model that is trained; its input size and classes follow the data."""

    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {"hidden": ("mlp",)}

    name: ModelName
    hidden: Count = 128
    """Width of the hidden layer (mlp only)."""


class DataConfig(Section):
    """What the batches are made of."""

    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "shape": ("synthetic",),
        "classes": ("synthetic",),
        "num_samples": ("synthetic",),
    }

    name: DataName
    source: Literal["auto", "files", "synthetic"] = "auto"
    """auto takes the files where they lie under root, and otherwise made-up images of the same shape and type."""
    root: Folder = "data"
    """Folder of the data set's files, relative to the current folder."""
    shape: Shape | None = None
    """Channels, height and width of one sample (synthetic only)."""
    classes: Count | None = None
    """Number of classes (synthetic only)."""
    num_samples: Count | None = None
    """Length of the pretended data set, which caps the batch; null for no end (synthetic only)."""

    @model_validator(mode="after")
    def _synthetic_is_described(self) -> DataConfig:
        if self.name != "synthetic":
            return self
        for key, example in (("shape", "[3, 224, 224]"), ("classes", "1000")):
            if getattr(self, key) is None:
                raise wrong("is missing: synthetic data has no shape of its own", f"such as {key}: {example}", key=key)
        if self.source == "files":
            raise wrong("synthetic data has no files", "leave it out, or name a data set that has", key="source")
        return self

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one sample."""
        return self.shape or DATA_PRESETS[self.name].shape

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.classes or DATA_PRESETS[self.name].classes

    @property
    def length(self) -> int | None:
        """Number of training samples; None for synthetic data without an end."""
        return self.num_samples if self.name == "synthetic" else DATA_PRESETS[self.name].num_samples


class OptimizerConfig(Section):
    """The optimizer; its state is often the largest part of the memory that does not grow with the batch."""

    # As in torch 2.9 to 2.14: RMSprop has no `fused` argument, and only SGD has `nesterov`.
    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "momentum": ("sgd", "rmsprop"),
        "nesterov": ("sgd",),
        "fused": ("sgd", "adam", "adamw", "adagrad"),
    }

    name: OptimizerName
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

    @model_validator(mode="before")
    @classmethod
    def _adamw_decays(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("name") == "adamw":
            return {"weight_decay": _ADAMW_WEIGHT_DECAY, **given}
        return given

    @model_validator(mode="after")
    def _settings_agree(self) -> OptimizerConfig:
        if self.foreach and self.fused:
            raise wrong("fused and foreach cannot both be true", "leave one of them out", key="fused")
        if self.nesterov and self.momentum == 0:
            raise wrong("needs momentum above 0", "such as momentum: 0.9", key="nesterov")
        return self


class TrainConfig(Section):
    """What you train with today."""

    batch_size: Count = 128
    """The batch size that a breakdown is made for."""
    learning_rate: float = Field(default=0.01, gt=0)
    """The learning rate that goes with batch_size."""
    zero_grad: Literal["none", "zero"] = "none"
    """none frees gradients before the forward pass, as PyTorch does; zero keeps them and fills them with zeros."""


class SearchConfig(Section):
    """How the largest batch is looked for."""

    steps: int = Field(default=3, ge=2)
    """Full training steps a trial; the optimizer's state is there from the second on only."""
    cap: Literal["dataset", "none"] = "dataset"
    """dataset: never larger than the data set."""
    max: Count | None = None
    """Largest size to try."""
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


class DeviceConfig(Section):
    """Where the trials run. `device: cuda:0` is short for `device: {name: cuda:0}`."""

    name: DeviceName = "auto"
    """auto, cpu, cuda, cuda:N, mps or xpu; a ROCm GPU is cuda."""
    budget: Size | None = None
    """Memory to stay within, such as 8GiB; null for all there is."""
    gpu: str | None = Field(default=None, min_length=1)
    """A card to predict for instead of measuring, such as rtx-4090; `vram gpus` lists them."""
    overhead: Size | None = None
    """Predictions: memory outside PyTorch's allocator (context, display, other processes); null for the card's own."""
    expandable_segments: bool = False
    """The CUDA allocator's option of that name: less fragmentation."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _measured_or_predicted(self) -> DeviceConfig:
        if self.gpu and self.name != "auto":
            hint = f"leave gpu out to measure on {self.name}, or set name: auto to predict"
            raise wrong(f"a prediction for {self.gpu} needs no device, got name: {self.name}", hint, key="gpu")
        return self
