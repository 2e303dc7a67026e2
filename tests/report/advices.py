"""Examples of answers of `vram advise`."""

from __future__ import annotations

from dataclasses import replace

from vram_cli.records import (
    AccumulationPlan,
    Advice,
    Category,
    GpuEstimate,
    LearningRateSuggestion,
    OptimizationResult,
    ParallelInfo,
    RankPlan,
    RunInfo,
)
from vram_cli.units import GIB, MIB

from .examples import CPU, GPU, VERSIONS, breakdown, config

DEVICE = replace(
    GPU,
    kind="simulated",
    name="NVIDIA GeForce RTX 4090",
    capacity_bytes=25_250_627_584,
    limit_enforced_by="a model of the CUDA caching allocator",
    other_processes=(),
    accuracy="reserved peak off by 2.5 % (median), 17 % (worst of 11)",
)
HALF = OptimizationResult(
    name="autocast to bfloat16",
    overrides=("precision=amp-bf16",),
    cost="rounds to 8 significant bits",
    max_batch_size=495,
    saved_bytes=10_847 * MIB,
    saved_from=Category.ACTIVATIONS,
    flops_ratio=1.0,
    helps=True,
)
FULL = OptimizationResult(
    name="checkpoint every block",
    overrides=("train.activation_checkpointing=full",),
    cost="recomputes activations",
    max_batch_size=1548,
    saved_bytes=11_878 * MIB,
    saved_from=Category.ACTIVATIONS,
    flops_ratio=1.333,
    helps=True,
)
SEGMENTS = OptimizationResult(
    name="expandable segments",
    overrides=("device.expandable_segments=true",),
    cost="",
    max_batch_size=281,
    saved_bytes=2_406 * MIB,
    saved_from=Category.ALLOCATOR_SLACK,
    flops_ratio=1.0,
    helps=True,
)
ACCUMULATE = OptimizationResult(
    name="accumulate 2 batches",
    overrides=("train.gradient_accumulation_steps=2",),
    cost="batch norm normalizes each micro-batch separately",
    max_batch_size=248,
    micro_batches=2,
    saved_bytes=-98 * MIB,
    saved_from=Category.GRADIENTS,
    helps=True,
)
USELESS = OptimizationResult(
    name="fused optimizer",
    overrides=("optimizer.foreach=null", "optimizer.fused=true"),
    cost="",
    max_batch_size=250,
    saved_bytes=16 * MIB,
    saved_from=Category.TEMPORARIES,
    flops_ratio=1.0,
    reason="saves 16.0 MiB at 235, not enough for 1 % more samples",
)
REFUSED = OptimizationResult(
    name="8-bit AdamW",
    overrides=("optimizer.name=adamw8bit",),
    cost="8-bit state; needs bitsandbytes",
    reason="optimizer.name: adamw8bit needs bitsandbytes: No module named 'bitsandbytes'",
)
BEST = OptimizationResult(
    name="checkpoint every block + autocast to bfloat16 + expandable segments",
    overrides=("train.activation_checkpointing=full", "precision=amp-bf16", "device.expandable_segments=true"),
    cost="recomputes activations; rounds to 8 significant bits",
    max_batch_size=2171,
    helps=True,
)

PREDICTED = Advice(
    run=RunInfo(
        config_name="resnet50_imagenet.yaml",
        config=config("resnet50"),
        overrides=("optimizer.nesterov=true",),
        device=DEVICE,
        data=None,
        versions=VERSIONS,
    ),
    max_batch_size=250,
    at_batch_size=235,
    breakdown=breakdown(
        235,
        DEVICE,
        102_441_032,
        8_196_000,
        102_228_128,
        141_498_200,
        20_045_524_484,
        205_701_124,
        2_649_729_560,
        508_559_360,
    ),
    optimizations=(USELESS, SEGMENTS, HALF, FULL, ACCUMULATE, REFUSED),
    best=BEST,
    fit_batch=AccumulationPlan(
        batch_size=512,
        micro_batch_size=512,
        overrides=("device.expandable_segments=true", "precision=amp-bf16"),
        note="expandable segments + autocast to bfloat16",
    ),
    effective_batch=AccumulationPlan(
        batch_size=1021,
        micro_batch_size=1,
        gradient_accumulation_steps=1021,
        note="5 micro-batches of 204 would make 1,020",
    ),
    learning_rate=LearningRateSuggestion(
        from_batch_size=256,
        from_learning_rate=0.1,
        batch_size=1021,
        learning_rate=0.3988,
        rule="linear",
        note="linear scaling for SGD",
    ),
    gpus=(
        GpuEstimate(name="t4", capacity_bytes=15 * GIB, max_batch_size=146, best=replace(HALF, max_batch_size=167)),
        GpuEstimate(name="l4", capacity_bytes=23_680_000_000, max_batch_size=236, best=None),
        GpuEstimate(
            name="h100", capacity_bytes=85 * GIB, max_batch_size=None, best=None, reason="not in the catalogue"
        ),
    ),
    notes=("the data set has 2,000 samples, so no batch can be larger; the sizes here consider memory alone",),
)

