"""The records that travel through vram: frozen, and bytes are `int`.

`Measurement` is what a probe says of one batch size, `SearchResult` what the search concludes from many, `Result` what
a command answers, saves and draws. Where a number comes from is part of the record: `Device.kind` says real or
simulated, `extrapolated_batch_size` is kept apart from sizes that ran.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

SCHEMA_VERSION = 1


class Outcome(str, Enum):
    """How a trial ended."""

    FITS = "fits"
    OUT_OF_MEMORY = "out_of_memory"
    """The device, or the budget that stands for it, had no memory left."""
    KERNEL_LIMIT = "kernel_limit"
    """A kernel refused the size: grid dimensions, 32-bit indices, an unsupported shape."""
    HOST_MEMORY = "host_memory"
    """The computer's own RAM, not the device, was about to run out."""
    KILLED = "killed"
    """The process of the trial died: a signal, a crash in a driver."""
    TIMED_OUT = "timed_out"
    """The trial was stopped because its time was over."""
    ERROR = "error"
    """The user's own code raised something that has nothing to do with memory."""


class Phase(str, Enum):
    """Where in a trial something happened, in the order in which they run."""

    BUILD = "build"
    """Model and optimizer are made and moved to the device."""
    BATCH = "batch"
    """The batch is collated and moved to the device."""
    FORWARD = "forward"
    """Model and loss."""
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"
    """The optimizer's step, with unscaling where a gradient scaler is used."""


class Limit(str, Enum):
    """What stopped the search from going higher."""

    MEMORY = "memory"
    DATASET = "dataset"
    """The data set has no more samples than that."""
    CAP = "cap"
    """The user's own maximum."""
    KERNEL_LIMIT = "kernel_limit"
    HOST_MEMORY = "host_memory"
    TIME = "time"
    ERROR = "error"
    """The user's own code raises at larger sizes, for a reason other than memory."""


class Category(str, Enum):
    """The rows of a breakdown, in the order in which they are shown. Together they are the device's whole memory."""

    PARAMETERS = "parameters"
    """Parameters and buffers of the model."""
    GRADIENTS = "gradients"
    """Gradients of parameters; gradients of activations are temporaries."""
    OPTIMIZER_STATE = "optimizer_state"
    BATCH_DATA = "batch_data"
    ACTIVATIONS = "activations"
    """Made in the forward pass and still alive when it ends: what the backward pass needs."""
    TEMPORARIES = "temporaries"
    """Everything else that a step allocates for a while, workspaces of cuBLAS and cuDNN among it."""
    ALLOCATOR_SLACK = "allocator_slack"
    """Reserved by the allocator and not handed out: rounding, fragmentation, cached blocks."""
    CONTEXT = "context"
    """Outside PyTorch's allocator: the CUDA context, libraries, other processes on the same device."""
    FREE = "free"


@dataclass(frozen=True, kw_only=True)
class PhasePeak:
    """The highest memory within one phase, over all steps of a trial."""

    phase: Phase
    allocated_bytes: int
    """Handed out to tensors. Grows smoothly with the batch."""
    reserved_bytes: int
    """Taken from the device by the allocator; it is this that runs out. Grows in lumps."""


@dataclass(frozen=True, kw_only=True)
class BreakdownRow:
    """One category and its bytes."""

    category: Category
    bytes: int


@dataclass(frozen=True, kw_only=True)
class ModuleShare:
    """What a module and all that it contains hold at the moment of highest use.

    Raises:
        ValueError: `by_category` does not add up to `bytes`.
    """

    path: str
    """As in `named_modules`, such as "layer1.0.conv1"; "" is the model with all that belongs to no part of it: the
    batch, the loss, the optimizer's temporaries."""
    bytes: int
    by_category: dict[Category, int]

    def __post_init__(self) -> None:
        if sum(self.by_category.values()) != self.bytes:
            raise ValueError(f"categories of module {self.path!r} do not add up to {self.bytes} bytes")


