"""How good a model is, counted over batches of different sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.workload.configs import HERE, config
from vram_cli.compare.scores import Score, add_score
from vram_cli.workload import Workload, build_workload


def work_that_returns_its_input(loss: str | None = None) -> Workload:
    settings = config(loss={"factory": loss}) if loss else config()
    return replace(build_workload(settings, torch.device("cpu")), model=torch.nn.Identity())


RIGHT = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 9.0, 0.0]])


def test_samples_count_alike_whatever_batch_they_are_in() -> None:
    work, targets = work_that_returns_its_input(), torch.tensor([0, 1, 2])
    whole, parts = Score(), Score()
    add_score(work, (RIGHT, targets), whole)
    add_score(work, (RIGHT[:1], targets[:1]), parts)
    add_score(work, (RIGHT[1:], targets[1:]), parts)
    assert whole.accuracy == parts.accuracy == pytest.approx(2 / 3)
    assert parts.mean_loss == pytest.approx(whole.mean_loss)
    assert whole.samples == parts.samples == 3


def test_targets_that_are_ignored_are_not_counted() -> None:
    score = Score()
    add_score(work_that_returns_its_input(), (RIGHT, torch.tensor([0, -100, 2])), score)
    assert (score.right, score.targets) == (1, 2)


def test_classes_lie_along_dimension_1_or_the_last_one() -> None:
    score = Score()
    pixels = RIGHT.T.reshape(1, 3, 3)  # one image of three pixels
    add_score(work_that_returns_its_input(), (pixels, torch.tensor([[0, 1, 1]])), score)
    assert score.accuracy == 1
    words = torch.zeros(2, 5, 3)
    words[..., 2] = 1
    score = Score()
    add_score(work_that_returns_its_input(HERE + "over_words"), (words, torch.full((2, 5), 2)), score)
    assert score.accuracy == 1


def test_numbers_are_no_classes() -> None:
    score = Score()
    add_score(work_that_returns_its_input("torch.nn:MSELoss"), (RIGHT, RIGHT * 2), score)
    assert score.accuracy is None
    assert score.mean_loss > 0
