"""The name of a training in answers, and its steps."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest

from vram_cli.probe.live.make_training import name_of, steps_of


class Trainer:
    def train(self, n: int) -> None: ...

    def __call__(self, n: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (Trainer().train, r"Trainer.train \(test_make_training.py:\d+\)"),
        (partial(Trainer.train, Trainer()), r"Trainer.train \(test_make_training.py:\d+\)"),
        (Trainer(), r"Trainer \(test_make_training.py:\d+\)"),
        (int, "int"),
    ],
)
def test_a_function_is_named_with_its_line(function: Any, name: str) -> None:
    assert re.fullmatch(name, name_of(function))


@pytest.mark.parametrize("file", ["/tmp/ipykernel_123/456.py", "<ipython-input-3-0ab1>"])
def test_a_function_of_a_notebook_is_named_with_the_line_of_its_cell(file: str) -> None:
    scope: dict[str, Any] = {}
    exec(compile("\ndef make_training(n): ...", file, "exec"), scope)
    assert name_of(scope["make_training"]) == "make_training (cell, line 2)"


def test_each_call_runs_one_step_of_either_form() -> None:
    done: list[int] = []
    for training in (map(done.append, (1, 2)), partial(done.append, 3)):
        run_next = steps_of(lambda _, training=training: training, 8, 2)
        run_next()
        run_next()
    assert done == [1, 2, 3, 3]
