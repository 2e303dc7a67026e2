"""The answer of `vram inspect`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from vram_cli.module_paths import path_depth
from vram_cli.records.enums import SCHEMA_VERSION
from vram_cli.records.run_info import DataInfo, TensorInfo


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """A tensor of a batch and its size in bytes."""

    info: TensorInfo
    sample_bytes: int
    batch_bytes: int
    """Bytes for a batch of `DataFacts.batch_size`."""


@dataclass(frozen=True, kw_only=True)
class StoredFacts:
    """Images as stored in their files, and their values after normalisation."""

    dtype: str
    sample_bytes: int
    low: int
    """The smallest pixel value."""
    high: int
    mean: tuple[float, ...]
    """Mean per channel of pixels scaled to 0..1; normalisation subtracts it and divides by `std`."""
    std: tuple[float, ...]
    trained_low: float
    """The smallest value after normalisation, over all channels."""
    trained_high: float
    measured: bool
    """Whether `low` and `high` were read from files; if not, they are the limits of `dtype`."""


@dataclass(frozen=True, kw_only=True)
class ClassFacts:
    """A class of a data set."""

    name: str
    count: int | None
    """Number of samples; None without files to count them in."""


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The data set of a config."""

    info: DataInfo
    mode: str
    """"gray", "colour" or such as "4 channels"; "" for data other than images."""
    batch_size: int
    tensors: tuple[TensorFacts, ...]
    """The tensors of a batch, targets included."""
    stored: StoredFacts | None
    """None for data sets without image files."""
    classes: tuple[ClassFacts, ...]
    """In the order of their labels; empty if they have no names."""

    @property
    def sample_bytes(self) -> int:
        """Bytes per sample of a batch, targets included."""
        return sum(tensor.sample_bytes for tensor in self.tensors)

    @property
    def batch_bytes(self) -> int:
        """Bytes of a batch, targets included."""
        return sum(tensor.batch_bytes for tensor in self.tensors)


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """A module of the model, submodules included."""

    path: str
    """As in `named_modules`; "" for the whole model."""
    kind: str
    """The name of its class."""
    output_shape: tuple[int, ...] | None
    """Shape of its first output that is not a scalar, at its last call; None if not known."""
    calls: int
    """Calls per forward pass."""
    parameters: int
    """Number of parameters. One shared by several modules counts in each of them, and once in their common parent."""
    trainable_parameters: int
    bytes: int
    """Bytes of its parameters."""

    @property
    def depth(self) -> int:
        """Number of modules around it."""
        return path_depth(self.path)

    @property
    def trained(self) -> str:
        """ "yes", "no" (frozen), "partly", or "" without parameters."""
        if not self.parameters:
            return ""
        if self.trainable_parameters == self.parameters:
            return "yes"
        return "partly" if self.trainable_parameters else "no"


@dataclass(frozen=True, kw_only=True)
class DtypeFacts:
    """The parameters and buffers of a model that have one dtype."""

    dtype: str
    parameters: int
    parameter_bytes: int
    buffers: int
    """Number of elements of buffers."""
    buffer_bytes: int


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The model of a config. A tensor shared by several modules is counted once."""

    name: str
    """As in the config."""
    layers: tuple[LayerFacts, ...]
    """The model first, each module before its submodules, in the model's own order."""
    dtypes: tuple[DtypeFacts, ...]
    trainable_parameters: int
    batch_size: int | None
    """Batch size of the output shapes; None if the model could not be run."""
    notes: tuple[str, ...] = ()
    """How the model was run, or why it was not; one sentence each."""

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(facts.parameters for facts in self.dtypes)


@dataclass(frozen=True, kw_only=True)
class ImageSample:
    """An image of the data set, as stored."""

    label: int
    """Index of its class in `DataFacts.classes`."""
    shape: tuple[int, int, int]
    """Height, width, channels."""
    pixels: tuple[int, ...]
    """0 to 255, row by row, the channels of a pixel together."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The model and the data of a config: the answer of `vram inspect`."""

    command: Literal["inspect"] = "inspect"
    config_name: str
    config: dict[str, Any]
    overrides: tuple[str, ...]
    data: DataFacts
    model: ModelFacts
    versions: dict[str, str]
    samples: tuple[ImageSample, ...] = ()
    """The number per class that was asked for; empty for data without image files."""
    schema_version: int = field(default=SCHEMA_VERSION)
