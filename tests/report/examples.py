"""Results of the kinds that a reader meets, for the tests of how they look."""

from __future__ import annotations

from dataclasses import replace

from vram_cli.records import (
    OF_ONE_RANK,
    Breakdown,
    BreakdownResult,
    BreakdownRow,
    Category,
    Certificate,
    DataInfo,
    Device,
    FindBatchResult,
    Limit,
    LineShare,
    LoaderInfo,
    Measurement,
    ModuleShare,
    Outcome,
    ParallelInfo,
    Phase,
    PhasePeak,
    RankResult,
    RunInfo,
    ScriptInfo,
    TensorInfo,
    Timeline,
    TimelinePoint,
)
from vram_cli.records.breakdown import rows_of
from vram_cli.units import GIB, MIB

OOM = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 196.00 MiB. GPU 0 has a total capacity of 12.00 GiB of "
    "which 61.25 MiB is free. Including non-PyTorch memory, this process has 11.93 GiB memory in use."
)

GPU = Device(
    kind="real",
    name="NVIDIA GeForce RTX 3060",
    type="cuda:0",
    capacity_bytes=12 * GIB,
    limit_enforced_by="the driver",
    other_processes=("/usr/lib/xorg/Xorg (pid 1210): 312 MiB",),
)
CPU = Device(
    kind="real",
    name="CPU (AMD EPYC 7B13, 2 cores)",
    type="cpu",
    capacity_bytes=1 * GIB,
    memory_limit_bytes=1 * GIB,
    limit_enforced_by="RLIMIT_DATA",
)
CIFAR = DataInfo(
    name="cifar10",
    source="files",
    detail="cifar10 files under data",
    tensors=(TensorInfo(name="images", shape=(3, 32, 32), dtype="float32"),),
    classes=10,
    num_samples=50_000,
)
MNIST = DataInfo(
    name="mnist",
    source="synthetic",
    detail="no mnist files under data, same shape instead",
    tensors=(TensorInfo(name="images", shape=(1, 28, 28), dtype="float32"),),
    classes=10,
    num_samples=60_000,
)
VERSIONS = {
    "vram": "0.1.0",
    "python": "3.11.7",
    "torch": "2.14.1+cu130",
    "torchvision": "0.29.1",
    "system": "Linux 6.8.0 x86_64",
    "cuda": "13.0",
    "driver": "580.65.06",
    "cudnn": "92400",
}


def config(model: str, precision: str = "fp32", device: str = "auto") -> dict[str, object]:
    return {
        "model": {"name": model},
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "precision": precision,
        "search": {"multiple_of": 8, "margin": 0.05, "time_limit": None},
        "device": {"name": device, "memory_limit": None},
    }


