"""The records that travel through vram: frozen, and bytes are `int`.

`Measurement` is what a probe says of one batch size, `SearchResult` what the search concludes from many, `Result` what
a command answers, saves and draws. Where a number comes from is part of the record: `Device.kind` says real or
simulated, `extrapolated_batch_size` is kept apart from sizes that ran.
"""

from __future__ import annotations

from vram_cli.records.advice import (
    AccumulationPlan,
    Advice,
    GpuEstimate,
    LearningRateSuggestion,
    OptimizationResult,
    Scaling,
)
from vram_cli.records.breakdown import Breakdown, BreakdownRow, ModuleShare, Timeline, TimelinePoint
from vram_cli.records.check import CheckLimits, CheckResult, Finding, FindingKind, ModuleChange, PeakMemory, RowChange
from vram_cli.records.enums import SCHEMA_VERSION, Category, Detail, Limit, Outcome, Phase
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
from vram_cli.records.measurement import Bracket, Certificate, Measurement, PhasePeak, SearchResult
from vram_cli.records.results import Result
from vram_cli.records.run_info import DataInfo, Device, RunInfo, TensorInfo
from vram_cli.records.throughput import Throughput, ThroughputPoint

__all__ = [
    "SCHEMA_VERSION",
    "AccumulationPlan",
    "Advice",
    "Bracket",
    "Breakdown",
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
    "Finding",
    "FindingKind",
    "GpuEstimate",
    "ImageSample",
    "Inspection",
    "LayerFacts",
    "LearningRateSuggestion",
    "Limit",
    "Measurement",
    "ModelFacts",
    "ModuleChange",
    "ModuleShare",
    "OptimizationResult",
    "Outcome",
    "PeakMemory",
    "Phase",
    "PhasePeak",
    "Result",
    "RowChange",
    "RunInfo",
    "Scaling",
    "SearchResult",
    "StoredFacts",
    "TensorFacts",
    "TensorInfo",
    "Throughput",
    "ThroughputPoint",
    "Timeline",
    "TimelinePoint",
]
