"""The trainings that the tests here measure on every ground; run as a module, on the virtual GPU."""

from __future__ import annotations

from typing import Any

from tests.trainings.grounds import HERE, print_virtual

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

TRAININGS: dict[str, dict[str, Any]] = {**GROWING, **CONSTANT}

if __name__ == "__main__":
    print_virtual(TRAININGS)
