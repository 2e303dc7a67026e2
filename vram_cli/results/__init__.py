"""The records that travel through vram: frozen, and bytes are `int`.

`Measurement` is what a probe says of one batch size, `SearchResult` what the search concludes from many, `Result` what
a command answers, saves and draws. Where a number comes from is part of the record: `Device.kind` says real or
simulated, `extrapolated_batch_size` is kept apart from sizes that ran.
"""

from __future__ import annotations

from vram_cli.results.advice import Advice, CardAnswer, LeverAnswer, RateAnswer, SplitAnswer
from vram_cli.results.answers import DataInfo, Device, Result, TensorInfo
from vram_cli.results.breakdowns import Breakdown, BreakdownRow, ModuleShare, Timeline, TimelinePoint
from vram_cli.results.comparison import (
    Comparison,
    CurvePoint,
    Fit,
    NoisePoint,
    Plan,
    Run,
    Scaling,
    SizeAnswer,
    Spread,
)
from vram_cli.results.inspection import (
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
from vram_cli.results.kinds import SCHEMA_VERSION, Category, Limit, Outcome, Phase
from vram_cli.results.measurements import Certificate, Measurement, PhasePeak, SearchResult
from vram_cli.results.throughput import Pace, Throughput
from vram_cli.results.verdicts import Finding, FindingKind, GateLimits, ModuleChange, PeakMemory, RowChange, Verdict

__all__ = [
    "SCHEMA_VERSION",
    "Advice",
    "Breakdown",
    "BreakdownRow",
    "CardAnswer",
    "Category",
    "Certificate",
    "ClassFacts",
    "Comparison",
    "CurvePoint",
    "DataFacts",
    "DataInfo",
    "Device",
    "DtypeFacts",
    "Finding",
    "FindingKind",
    "Fit",
    "GateLimits",
    "ImageSample",
    "Inspection",
    "LayerFacts",
    "LeverAnswer",
    "Limit",
    "Measurement",
    "ModelFacts",
    "ModuleChange",
    "ModuleShare",
    "NoisePoint",
    "Outcome",
    "Pace",
    "PeakMemory",
    "Phase",
    "PhasePeak",
    "Plan",
    "RateAnswer",
    "Result",
    "RowChange",
    "Run",
    "Scaling",
    "SearchResult",
    "SizeAnswer",
    "SplitAnswer",
    "Spread",
    "StoredFacts",
    "TensorFacts",
    "TensorInfo",
    "Throughput",
    "Timeline",
    "TimelinePoint",
    "Verdict",
]