@dataclass(frozen=True, kw_only=True)
class TimelinePoint:
    """What tensors hold at one moment of a step."""

    event: int
    """How many allocations and frees of the step came before."""
    phase: Phase
    by_category: dict[Category, int]
    """Bytes; categories that hold nothing are left out."""

    @property
    def bytes(self) -> int:
        """What all tensors hold together."""
        return sum(self.by_category.values())


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Memory over one step of a training that has settled, `zero_grad` before the forward pass included.

    What kernels take for themselves is in it only where it was predicted: on a real device nobody sees when.

    Raises:
        ValueError: there are no points.
    """

    points: tuple[TimelinePoint, ...]
    """In order. Of a long step, the highest of each run of events; the highest of all is always among them."""
    events: int
    """Allocations and frees of the whole step."""

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a timeline has at least one point")

    @property
    def peak(self) -> TimelinePoint:
        """The moment of highest use."""
        return max(self.points, key=lambda point: point.bytes)


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """Where the device's memory was at the moment of highest use.

    Raises:
        ValueError: the rows do not add up to `total_bytes`, or the modules not to the rows of what tensors hold, or
            they are no tree.
    """

    batch_size: int
    rows: tuple[BreakdownRow, ...]
    """One row for each `Category`, in its order."""
    total_bytes: int
    """The device's memory, or the budget that stands for it."""
    peak_phase: Phase
    """The phase in which use was highest."""
    modules: tuple[ModuleShare, ...] = ()
    """The whole model first, each module before those in it and the largest first; empty unless asked for."""
    timeline: Timeline | None = None
    """Only where it was asked for."""

    def __post_init__(self) -> None:
        added = sum(row.bytes for row in self.rows)
        if added != self.total_bytes:
            raise ValueError(f"breakdown rows add up to {added}, not to {self.total_bytes} bytes")
        if self.modules and self.modules[0].bytes != self.tensor_bytes:
            raise ValueError(f"modules hold {self.modules[0].bytes} bytes, tensors {self.tensor_bytes}")
        known = {""}
        for share in self.modules[1:]:
            if share.path in known or share.path.rpartition(".")[0] not in known:
                raise ValueError(f"module {share.path!r} is there twice, or before the one that it is in")
            known.add(share.path)

    @property
    def tensor_bytes(self) -> int:
        """What tensors and workspaces asked for: all but the allocator's slack, what lies outside it, and the rest."""
        beside = (Category.ALLOCATOR_SLACK, Category.CONTEXT, Category.FREE)
        return sum(row.bytes for row in self.rows if row.category not in beside)

    def bytes_of(self, category: Category) -> int:
        """Return the bytes of one category, 0 where it has no row."""
        return sum(row.bytes for row in self.rows if row.category is category)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a probe says of one batch size."""

    batch_size: int
    outcome: Outcome
    phase: Phase | None = None
    """The phase that failed; None where the trial fits, or where nobody can tell (a killed process)."""
    peaks: tuple[PhasePeak, ...] = ()
    """Peaks of the phases that ran, the failing one included as far as it came."""
    resident_bytes: int = 0
    """Allocated as a forward pass begins, without the batch: parameters, buffers, optimizer state, and no gradients
    (`zero_grad` has freed them). What does not grow with the batch; 0 where not known."""
    allocator_retries: int = 0
    """How often the allocator had to give its cache back to go on: above 0, the size runs but thrashes."""
    steps: int = 0
    """Full training steps that ran to the end."""
    seconds: float = 0.0
    """The whole trial, building included."""
    step_seconds: float | None = None
    """The fastest full step; None where none ran."""
    message: str = ""
    """The exception's own words, or what is known of the process's end."""
    traceback: str = ""
    """The formatted traceback, where an exception was raised."""
    requested_bytes: int | None = None
    """What the failing allocation asked for, where the allocator says it."""
    flops: int | None = None
    """Predictions: floating-point operations of one step in matrix products, convolutions and attention, counted from
    shapes (torch.utils.flop_counter); a multiplication and its addition are two."""
    breakdown: Breakdown | None = None

    @property
    def fits(self) -> bool:
        """Whether all steps ran to the end."""
        return self.outcome is Outcome.FITS

    @property
    def thrashing(self) -> bool:
        """Whether it ran only because the allocator gave its cache back on the way."""
        return self.fits and self.allocator_retries > 0

    @property
    def peak_allocated_bytes(self) -> int:
        """The highest memory handed out to tensors, over all phases; 0 where nothing was measured."""
        return max((peak.allocated_bytes for peak in self.peaks), default=0)

    @property
    def peak_reserved_bytes(self) -> int:
        """The highest memory taken from the device, over all phases; 0 where nothing was measured."""
        return max((peak.reserved_bytes for peak in self.peaks), default=0)

    def peak_in(self, phase: Phase) -> PhasePeak | None:
        """Return the peak of one phase, or None where it was not measured."""
        return next((peak for peak in self.peaks if peak.phase is phase), None)


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The proof of an answer: `fits` ran to the end, `fails` did not."""

    fits: int
    steps: int
    """Full steps that `fits` ran."""
    fails: int | None = None
    """The smallest size that was run and did not fit; `fits` + 1 for an exact answer; None where a cap came first."""
    outcome: Outcome | None = None
    """How `fails` ended."""
    phase: Phase | None = None
    """Where `fails` ended."""
    message: str = ""
    """The words of the exception that ended `fails`."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found. Every size named here has run to the end, except `extrapolated_batch_size`."""

    max_batch_size: int | None
    """The largest size that ran; None where none did."""
    recommended_batch_size: int | None
    """The largest round size that ran and left the margin free; None where there is none."""
    limited_by: Limit | None
    """What stopped the search; None where it was interrupted."""
    certificate: Certificate | None
    """None where nothing ran."""
    trials: tuple[Measurement, ...]
    """Every trial, in the order in which they ran."""
    extrapolated_batch_size: int | None = None
    """What memory alone would allow, by a line through the peaks; never run. Only where another limit came first."""
    notes: tuple[str, ...] = ()
    """One sentence each on what a reader should know: thrashing, a size skipped, a tolerance."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """What the trials stood on."""

    kind: str
    """"real" or "simulated"."""
    name: str
    """Such as "NVIDIA A100-SXM4-80GB" or "CPU (AMD EPYC 7B13, 2 cores)"."""
    type: str
    """Such as "cuda:0" or "cpu"."""
    capacity_bytes: int
    """The memory that all rows of a breakdown add up to: the card's, or the budget where one was given."""
    budget_bytes: int | None = None
    """The budget the user gave; None for the whole device."""
    enforced_by: str = ""
    """What makes a trial fail at the limit, such as "RLIMIT_DATA" or "the CUDA allocator"."""
    other_processes: tuple[str, ...] = ()
    """Other processes that hold memory on the device, one line each."""
    accuracy: str = ""
    """Of a simulated device: how far such predictions were from measurements, and from which; one line."""


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A tensor of a batch, as one sample has it."""

    name: str
    """The argument's name, or where in the batch it lies, such as "[1].boxes"."""
    shape: tuple[int, ...]
    """Without the batch dimension."""
    dtype: str


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """The data that the batches were made of."""

    name: str
    source: str
    """"files", "synthetic", or "code" where the config names what makes the batches."""
    detail: str
    """Why this source, where the files lie, or which batch stands for data of varying length; one line."""
    tensors: tuple[TensorInfo, ...]
    """What the model is called with; targets of images are left out, `classes` tells them."""
    classes: int | None
    """Number of classes; None where nobody says so."""
    num_samples: int | None
    """Length of the data set; None where there is no such thing."""


