"""Answers of `vram advise` of the kinds that a reader meets."""

from __future__ import annotations

from dataclasses import replace

from vram_cli.records import (
    AccumulationPlan,
    Advice,
    Category,
    GpuEstimate,
    LearningRateSuggestion,
    OptimizationResult,
    RunInfo,
)
from vram_cli.units import GIB, MIB

from .examples import CPU, GPU, VERSIONS, breakdown, config

CARD = replace(
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
    sets=("precision=amp-bf16",),
    price="rounds to 8 bits of mantissa",
    max_batch_size=495,
    saved_bytes=10_847 * MIB,
    saved_from=Category.ACTIVATIONS,
    compute=1.0,
    helps=True,
)
FULL = OptimizationResult(
    name="checkpoint every block",
    sets=("train.activation_checkpointing=full",),
    price="computes activations twice",
    max_batch_size=1548,
    saved_bytes=11_878 * MIB,
    saved_from=Category.ACTIVATIONS,
    compute=1.333,
    helps=True,
)
SEGMENTS = OptimizationResult(
    name="expandable segments",
    sets=("device.expandable_segments=true",),
    price="",
    max_batch_size=281,
    saved_bytes=2_406 * MIB,
    saved_from=Category.ALLOCATOR_SLACK,
    compute=1.0,
    helps=True,
)
PIECES = OptimizationResult(
    name="accumulate 2 batches",
    sets=("train.gradient_accumulation_steps=2",),
    price="any batch norm sees each piece by itself",
    max_batch_size=248,
    pieces=2,
    saved_bytes=-98 * MIB,
    saved_from=Category.GRADIENTS,
    helps=True,
)
USELESS = OptimizationResult(
    name="fused optimizer",
    sets=("optimizer.foreach=null", "optimizer.fused=true"),
    price="",
    max_batch_size=250,
    saved_bytes=16 * MIB,
    saved_from=Category.TEMPORARIES,
    compute=1.0,
    why="saves 16.0 MiB at 235, which makes no room for 1 % more samples",
)
REFUSED = OptimizationResult(
    name="8-bit AdamW",
    sets=("optimizer.name=adamw8bit",),
    price="state in 8 bits; bitsandbytes",
    why="optimizer.name: adamw8bit needs bitsandbytes: No module named 'bitsandbytes'",
)
BEST = OptimizationResult(
    name="checkpoint every block + autocast to bfloat16 + expandable segments",
    sets=("train.activation_checkpointing=full", "precision=amp-bf16", "device.expandable_segments=true"),
    price="computes activations twice; rounds to 8 bits of mantissa",
    max_batch_size=2171,
    helps=True,
)

PREDICTED = Advice(
    run=RunInfo(
        config_name="resnet50_imagenet.yaml",
        config=config("resnet50"),
        overrides=("optimizer.nesterov=true",),
        device=CARD,
        data=None,
        versions=VERSIONS,
    ),
    max_batch_size=250,
    at_batch_size=235,
    breakdown=breakdown(
        235,
        CARD,
        102_441_032,
        8_196_000,
        102_228_128,
        141_498_200,
        20_045_524_484,
        205_701_124,
        2_649_729_560,
        508_559_360,
    ),
    levers=(USELESS, SEGMENTS, HALF, FULL, PIECES, REFUSED),
    best=BEST,
    fit=AccumulationPlan(
        wanted=512,
        micro_batch_size=512,
        sets=("device.expandable_segments=true", "precision=amp-bf16"),
        note="expandable segments + autocast to bfloat16",
    ),
    effective=AccumulationPlan(
        wanted=1021, micro_batch_size=1, accumulate=1021, note="5 pieces of 204 would make 1,020"
    ),
    rate=LearningRateSuggestion(
        from_batch_size=256, from_rate=0.1, batch_size=1021, rate=0.3988, rule="linear", note="linear scaling for SGD"
    ),
    cards=(
        GpuEstimate(name="t4", capacity_bytes=15 * GIB, max_batch_size=146, best=replace(HALF, max_batch_size=167)),
        GpuEstimate(name="l4", capacity_bytes=23_680_000_000, max_batch_size=236, best=None),
        GpuEstimate(name="h100", capacity_bytes=85 * GIB, max_batch_size=None, best=None, why="refused: why"),
    ),
    notes=("the data set has 2,000 samples, and no batch can be larger; sizes here are of memory",),
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
    levers=(
        replace(HALF, saved_bytes=None, saved_from=None, compute=None, seconds=1.42),
        replace(FULL, saved_bytes=None, saved_from=None, compute=None, seconds=0.998, price=""),
    ),
    best=replace(HALF, seconds=None, compute=None),
    fit=AccumulationPlan(wanted=100, micro_batch_size=100, note="it fits as it is"),
    effective=None,
    rate=None,
    cards=(),
    notes=("real searches stop within 2 % below the largest size: what gains less is not said to help",),
)

NOTHING_AS_IT_IS = replace(
    PREDICTED,
    run=replace(PREDICTED.run, remark="There is no GPU here: this is a prediction."),
    max_batch_size=None,
    at_batch_size=1,
    breakdown=None,
    levers=(
        replace(HALF, max_batch_size=12, saved_bytes=None, saved_from=None, compute=None),
        replace(USELESS, max_batch_size=None, saved_bytes=None, why="nothing fits with it either"),
    ),
    best=replace(HALF, max_batch_size=12),
    fit=AccumulationPlan(wanted=512, micro_batch_size=None, note="nothing fits as it is"),
    effective=None,
    rate=None,
    cards=(),
)

NOTHING_AT_ALL = replace(NOTHING_AS_IT_IS, levers=(NOTHING_AS_IT_IS.levers[1],), best=None, fit=None)

INTERRUPTED = replace(
    PREDICTED,
    levers=(USELESS, SEGMENTS),
    best=SEGMENTS,
    fit=None,
    effective=None,
    rate=None,
    cards=(),
    interrupted=True,
)

AT_ONCE = replace(INTERRUPTED, levers=(), best=None, breakdown=None, max_batch_size=128, at_batch_size=1)

ADVICES = {
    "predicted": PREDICTED,
    "real": REAL,
    "nothing-as-it-is": NOTHING_AS_IT_IS,
    "nothing-at-all": NOTHING_AT_ALL,
    "interrupted": INTERRUPTED,
    "at-once": AT_ONCE,
}
