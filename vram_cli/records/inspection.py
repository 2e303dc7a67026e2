"""The answer of `vram inspect`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vram_cli.records.enums import SCHEMA_VERSION
from vram_cli.records.run_info import DataInfo, TensorInfo


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """A tensor of a batch as it is trained on, in bytes."""

    info: TensorInfo
    sample_bytes: int
    batch_bytes: int
    """Of as many samples as `DataFacts.batch_size` says."""


@dataclass(frozen=True, kw_only=True)
class StoredFacts:
    """Images as their files have them, and what normalising makes of their values."""

    dtype: str
    sample_bytes: int
    low: int
    """The smallest pixel value."""
    high: int
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to 0..1: taken off them, and what is left is divided by `std`."""
    std: tuple[float, ...]
    trained_low: float
    """What `low` becomes; where channels differ, in the one where that is least."""
    trained_high: float
    measured: bool
    """Whether `low` and `high` were read from files; otherwise they are the ends of what `dtype` can say."""


@dataclass(frozen=True, kw_only=True)
class ClassFacts:
    """A class of a data set."""

    name: str
    count: int | None
    """Samples of it; None where there are no files to count in."""


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The data as `vram inspect` shows it."""

    info: DataInfo
    mode: str
    """"gray", "colour" or such as "4 channels"; "" for data that are no images."""
    batch_size: int
    tensors: tuple[TensorFacts, ...]
    """All of a batch, targets included."""
    stored: StoredFacts | None
    """None for data that vram knows no files of."""
    classes: tuple[ClassFacts, ...]
    """In the order of their labels; empty where nobody says what they are called."""

    @property
    def sample_bytes(self) -> int:
        """What a sample takes in a batch, targets included."""
        return sum(tensor.sample_bytes for tensor in self.tensors)

    @property
    def batch_bytes(self) -> int:
        """What a batch takes, targets included."""
        return sum(tensor.batch_bytes for tensor in self.tensors)


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """A module of the model, with all that is in it."""

    path: str
    """As in `named_modules`; "" for the whole model."""
    kind: str
    """The name of its class."""
    output_shape: tuple[int, ...] | None
    """Of the first of its outputs that is no single number, at its last call; None where that is not known."""
    calls: int
    """How often one forward pass calls it."""
    parameters: int
    """A parameter that several modules share counts in each of them, and once in what holds them all."""
    trainable_parameters: int
    bytes: int
    """Of its parameters."""

    @property
    def depth(self) -> int:
        """How many modules it is in."""
        return self.path.count(".") + 1 if self.path else 0

    @property
    def trained(self) -> str:
        """ "yes", "no" (frozen), "partly", or "" where there is nothing to train."""
        if not self.parameters:
            return ""
        if self.trainable_parameters == self.parameters:
            return "yes"
        return "partly" if self.trainable_parameters else "no"


@dataclass(frozen=True, kw_only=True)
class DtypeFacts:
    """All tensors of a model that have one dtype."""

    dtype: str
    parameters: int
    parameter_bytes: int
    buffers: int
    """Their elements, as `parameters` counts those of parameters."""
    buffer_bytes: int


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The model as `vram inspect` shows it. A tensor that several modules share is counted once here."""

    name: str
    """As the config has it."""
    layers: tuple[LayerFacts, ...]
    """The model first, each module before those in it, all in the order in which the model lists them."""
    dtypes: tuple[DtypeFacts, ...]
    trainable_parameters: int
    batch_size: int | None
    """Of the batch that the output shapes are for; None where the model could not be run."""
    notes: tuple[str, ...] = ()
    """What a reader should know: how the model was run, or why it was not; one sentence each."""

    @property
    def parameters(self) -> int:
        """Elements of all parameters."""
        return sum(found.parameters for found in self.dtypes)


@dataclass(frozen=True, kw_only=True)
class ImageSample:
    """An image of the data as it is stored, to be looked at."""

    label: int
    """Which of `DataFacts.classes` it is of."""
    shape: tuple[int, int, int]
    """Height, width, channels."""
    pixels: tuple[int, ...]
    """0 to 255, row by row, the channels of a pixel side by side."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a config trains, and on what: the answer of `vram inspect`."""

    config_name: str
    config: dict[str, Any]
    overrides: tuple[str, ...]
    data: DataFacts
    model: ModelFacts
    versions: dict[str, str]
    samples: tuple[ImageSample, ...] = ()
    """As many of each class as were asked for; none of data without image files."""
    schema_version: int = field(default=SCHEMA_VERSION)
