"""Example comparisons: complete, single runs, diverged and interrupted."""

from __future__ import annotations

from dataclasses import replace

from vram_cli.compare.findings import findings, noise_exponent
from vram_cli.compare.records import ComparePlan, Comparison, CurvePoint, MemoryCheck, NoisePoint, TrainingRun
from vram_cli.compare.summary import summarize
from vram_cli.records import DataInfo, Device, RunInfo, TensorInfo
from vram_cli.units import GIB, MIB

PLAN = ComparePlan(samples=10_000, holdout=0.2, folds=1, epochs=5, lr_scaling="linear", warmup=1.0, seed=0)
ACCURACY = {1: 0.931, 128: 0.928, 1024: 0.894, 8000: 0.61}


def _runs(size: int, repeats: int = 3) -> list[TrainingRun]:
    return [
        TrainingRun(
            batch_size=size,
            repeat=repeat,
            fold=0,
            learning_rate=0.01 * size / 128,
            steps=5 * -(-8000 // size),
            samples=40_000,
            seconds=40_000 / (3000 + 40 * size) * (1 + 0.02 * repeat),
            loss=0.25 + size / 8000 + 0.004 * repeat,
            accuracy=ACCURACY[size] + 0.002 * repeat,
            loss_noise=0.6 / size**0.5 if size < 2000 else None,
            curve=tuple(CurvePoint(samples=8000 * epoch, loss=2.3 / epoch) for epoch in range(1, 6)),
            gradient_noise=(NoisePoint(samples=40_000, signal=0.02, variance=3.0 + repeat),),
        )
        for repeat in range(repeats)
    ]


def _comparison(
    plan: ComparePlan, runs: dict[int, list[TrainingRun]], checks: dict[int, MemoryCheck], repeats: int
) -> Comparison:
    sizes = tuple(summarize(size, plan, 1, checks.get(size), runs.get(size, [])) for size in ACCURACY)
    return Comparison(
        run=RunInfo(
            config_name="mlp_mnist.yaml",
            config={"optimizer": {"name": "sgd"}},
            device=Device(kind="real", name="CPU (AMD EPYC 7B13, 2 cores)", type="cpu", capacity_bytes=1 * GIB),
            data=DataInfo(
                name="mnist",
                source="files",
                detail="mnist files under data",
                tensors=(TensorInfo(name="images", shape=(1, 28, 28), dtype="float32"),),
                classes=10,
                num_samples=60_000,
            ),
            versions={"vram": "0.1.0"},
        ),
        plan=plan,
        repeats=repeats,
        sizes=sizes,
        findings=findings(sizes, plan),
        noise_exponent=noise_exponent(sizes),
        runs=tuple(run for size in runs.values() for run in size),
    )


FITS = {size: MemoryCheck(batch_size=size, fits=True, peak_bytes=(4 + size // 40) * MIB) for size in ACCURACY}
TOO_LARGE = MemoryCheck(
    batch_size=8000,
    fits=False,
    peak_bytes=120 * MIB,
    message="out of memory in forward",
    micro_batch_size=4000,
    micro_batches=2,
)
COMPLETE = _comparison(PLAN, {size: _runs(size) for size in ACCURACY}, FITS, 3)
SINGLE = _comparison(PLAN, {size: _runs(size, 1) for size in (1, 128, 1024)}, {**FITS, 8000: TOO_LARGE}, 1)
DIVERGED = _comparison(
    replace(PLAN, folds=5),
    {
        1: _runs(1),
        1024: [
            replace(run, diverged_at=7, loss=None, accuracy=None, loss_noise=None, gradient_noise=())
            for run in _runs(1024)
        ],
    },
    FITS,
    1,
)
INTERRUPTED = replace(
    _comparison(PLAN, {1: _runs(1, 1)}, {1: FITS[1]}, 3),
    interrupted=True,
    run=replace(COMPLETE.run, remark="This machine has no GPU: trained on the CPU."),
)
COMPARISONS = {
    "compare": COMPLETE,
    "compare-single": SINGLE,
    "compare-diverged": DIVERGED,
    "compare-interrupted": INTERRUPTED,
}