REAL = replace(
    PREDICTED,
    run=replace(
        PREDICTED.run,
        config_name="mlp_mnist.yaml",
        config=config("mlp", device="cpu"),
        overrides=(),
        device=replace(CPU, accuracy=""),
    ),
    breakdown=None,
    optimizations=(
        replace(HALF, saved_bytes=None, saved_from=None, flops_ratio=None, step_time_ratio=1.42),
        replace(FULL, saved_bytes=None, saved_from=None, flops_ratio=None, step_time_ratio=0.998, cost=""),
    ),
    best=replace(HALF, step_time_ratio=None, flops_ratio=None),
    fit_batch=AccumulationPlan(batch_size=100, micro_batch_size=100, note="fits without changes"),
    effective_batch=None,
    learning_rate=None,
    gpus=(),
    notes=("real searches stop within 2 % below the largest size, so a smaller gain does not count as help",),
)

FITS_WITH_A_CHANGE = replace(
    PREDICTED,
    run=replace(PREDICTED.run, remark="There is no GPU here: this is a prediction."),
    max_batch_size=None,
    at_batch_size=1,
    breakdown=None,
    optimizations=(
        replace(HALF, max_batch_size=12, saved_bytes=None, saved_from=None, flops_ratio=None),
        replace(USELESS, max_batch_size=None, saved_bytes=None, reason="nothing fits with it either"),
    ),
    best=replace(HALF, max_batch_size=12),
    fit_batch=AccumulationPlan(batch_size=512, micro_batch_size=None, note="nothing fits"),
    effective_batch=None,
    learning_rate=None,
    gpus=(),
)

NOTHING_FITS = replace(
    FITS_WITH_A_CHANGE, optimizations=(FITS_WITH_A_CHANGE.optimizations[1],), best=None, fit_batch=None
)

INTERRUPTED = replace(
    PREDICTED,
    optimizations=(USELESS, SEGMENTS),
    best=SEGMENTS,
    fit_batch=None,
    effective_batch=None,
    learning_rate=None,
    gpus=(),
    interrupted=True,
)

INTERRUPTED_FIRST = replace(
    INTERRUPTED, optimizations=(), best=None, breakdown=None, max_batch_size=128, at_batch_size=1
)

FIT_OF_RANKS = AccumulationPlan(
    batch_size=1536, micro_batch_size=384, overrides=("precision=amp-bf16",), note="autocast to bfloat16"
)
RANKS = replace(
    PREDICTED,
    run=replace(
        PREDICTED.run,
        overrides=("parallel.ranks=4",),
        parallel=ParallelInfo(strategy="ddp", ranks=4, communication_bytes=688 * MIB, is_allowance=True),
    ),
    optimizations=(
        replace(USELESS, name="gradients as views of buckets", overrides=("parallel.gradient_as_bucket_view=true",)),
        HALF,
        OptimizationResult(
            name="8 ranks",
            overrides=("parallel.ranks=8",),
            cost="twice as many GPUs",
            max_batch_size=250,
            rank_ratio=2.0,
            saved_bytes=0,
            flops_ratio=1.0,
            helps=True,
        ),
    ),
    fit_batch=FIT_OF_RANKS,
    fewest_gpus=(
        RankPlan(strategy="ddp", ranks=8, batch_size=192, overrides=("parallel.strategy=ddp", "parallel.ranks=8")),
        RankPlan(strategy="fsdp2", ranks=None, batch_size=None, reason="does not fit on 64 GPUs either"),
    ),
    effective_batch=AccumulationPlan(batch_size=8192, micro_batch_size=128, gradient_accumulation_steps=16, note=""),
    gpus=(),
)

ONLY_WITH_RANKS = replace(
    FITS_WITH_A_CHANGE,
    optimizations=(FITS_WITH_A_CHANGE.optimizations[1],),
    best=None,
    fewest_gpus=(
        RankPlan(strategy="ddp", ranks=None, batch_size=None, reason="not even one sample fits on one GPU"),
        RankPlan(strategy="fsdp2", ranks=16, batch_size=32, overrides=("parallel.strategy=fsdp2", "parallel.ranks=16")),
    ),
)

ADVICES = {
    "predicted": PREDICTED,
    "real": REAL,
    "fits-with-a-change": FITS_WITH_A_CHANGE,
    "nothing-fits": NOTHING_FITS,
    "ranks": RANKS,
    "only-with-ranks": ONLY_WITH_RANKS,
    "interrupted": INTERRUPTED,
    "interrupted-first": INTERRUPTED_FIRST,
}
