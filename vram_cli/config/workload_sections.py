"""The sections about model, data, loss and step: presets, or code that the config names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from vram_cli.config.data_presets import DATA_PRESETS
from vram_cli.config.section import Section
from vram_cli.config.value_types import MAX_ELEMENTS, Arguments, CodeReference, Count, Folder, Shape, Sizes, invalid

ModelName = Literal["mlp", "cnn", "resnet18", "resnet50"]
DataName = Literal["mnist", "fashion_mnist", "cifar10", "synthetic"]
Dtype = Literal["float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool"]

# The range of torch.Tensor.random_: from the first number, below the second.
_RANGES = {"int64": (-(2**63), 2**63 - 1), "int32": (-(2**31), 2**31), "uint8": (0, 256), "bool": (0, 2)}
_MAX_DEFAULT_RANGE = 256
"""A dtype with at most this many values needs no `high`."""


class ModelConfig(Section):
    """The model: a preset that follows the data, or the result of a factory."""

    choices: ClassVar[tuple[str, ...]] = ("name", "factory")
    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {"hidden": ("mlp",), "kwargs": ("factory",)}

    name: ModelName | None = None
    """A preset; its input size and number of classes follow the data."""
    hidden: Count = 128
    """Width of the hidden layer (mlp only)."""
    factory: CodeReference | None = None
    """Code that makes the model: package.module:name, torchvision:NAME, timm:NAME or transformers:NAME."""
    kwargs: Arguments = Field(default_factory=dict)
    """Arguments for the factory; for transformers, settings of the model's config."""


class TensorConfig(Section):
    """A tensor of the batch."""

    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {"low": tuple(_RANGES), "high": tuple(_RANGES)}

    shape: Sizes
    """Sizes of one sample, without the batch dimension; if lengths vary, the longest."""
    dtype: Dtype | None = None
    """Type of the elements; null for that of the model's weights. With precision bf16, float32 becomes bfloat16."""
    low: int = 0
    """Smallest value (whole numbers only)."""
    high: int | None = None
    """Upper bound of the values, exclusive, such as the number of classes or of tokens (whole numbers only)."""

    @model_validator(mode="after")
    def _size_can_be_counted(self) -> TensorConfig:
        if math.prod(self.shape) > MAX_ELEMENTS:
            raise invalid("is larger than PyTorch can count: the tensor would have 2**63 bytes or more", key="shape")
        return self

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> TensorConfig:
        if self.dtype is None or self.dtype not in _RANGES:
            return self
        lowest, end = _RANGES[self.dtype]
        if not lowest <= self.low < end:
            raise invalid(f"must be from {lowest} to {end - 1} for {self.dtype}, got {self.low}", key="low")
        if self.high is None:
            if end > _MAX_DEFAULT_RANGE:
                raise invalid("is missing: it bounds the random values", "such as high: 50257", key="high")
        elif self.high <= self.low:
            raise invalid(f"must be above low, {self.low}, got {self.high}", key="high")
        elif self.high > end:
            raise invalid(f"must be at most {end} for {self.dtype}, got {self.high}", key="high")
        return self

    @property
    def kind(self) -> Dtype:
        """The dtype, float32 unless the model decides: only whole numbers have a range."""
        return self.dtype or "float32"

    @property
    def values(self) -> tuple[int, int]:
        """Whole numbers only: the smallest value and the exclusive upper bound."""
        return self.low, _RANGES[self.kind][1] if self.high is None else self.high


class DataConfig(Section):
    """The data of the batches."""

    choices: ClassVar[tuple[str, ...]] = ("name", "inputs", "factory")
    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "source": get_args(DataName),
        "root": get_args(DataName),
        "shape": ("synthetic",),
        "classes": ("synthetic",),
        "num_samples": ("synthetic", "inputs", "factory"),
        "targets": ("inputs",),
        "kwargs": ("factory",),
        "collate_fn": ("factory",),
    }

    name: DataName | None = None
    """A preset data set of images, or synthetic images of any shape."""
    source: Literal["auto", "files", "synthetic"] = "auto"
    """auto uses the files under root if they exist, and otherwise synthetic images of the same shape and type."""
    root: Folder = "data"
    """Folder of the data set's files, relative to the current folder."""
    shape: Shape | None = None
    """Channels, height and width of one sample (synthetic only)."""
    classes: Count | None = None
    """Number of classes (synthetic only)."""
    inputs: dict[str, TensorConfig] | None = Field(default=None, min_length=1)
    """Synthetic tensors to call the model with, by the names of its arguments."""
    targets: TensorConfig | None = None
    """The synthetic targets of the loss, in addition to inputs; null if the model makes its own loss."""
    factory: CodeReference | None = None
    """Code of the data: a function whose first parameter is n or batch_size, or one that returns a Dataset, a stream
    (an IterableDataset or a generator) or a DataLoader."""
    kwargs: Arguments = Field(default_factory=dict)
    """Arguments for the factory."""
    collate_fn: CodeReference | None = None
    """Code that collates samples into a batch; null for the DataLoader's own, or else PyTorch's default_collate."""
    num_samples: Count | None = None
    """Length of the data set, which limits the batch size; null for its own length, if it has one."""

    @model_validator(mode="after")
    def _synthetic_is_described(self) -> DataConfig:
        if self.name != "synthetic":
            return self
        for key, example in (("shape", "[3, 224, 224]"), ("classes", "1000")):
            if getattr(self, key) is None:
                raise invalid(
                    "is missing: synthetic data has no shape of its own", f"such as {key}: {example}", key=key
                )
        if self.source == "files":
            raise invalid("synthetic data has no files", "remove it, or name a data set with files", key="source")
        return self

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image; for named data only."""
        return self.shape or DATA_PRESETS[self._require_name()].shape

    @property
    def num_classes(self) -> int:
        """Number of classes; for named data only."""
        return self.classes or DATA_PRESETS[self._require_name()].classes

    @property
    def length(self) -> int | None:
        """Number of training samples, if the config determines it; None for no limit."""
        return self.num_samples if self.name in (None, "synthetic") else DATA_PRESETS[self._require_name()].num_samples

    def _require_name(self) -> str:
        if self.name is None:
            raise ValueError("data without a name has no preset")
        return self.name


class LossConfig(Section):
    """The loss function. `loss: model` is short for `loss: {name: model}`."""

    choices: ClassVar[tuple[str, ...]] = ("name", "factory")
    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {"kwargs": ("factory",)}

    name: Literal["cross_entropy", "model"] | None = None
    """model: the model gets the whole batch and returns its loss, an output with a loss, or a dict of losses."""
    factory: CodeReference | None = None
    """Code of the loss: a function of (output, targets), or a class such as torch.nn:BCEWithLogitsLoss."""
    kwargs: Arguments = Field(default_factory=dict)
    """Arguments for a class, or further arguments for a function."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class StepConfig(Section):
    """A custom training step. `step: module:name` is short for `step: {function: module:name}`."""

    choices: ClassVar[tuple[str, ...]] = ("function",)

    function: CodeReference
    """A function step(model, batch, optimizer) -> loss that does zero_grad, forward, backward and optimizer.step."""

    @model_validator(mode="before")
    @classmethod
    def _bare_reference(cls, value: Any) -> Any:
        return {"function": value} if isinstance(value, str) else value