def peaks(resident: int, per_sample: int, n: int, last: Phase = Phase.OPTIMIZER) -> tuple[PhasePeak, ...]:
    """Return peaks that grow with the batch in forward and backward, up to the phase that was reached."""
    allocated = {
        Phase.BUILD: resident // 3,
        Phase.BATCH: resident + per_sample * n // 100,
        Phase.FORWARD: resident + per_sample * n * 9 // 10,
        Phase.BACKWARD: resident + per_sample * n,
        Phase.OPTIMIZER: resident + per_sample * n // 50,
    }
    reached = list(allocated)[: list(allocated).index(last) + 1]
    lump = 20 * MIB
    return tuple(
        PhasePeak(phase=phase, allocated_bytes=allocated[phase], reserved_bytes=-(-allocated[phase] // lump) * lump)
        for phase in reached
    )


def ran(n: int, seconds: float = 2.0, retries: int = 0) -> Measurement:
    return Measurement(
        batch_size=n,
        outcome=Outcome.FITS,
        peaks=peaks(180 * MIB, 7_300_000, n),
        resident_bytes=180 * MIB,
        allocator_retries=retries,
        steps=3,
        seconds=seconds,
        step_seconds=seconds / 4,
    )


def failed(n: int, outcome: Outcome = Outcome.OUT_OF_MEMORY, phase: Phase | None = Phase.BACKWARD) -> Measurement:
    return Measurement(
        batch_size=n,
        outcome=outcome,
        phase=phase,
        peaks=peaks(180 * MIB, 7_300_000, 1536, phase or Phase.BACKWARD),
        seconds=1.4,
        message=OOM,
        requested_bytes=196 * MIB if outcome is Outcome.OUT_OF_MEMORY else None,
        held_bytes=12_120 * MIB if outcome is Outcome.OUT_OF_MEMORY else None,
    )


def breakdown(batch_size: int, device: Device, *bytes_of: int, workspaces: int = 0) -> Breakdown:
    """Return a breakdown with the bytes of all categories but the last, which is what is left of the device."""
    free = device.capacity_bytes - sum(bytes_of) - workspaces
    sizes = (*bytes_of[:6], workspaces, *bytes_of[6:], free)
    rows = tuple(BreakdownRow(category=category, bytes=size) for category, size in zip(OF_ONE_RANK, sizes, strict=True))
    return Breakdown(batch_size=batch_size, rows=rows, total_bytes=device.capacity_bytes, peak_phase=Phase.BACKWARD)


MEMORY = FindBatchResult(
    run=RunInfo(
        config_name="resnet18_cifar10.yaml", config=config("resnet18"), device=GPU, data=CIFAR, versions=VERSIONS
    ),
    multiple_of=8,
    margin=0.05,
    trials=(ran(1), ran(2), ran(1456), failed(1600), ran(1536, 3.1), failed(1537)),
    max_batch_size=1536,
    recommended_batch_size=1456,
    limited_by=Limit.MEMORY,
    certificate=Certificate(
        largest_ok=1536, steps=3, smallest_failed=1537, outcome=Outcome.OUT_OF_MEMORY, phase=Phase.BACKWARD, message=OOM
    ),
    breakdown=breakdown(
        1536,
        GPU,
        *(44_734_144, 44_695_848, 44_695_848, 18_886_656, 10_214_211_584, 171_966_464, 96_468_992, 763_363_328),
        workspaces=33_554_432,
    ),
)

RANKS = replace(
    MEMORY,
    run=replace(
        MEMORY.run,
        device=replace(GPU, kind="simulated", engine="virtual-gpu", name="NVIDIA GeForce RTX 3060"),
        parallel=ParallelInfo(
            strategy="fsdp2", ranks=8, micro_batches=4, communication_bytes=688 * MIB, is_allowance=True
        ),
    ),
    global_batch_size=1536 * 8 * 4,
    breakdown=Breakdown(
        batch_size=1536,
        rows=rows_of(
            {
                **{row.category: row.bytes for row in MEMORY.breakdown.rows if row.category is not Category.FREE},
                **{category: 0 for category in Category if category not in OF_ONE_RANK},
                Category.GATHERED_PARAMETERS: 21_000_000,
                Category.REDUCE_SCATTER_BUFFERS: 14_000_000,
                Category.COMMUNICATION: 688 * MIB,
                Category.FREE: MEMORY.breakdown.bytes_of(Category.FREE) - 688 * MIB - 35_000_000,
            }
        ),
        total_bytes=GPU.capacity_bytes,
        peak_phase=Phase.BACKWARD,
    ),
)
"""One rank of eight, predicted."""

RAN_TOGETHER = (
    RankResult(rank=0, outcome=Outcome.FITS, peaks=ran(1536).peaks, allocator_bytes=23 * GIB),
    RankResult(rank=1, outcome=Outcome.FITS, peaks=ran(1536).peaks, allocator_bytes=11 * GIB),
)
FAILED_TOGETHER = (
    RankResult(
        rank=0, outcome=None, phase=Phase.BACKWARD, allocator_bytes=23 * GIB, message="Connection closed by peer"
    ),
    RankResult(rank=1, outcome=Outcome.OUT_OF_MEMORY, phase=Phase.BACKWARD, allocator_bytes=11 * GIB, message=OOM),
)
REAL_RANKS = replace(
    MEMORY,
    run=replace(
        MEMORY.run,
        overrides=("parallel.ranks=2", "parallel.memory_limits=[24GiB,12GiB]"),
        parallel=ParallelInfo(strategy="ddp", ranks=2, rank=1, communication_bytes=544 * MIB),
    ),
    trials=(
        replace(ran(1536), rank=1, ranks=RAN_TOGETHER),
        replace(failed(1537), rank=1, ranks=FAILED_TOGETHER),
        replace(ran(1456), rank=1, ranks=RAN_TOGETHER),
    ),
    certificate=replace(MEMORY.certificate, rank=1),
    global_batch_size=1536 * 2,
)
"""Two ranks on GPUs of this machine, of which one has less memory."""

DATASET = FindBatchResult(
    run=RunInfo(
        config_name="mlp_mnist.yaml",
        config=config("mlp", device="cpu"),
        device=CPU,
        data=MNIST,
        versions={
            "vram": "0.1.0",
            "python": "3.11.7",
            "torch": "2.14.1+cpu",
            "torchvision": "0.29.1",
            "system": "Linux 6.8.0 x86_64",
        },
    ),
    multiple_of=8,
    margin=0.05,
    trials=(ran(1, 0.4), ran(2, 0.1), ran(60_000, 0.7)),
    max_batch_size=60_000,
    recommended_batch_size=60_000,
    limited_by=Limit.DATASET,
    certificate=Certificate(largest_ok=60_000, steps=3),
    extrapolated_batch_size=311_482,
    breakdown=breakdown(60_000, CPU, 407_080, 407_080, 0, 188_640_000, 66_240_000, 24_001_024, 1_130_496, 402_653_184),
)

INTERRUPTED = replace(
    MEMORY,
    trials=(ran(1), ran(2), ran(512), failed(1024)),
    max_batch_size=512,
    recommended_batch_size=None,
    limited_by=None,
    certificate=Certificate(
        largest_ok=512, steps=3, smallest_failed=1024, outcome=Outcome.OUT_OF_MEMORY, phase=Phase.BACKWARD, message=OOM
    ),
    breakdown=None,
    interrupted=True,
)

DOES_NOT_FIT = replace(
    MEMORY,
    run=replace(MEMORY.run, config=config("resnet18", "amp-bf16")),
    trials=(replace(failed(1), peaks=peaks(12_100 * MIB, 1, 1, Phase.BACKWARD)),),
    max_batch_size=None,
    recommended_batch_size=None,
    certificate=None,
    shortfall_bytes=28 * MIB,
    breakdown=None,
)

THRASHING = replace(
    MEMORY,
    trials=(ran(1), ran(2), ran(1456), ran(1536, 9.4, retries=4), failed(1537)),
    notes=("batch size 1536 ran only because the allocator gave its cache back on the way: it thrashes",),
)

BREAKDOWN = BreakdownResult(
    run=replace(
        MEMORY.run,
        config_name="resnet50_imagenet.yaml",
        config=config("resnet50"),
        data=replace(
            CIFAR,
            name="synthetic",
            source="synthetic",
            detail="images of the config's shape",
            tensors=(TensorInfo(name="images", shape=(3, 224, 224), dtype="float32"),),
            classes=1000,
            num_samples=None,
        ),
        device=replace(GPU, name="NVIDIA A10G", capacity_bytes=24 * GIB, other_processes=()),
    ),
    measurement=ran(128),
    breakdown=breakdown(
        128,
        replace(GPU, capacity_bytes=24 * GIB),
        *(102_437_376, 102_228_128, 102_228_128, 77_071_360, 10_912_514_048, 1_233_125_376, 96_468_992, 463_470_592),
    ),
)

COMMAND = ("python", "train.py", "--batch-size", "{n}")
SCRIPT_INFO = ScriptInfo(
    command=COMMAND,
    batch_size=2,
    loaders=(
        LoaderInfo(line="train.py:41", batch_size=2, num_samples=60_000, trains=True),
        LoaderInfo(line="train.py:42", batch_size=1000, num_samples=10_000, trains=False),
    ),
    isolation="overlay",
    starts="a fork of a process that has imported torch",
)
WITH_VALIDATION = (*ran(174).peaks, PhasePeak(phase=Phase.VALIDATION, allocated_bytes=2 * GIB, reserved_bytes=3 * GIB))
SCRIPT = replace(
    DATASET,
    run=replace(
        DATASET.run,
        config_name="python train.py --batch-size {n}",
        config={"script": {"command": [*COMMAND]}, "train": {}, "device": {"name": "cpu"}},
        data=None,
        script=SCRIPT_INFO,
    ),
    trials=(ran(1, 0.4), ran(2, 0.3), replace(ran(174), writes=("made the folder out", "torch.save: out/last.pt"))),
    max_batch_size=174,
    recommended_batch_size=168,
    limited_by=Limit.MEMORY,
    certificate=Certificate(
        largest_ok=174, steps=3, smallest_failed=175, outcome=Outcome.OUT_OF_MEMORY, phase=Phase.BACKWARD
    ),
    extrapolated_batch_size=None,
    breakdown=replace(
        breakdown(174, CPU, 407_080, 407_080, 0, 188_640_000, 66_240_000, 24_001_024, 1_130_496, 402_653_184),
        lines=(
            LineShare(line="train.py:57", bytes=188_640_000, category=Category.BATCH_DATA),
            LineShare(line="models/net.py:12", bytes=66_240_000, category=Category.ACTIVATIONS),
            LineShare(line="", bytes=24_001_024, category=Category.TEMPORARIES),
        ),
    ),
    validation=replace(ran(174), peaks=WITH_VALIDATION),
)
"""A script on the CPU, whose validation takes more memory than training."""

ALL: dict[str, FindBatchResult | BreakdownResult] = {
    "find-batch-memory": MEMORY,
    "find-batch-dataset": DATASET,
    "find-batch-interrupted": INTERRUPTED,
    "find-batch-does-not-fit": DOES_NOT_FIT,
    "find-batch-thrashing": THRASHING,
    "find-batch-script": SCRIPT,
    "find-batch-ranks": RANKS,
    "find-batch-real-ranks": REAL_RANKS,
    "breakdown": BREAKDOWN,
}

SEARCHES = {name: result for name, result in ALL.items() if isinstance(result, FindBatchResult)}

SHARES = (
    ("", {Category.BATCH_DATA: 77_071_360, Category.TEMPORARIES: 20_000_000}),
    ("layer1", {}),
    ("layer1.0", {Category.ACTIVATIONS: 411_041_792}),
    ("layer1.0.conv1", {Category.PARAMETERS: 16_384, Category.ACTIVATIONS: 102_760_448}),
    ("layer1.0.bn1", {Category.PARAMETERS: 1_032, Category.ACTIVATIONS: 102_760_448}),
    ("layer1.1", {Category.PARAMETERS: 301_032, Category.ACTIVATIONS: 4_821_041_792}),
    ("conv1", {Category.PARAMETERS: 37_632, Category.ACTIVATIONS: 411_041_792, Category.GRADIENTS: 37_632}),
    ("layer4", {}),
    ("layer4.conv_with_a_name_that_is_long", {Category.PARAMETERS: 59_000_000, Category.OPTIMIZER_STATE: 118_000_000}),
    ("fc", {Category.PARAMETERS: 8_196_000, Category.GRADIENTS: 8_196_000, Category.OPTIMIZER_STATE: 16_392_000}),
)
"""The memory of each module without its submodules."""


def modules() -> tuple[ModuleShare, ...]:
    """Return the shares, submodules included."""
    made = []
    for path, _ in SHARES:
        within = [own for other, own in SHARES if path in ("", other) or other.startswith(f"{path}.")]
        held = {category: sum(own.get(category, 0) for own in within) for category in Category}
        held = {category: size for category, size in held.items() if size}
        made.append(ModuleShare(path=path, bytes=sum(held.values()), by_category=held))
    return tuple(made)


def timeline(events: int = 240) -> Timeline:
    """Return a step whose activations rise in the forward pass and fall in the backward pass, gradients the reverse."""
    points = []
    for event in range(events + 1):
        share = event / events
        phase = Phase.FORWARD if share < 0.4 else Phase.BACKWARD if share < 0.9 else Phase.OPTIMIZER
        rising = share / 0.4 if phase is Phase.FORWARD else max((0.9 - share) / 0.5, 0)
        held = {
            Category.PARAMETERS: 102_437_376,
            Category.GRADIENTS: int(102_228_128 * max(min((share - 0.4) / 0.5, 1), 0)),
            Category.OPTIMIZER_STATE: 204_456_256,
            Category.BATCH_DATA: 77_071_360,
            Category.ACTIVATIONS: int(1_912_514_048 * rising),
            Category.TEMPORARIES: 233_125_376 if event % 3 and phase is not Phase.OPTIMIZER else 8_519_680,
        }
        by_category = {category: size for category, size in held.items() if size}
        points.append(TimelinePoint(event=event, phase=phase, by_category=by_category))
    return Timeline(points=tuple(points), events=events)


def detailed() -> BreakdownResult:
    """Return a breakdown with modules and a timeline."""
    held = modules()[0].by_category
    sizes = [held.get(category, 0) for category in OF_ONE_RANK[:6]]
    whole = replace(
        breakdown(128, replace(GPU, capacity_bytes=24 * GIB), *sizes, 96_468_992, 463_470_592),
        modules=modules(),
        timeline=timeline(),
    )
    return replace(BREAKDOWN, breakdown=whole)


def short() -> BreakdownResult:
    """Return a breakdown with modules and a timeline of few points."""
    whole = detailed()
    assert whole.breakdown is not None
    return replace(whole, breakdown=replace(whole.breakdown, timeline=timeline(30)))


def detailed_search() -> FindBatchResult:
    """Return a search with modules and a timeline."""
    return replace(MEMORY, breakdown=short().breakdown)
