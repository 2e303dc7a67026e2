"""Validation loss and accuracy, summed over batches of different sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.workload.configs import HERE, config
from vram_cli.compare.scores import Score, add_score
from vram_cli.workload import Workload, build_workload


def identity_workload(loss: str | None = None) -> Workload:
    settings = config(loss={"factory": loss}) if loss else config()
    return replace(build_workload(settings, torch.device("cpu")), model=torch.nn.Identity())


OUTPUTS = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 9.0, 0.0]])


def test_score_is_independent_of_the_batch_size() -> None:
    work, targets = identity_workload(), torch.tensor([0, 1, 2])
    whole, split = Score(), Score()
    add_score(work, (OUTPUTS, targets), whole)
    add_score(work, (OUTPUTS[:1], targets[:1]), split)
    add_score(work, (OUTPUTS[1:], targets[1:]), split)
    assert whole.accuracy == split.accuracy == pytest.approx(2 / 3)
    assert split.mean_loss == pytest.approx(whole.mean_loss)
    assert whole.samples == split.samples == 3


def test_ignored_targets_are_not_counted() -> None:
    score = Score()
    add_score(identity_workload(), (OUTPUTS, torch.tensor([0, -100, 2])), score)
    assert (score.correct, score.targets) == (1, 2)


def test_class_dimension_is_1_or_the_last() -> None:
    score = Score()
    pixels = OUTPUTS.T.reshape(1, 3, 3)  # one image of three pixels
    add_score(identity_workload(), (pixels, torch.tensor([[0, 1, 1]])), score)
    assert score.accuracy == 1
    words = torch.zeros(2, 5, 3)
    words[..., 2] = 1
    score = Score()
    add_score(identity_workload(HERE + "over_words"), (words, torch.full((2, 5), 2)), score)
    assert score.accuracy == 1


def test_regression_has_no_accuracy() -> None:
    score = Score()
    add_score(identity_workload("torch.nn:MSELoss"), (OUTPUTS, OUTPUTS * 2), score)
    assert score.accuracy is None
    assert score.mean_loss > 0
