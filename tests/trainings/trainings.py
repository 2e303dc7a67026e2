"""The trainings that the tests here measure on every ground; run as a module, on the virtual GPU."""

from __future__ import annotations

from typing import Any

from tests.trainings.grounds import HERE, print_virtual

LABELS = {"shape": [], "dtype": "int64", "high": 2}
WORDS = {"inputs": {"x": {"shape": [3], "dtype": "int64", "high": 1000}}, "targets": LABELS}

GROWING = {
    "keeps losses with their graphs": {"step": HERE + "keeps_losses"},
    "keeps predictions": {"step": HERE + "keeps_predictions"},
    "begins to keep outputs in the tenth step": {
        "step": HERE + "keeps_from_the_tenth_step",
        "search": {"steps": 20},
    },
}

CONSTANT = {
    "leaves reference cycles, which Python collects": {"step": HERE + "leaves_cycles"},
    "keeps the last two outputs": {"step": HERE + "keeps_the_last_two"},
    "copies the weights in the third step": {"step": HERE + "averages_from_the_third_step"},
    "accumulates gradients over two calls": {"step": HERE + "steps_every_other_time"},
}

DTYPES = {
    "two dtypes": {"model": {"factory": HERE + "TwoDtypes"}, "optimizer": {"name": "adam"}},
    "float64": {"model": {"factory": HERE + "Double"}, "optimizer": {"name": "adam"}},
    "complex weights": {"model": {"factory": HERE + "Spectral"}, "optimizer": {"name": "adam"}},
}

SPARSE: dict[str, dict[str, Any]] = {
    "sparse gradients, SGD": {"model": {"factory": HERE + "Words"}, "data": WORDS},
    "sparse gradients of a bag, SGD": {"model": {"factory": HERE + "Words", "kwargs": {"bag": True}}, "data": WORDS},
    "sparse gradients, SparseAdam": {
        "model": {"factory": HERE + "Words"}, "data": WORDS, "step": HERE + "sparse_step",
    },
    "sparse gradients of a bag, Adagrad": {
        "model": {"factory": HERE + "Words", "kwargs": {"bag": True}}, "data": WORDS, "step": HERE + "adagrad_step",
    },
}  # fmt: skip

STEPS = {
    "lazy layers": {"model": {"factory": HERE + "Lazy"}, "optimizer": {"name": "adam"}},
    "a loss in a tuple": {
        "model": {"factory": HERE + "WithLoss"},
        "data": {"inputs": {"x": {"shape": [8]}, "labels": LABELS}},
        "loss": "model",
        "optimizer": {"name": "adam"},
    },
    "two optimizers": {"step": HERE + "gan_step", "optimizer": {"name": "adam"}},
    "an optimizer with a closure": {"step": HERE + "lbfgs_step"},
    "a gradient within the loss": {"step": HERE + "penalty_step"},
    "a graph used twice, with hooks": {"step": HERE + "retaining_step"},
    "questions to the device": {"step": HERE + "asks_the_device"},
}

KERNEL_LIMITS = {
    "attention with dropout, 65,536 rows": {"step": HERE + "attends", "n": 65_536},
    "attention with dropout, 65,535 rows": {"step": HERE + "attends", "n": 65_535},
    "padding beyond 32 bits": {"step": HERE + "pads", "n": 2**18},
    "a pool with 65,536 rows of blocks": {"step": HERE + "pools", "n": 65_536},
}
"""Only predicted: a CPU has other kernels."""

TRAININGS: dict[str, dict[str, Any]] = {**GROWING, **CONSTANT, **DTYPES, **SPARSE, **STEPS, **KERNEL_LIMITS}

if __name__ == "__main__":
    print_virtual(TRAININGS)
