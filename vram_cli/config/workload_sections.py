"""The sections on what is trained: one of vram's own models and data sets, or code that the config names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from vram_cli.config.data_presets import DATA_PRESETS
from vram_cli.config.section import Section
from vram_cli.config.value_types import Arguments, CodeReference, Count, Folder, Shape, Sizes, invalid

ModelName = Literal["mlp", "cnn", "resnet18", "resnet50"]
DataName = Literal["mnist", "fashion_mnist", "cifar10", "synthetic"]
Dtype = Literal["float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool"]

# What torch.Tensor.random_ takes: from the first number on, below the second.
_RANGES = {"int64": (-(2**63), 2**63 - 1), "int32": (-(2**31), 2**31), "uint8": (0, 256), "bool": (0, 2)}
_MOST_BY_ITSELF = 256
"""With fewer values than this, all of them are allowed where nobody says which."""


class ModelConfig(Section):
    """The model that is trained. One of vram's own follows the data; one by `factory` is taken as it is."""

    choices: ClassVar[tuple[str, ...]] = ("name", "factory")
    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {"hidden": ("mlp",), "kwargs": ("factory",)}

    name: ModelName | None = None
    """One of vram's own: input size and number of classes follow the data."""
    hidden: Count = 128
    """Width of the hidden layer (mlp only)."""
    factory: CodeReference | None = None
    """Code that makes the model: package.module:factory, or torchvision:NAME, timm:NAME, transformers:NAME."""
    kwargs: Arguments = Field(default_factory=dict)
    """Arguments for the factory; for transformers, settings of the model's config."""


class TensorConfig(Section):
    """A tensor that a batch has: its sizes are those of one sample."""

    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {"low": tuple(_RANGES), "high": tuple(_RANGES)}

    shape: Sizes
    """Sizes without the batch dimension; where lengths vary, the longest."""
    dtype: Dtype = "float32"
    """Of its elements; with precision bf16, float32 becomes bfloat16."""
    low: int = 0
    """Smallest value (whole numbers only)."""
    high: int | None = None
    """All values are below this, such as the size of the vocabulary or the number of classes (whole numbers only)."""

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> TensorConfig:
        if self.dtype not in _RANGES:
            return self
        low, most = _RANGES[self.dtype]
        if not low <= self.low < most:
            raise invalid(f"must be from {low} to {most - 1} for {self.dtype}, got {self.low}", key="low")
        if self.high is None:
            if most > _MOST_BY_ITSELF:
                raise invalid("is missing: nobody knows which values are allowed", "such as high: 50257", key="high")
        elif self.high <= self.low:
            raise invalid(f"must be above low, {self.low}, got {self.high}", key="high")
        elif self.high > most:
            raise invalid(f"must be at most {most} for {self.dtype}, got {self.high}", key="high")
        return self

    @property
    def kind(self) -> Dtype:
        """The dtype: whole numbers have a range."""
        return self.dtype

    @property
    def values(self) -> tuple[int, int]:
        """Whole numbers only: the smallest value, and what all values are below."""
        return self.low, _RANGES[self.dtype][1] if self.high is None else self.high


class DataConfig(Section):
    """What the batches are made of."""

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
    """A data set of images that vram knows, or images of a shape that is made up."""
    source: Literal["auto", "files", "synthetic"] = "auto"
    """auto takes the files where they lie under root, and otherwise made-up images of the same shape and type."""
    root: Folder = "data"
    """Folder of the data set's files, relative to the current folder."""
    shape: Shape | None = None
    """Channels, height and width of one sample (synthetic only)."""
    classes: Count | None = None
    """Number of classes (synthetic only)."""
    inputs: dict[str, TensorConfig] | None = Field(default=None, min_length=1)
    """Tensors that the model is called with, by the names of its arguments; made up."""
    targets: TensorConfig | None = None
    """What the loss compares the model's output with, beside inputs; null where the model makes its own loss."""
    factory: CodeReference | None = None
    """Code that makes batches: a function whose first argument is n or batch_size, a Dataset, or what returns one."""
    kwargs: Arguments = Field(default_factory=dict)
    """Arguments for the factory."""
    collate_fn: CodeReference | None = None
    """Joins the samples of a Dataset to a batch; null for PyTorch's own way."""
    num_samples: Count | None = None
    """Length of the data set where nobody else knows it, which caps the batch; null for no end."""

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
            raise invalid("synthetic data has no files", "leave it out, or name a data set that has", key="source")
        return self

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image; only where the data has a name."""
        return self.shape or DATA_PRESETS[self._known_name()].shape

    @property
    def num_classes(self) -> int:
        """Number of classes; only where the data has a name."""
        return self.classes or DATA_PRESETS[self._known_name()].classes

    @property
    def length(self) -> int | None:
        """Number of training samples, as far as the config tells; None for data without an end."""
        return self.num_samples if self.name in (None, "synthetic") else DATA_PRESETS[self._known_name()].num_samples

    def _known_name(self) -> str:
        if self.name is None:
            raise ValueError("data without a name has no images that a preset could know")
        return self.name


class LossConfig(Section):
    """The loss. `loss: model` is short for `loss: {name: model}`."""

    choices: ClassVar[tuple[str, ...]] = ("name", "factory")
    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {"kwargs": ("factory",)}

    name: Literal["cross_entropy", "model"] | None = None
    """model: the model is called with the whole batch and returns its loss, an output with one, or a dict of losses."""
    factory: CodeReference | None = None
    """Code of a loss(output, targets), or a class that makes one, such as torch.nn:BCEWithLogitsLoss."""
    kwargs: Arguments = Field(default_factory=dict)
    """Arguments for a class, or further ones for a function."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given


class StepConfig(Section):
    """A training step of one's own. `step: module:name` is short for `step: {function: module:name}`."""

    choices: ClassVar[tuple[str, ...]] = ("function",)

    function: CodeReference
    """step(model, batch, optimizer) -> loss: zero_grad, forward, backward and optimizer.step, all of it."""

    @model_validator(mode="before")
    @classmethod
    def _bare_target(cls, given: Any) -> Any:
        return {"function": given} if isinstance(given, str) else given