@dataclass(frozen=True, kw_only=True)
class LeverAnswer:
    """What one change of the training would do to the largest batch."""

    name: str
    """Such as "gradient checkpointing, every block"."""
    sets: tuple[str, ...]
    """The change as overrides of the config, such as "train.checkpointing=full"; () for the training as it is."""
    price: str
    """What it costs, in words; "" where nothing is known to speak against it."""
    max_batch_size: int | None = None
    """The largest batch with it; None where nothing fits, or where it could not be tried."""
    pieces: int = 1
    """How many times as many of these batches there are to a step of the optimizer as without it."""
    saved_bytes: int | None = None
    """What it leaves free at `Advice.at_batch_size`, below 0 what it takes; None where that was not measured."""
    saved_from: Category | None = None
    """The row of the breakdown that changes most."""
    compute: float | None = None
    """Floating-point operations a step, as a part of those without it; counted from shapes, predictions only."""
    seconds: float | None = None
    """Seconds a step, as a part of those without it; measured, real trials only."""
    helps: bool = False
    why: str = ""
    """Where it does not help: why."""


@dataclass(frozen=True, kw_only=True)
class SplitAnswer:
    """How a batch that does not fit, or that is wanted, is made of smaller ones."""

    wanted: int
    micro_batch_size: int | None
    """What is in memory at once; None where even one sample does not fit."""
    accumulate: int = 1
    """Batches to a step of the optimizer."""
    sets: tuple[str, ...] = ()
    """What else has to change."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class RateAnswer:
    """A learning rate to begin with at another batch size."""

    from_batch_size: int
    """Samples to a step of the optimizer, accumulated ones included; as is `batch_size`."""
    from_rate: float
    batch_size: int
    rate: float
    rule: str
    """"linear" or "square root"."""
    note: str
    """Where the rule is from, and how far it can be trusted."""


@dataclass(frozen=True, kw_only=True)
class CardAnswer:
    """What one card would hold."""

    name: str
    capacity_bytes: int
    max_batch_size: int | None
    best: LeverAnswer | None
    """With the best combination of changes; None where none helps."""
    why: str = ""
    """Where nothing could be predicted for it: why."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What would let a larger batch fit: the answer of `vram advise`."""

    command: str = "advise"
    config_name: str
    config: dict[str, Any]
    overrides: tuple[str, ...] = ()
    device: Device
    versions: dict[str, str]
    remark: str = ""
    max_batch_size: int | None
    """As the training is; None where nothing fits."""
    at_batch_size: int
    """Where savings are measured: a size that fits as the training is."""
    breakdown: Breakdown | None
    """Of the training as it is, at that size."""
    levers: tuple[LeverAnswer, ...]
    best: LeverAnswer | None = None
    """The combination of changes that gives the largest batch, of those that leave it whole; None where none helps."""
    fit: SplitAnswer | None = None
    """For `--fit-batch`."""
    effective: SplitAnswer | None = None
    """For `--effective-batch`."""
    rate: RateAnswer | None = None
    cards: tuple[CardAnswer, ...] = ()
    """For `--gpus`."""
    interrupted: bool = False
    """Whether Ctrl-C ended it early: what is not here was not tried. Without levers, `max_batch_size` is the largest
    that had run."""
    notes: tuple[str, ...] = ()
    schema_version: int = field(default=SCHEMA_VERSION)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answer of a command: saved by `--save`, printed by `--json`, drawn again by `vram show`."""

    command: str
    """"find-batch" or "breakdown"."""
    config_name: str
    """The config's file, as the user named it."""
    config: dict[str, Any]
    """The whole config that was used, defaults included."""
    overrides: tuple[str, ...] = ()
    """What the command line changed of the file, such as "optimizer.name=adamw"."""
    device: Device
    data: DataInfo | None
    versions: dict[str, str]
    """Of vram, Python, torch, CUDA, the driver and the system: compare like with like."""
    trials: tuple[Measurement, ...]
    max_batch_size: int | None = None
    recommended_batch_size: int | None = None
    limited_by: Limit | None = None
    certificate: Certificate | None = None
    extrapolated_batch_size: int | None = None
    shortfall_bytes: int | None = None
    """Where nothing fits: what the smallest batch was short of, at least, when it failed."""
    breakdown: Breakdown | None = None
    interrupted: bool = False
    """Whether Ctrl-C ended it early: the figures are then what was known by then."""
    remark: str = ""
    """What a reader should know before the figures, such as that they are predicted for want of a GPU."""
    notes: tuple[str, ...] = ()
    schema_version: int = field(default=SCHEMA_VERSION)


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


