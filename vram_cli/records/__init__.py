"""The records that travel through vram: frozen, and bytes are `int`.

A probe returns a `Measurement` per batch size and the search a `SearchResult`; each command answers with a record of
its own, such as `FindBatchResult`. The origin of a number is part of the record: `Device.kind` is real or simulated,
and `extrapolated_batch_size` is kept apart from sizes that ran.
"""

from __future__ import annotations

from vram_cli.records.advice import (
    AccumulationPlan,
    Advice,
    GpuEstimate,
    LearningRateSuggestion,
    OptimizationResult,
    RankPlan,
    Scaling,
)
from vram_cli.records.batch_sizes import BatchSizes
from vram_cli.records.breakdown import Breakdown, BreakdownRow, LineShare, ModuleShare, Timeline, TimelinePoint
from vram_cli.records.check import CheckLimits, CheckResult, Finding, FindingKind, ModuleChange, PeakMemory, RowChange
from vram_cli.records.enums import OF_ONE_RANK, SCHEMA_VERSION, Category, Detail, Limit, Outcome, Phase
from vram_cli.records.error_report import ErrorReport
from vram_cli.records.inspection import (
    ClassFacts,
    DataFacts,
    DtypeFacts,
    ImageSample,
    Inspection,
    LayerFacts,
    ModelFacts,
    StoredFacts,
    TensorFacts,
)
from vram_cli.records.measurement import (
    Bracket,
    Certificate,
    Growth,
    HostRead,
    Measurement,
    PhasePeak,
    RankResult,
    Refusal,
    SearchResult,
)
from vram_cli.records.parallel import ParallelInfo
from vram_cli.records.results import BreakdownResult, FindBatchResult
from vram_cli.records.run_info import DataInfo, Device, RunInfo, TensorInfo
from vram_cli.records.script import LoaderInfo, ScriptInfo
from vram_cli.records.throughput import Throughput, ThroughputPoint

__all__ = [
    "OF_ONE_RANK",
    "SCHEMA_VERSION",
    "AccumulationPlan",
    "Advice",
    "BatchSizes",
    "Bracket",
    "Breakdown",
    "BreakdownResult",
    "BreakdownRow",
    "Category",
    "Certificate",
    "CheckLimits",
    "CheckResult",
    "ClassFacts",
    "DataFacts",
    "DataInfo",
    "Detail",
    "Device",
    "DtypeFacts",
    "ErrorReport",
    "FindBatchResult",
    "Finding",
    "FindingKind",
    "GpuEstimate",
    "Growth",
    "HostRead",
    "ImageSample",
    "Inspection",
    "LayerFacts",
    "LearningRateSuggestion",
    "Limit",
    "LineShare",
    "LoaderInfo",
    "Measurement",
    "ModelFacts",
    "ModuleChange",
    "ModuleShare",
    "OptimizationResult",
    "Outcome",
    "ParallelInfo",
    "PeakMemory",
    "Phase",
    "PhasePeak",
    "RankPlan",
    "RankResult",
    "Refusal",
    "RowChange",
    "RunInfo",
    "Scaling",
    "ScriptInfo",
    "SearchResult",
    "StoredFacts",
    "TensorFacts",
    "TensorInfo",
    "Throughput",
    "ThroughputPoint",
    "Timeline",
    "TimelinePoint",
]
