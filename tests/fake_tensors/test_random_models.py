"""A few random trainings; `python -m tests.fake_tensors.random_models 1000` tries more."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fake_tensors.random_models import Training, check, trainings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(trainings())
def test_predicted_bytes_are_those_of_real_steps(training: Training) -> None:
    check(training)