@dataclass(frozen=True, kw_only=True)
class GateLimits:
    """What `vram check` allows."""

    max_memory_bytes: int | None = None
    """Most that PyTorch's allocator may reserve; None for what the device has."""
    tolerance: float = 0.0
    """By which part of the baseline's peak the peak may grow."""


class FindingKind(str, Enum):
    """How a training breaks a limit."""

    DOES_NOT_FIT = "does_not_fit"
    """It ran out of memory."""
    ABOVE_LIMIT = "above_limit"
    """The reserved peak is above `GateLimits.max_memory_bytes`."""
    GREW = "grew"
    """The peak is above the baseline's by more than the tolerance."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One limit that is broken."""

    kind: FindingKind
    counter: str = "reserved"
    """"reserved", or "allocated" where tensors hold more and what is reserved for them hides it, as its lumps do."""
    bytes: int
    """The peak; where it does not fit, what it would take at least, with what lies outside the allocator."""
    allowed_bytes: int
    before_bytes: int | None = None
    """The baseline's peak, where that is the limit."""

    @property
    def excess_bytes(self) -> int:
        """How far the peak is above what is allowed."""
        return self.bytes - self.allowed_bytes


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """A row of the breakdown at the peak, in the baseline and now."""

    category: Category
    before: int
    now: int

    @property
    def growth(self) -> int:
        """Bytes that came; below 0, that went."""
        return self.now - self.before


@dataclass(frozen=True, kw_only=True)
class ModuleChange:
    """What a module holds beside its parts at the peak, in the baseline and now.

    A module that the baseline does not have counts with all that is in it, as does one that is gone.
    """

    path: str
    """As in `named_modules`; "" for what belongs to no part of the model."""
    before: int
    now: int
    category: Category
    """The row that changed most in it."""
    category_growth: int
    new: bool = False
    """Whether the baseline has no such module."""

    @property
    def growth(self) -> int:
        """Bytes that came; below 0, that went."""
        return self.now - self.before


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """The highest memory of a step."""

    reserved_bytes: int
    """Taken from the device by PyTorch's allocator: what is gated, since it is this that runs out."""
    allocated_bytes: int
    """Handed out to tensors."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer of `vram check`."""

    command: str = "check"
    result: Result
    """What was measured or predicted. Where a prediction does not fit, its breakdown is of a device that has
    just what it takes."""
    limits: GateLimits
    peak: PeakMemory | None
    """None where it did not fit and nobody knows what it would take."""
    baseline_name: str = ""
    """The baseline's file; "" where there is none."""
    baseline_peak: PeakMemory | None = None
    findings: tuple[Finding, ...] = ()
    """What does not fit first, then by how far they are above their limits, the farthest first."""
    rows: tuple[RowChange, ...] = ()
    """The rows that make up what is reserved, the largest growth first; empty where there is nothing to compare."""
    modules: tuple[ModuleChange, ...] = ()
    """The modules that changed, the largest growth first."""
    remarks: tuple[str, ...] = ()
    """One sentence each on what a reader should know besides."""
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def passed(self) -> bool:
        """Whether no limit is broken."""
        return not self.findings
