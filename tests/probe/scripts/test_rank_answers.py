"""The answers of several ranks: when a trial is over, and what came of it."""

from __future__ import annotations

from typing import Any

import pytest

from vram_cli.errors import ConfigError
from vram_cli.probe.messages import PhaseStarted, Refused
from vram_cli.probe.scripts.messages import ANSWER, Answer, ScriptDone
from vram_cli.probe.scripts.rank_answers import RankAnswers
from vram_cli.records import Measurement, Outcome, Phase

CLOSED = "RuntimeError: Connection closed by peer"


def sent(answer: Answer) -> dict[str, Any]:
    content: dict[str, Any] = ANSWER.dump_python(answer, mode="json")
    return content


def done(outcome: Outcome = Outcome.FITS, message: str = "", **facts: Any) -> dict[str, Any]:
    measurement = Measurement(batch_size=8, outcome=outcome, message=message)
    return sent(ScriptDone(measurement=measurement, allocator_bytes=100, **facts))


def begins(phase: Phase) -> dict[str, Any]:
    return sent(PhaseStarted(phase=phase))


@pytest.fixture
def answers() -> RankAnswers:
    found = RankAnswers(8, lambda _: None, grace_seconds=0.0)
    found.receive(begins(Phase.BUILD), 0, 2)
    found.receive(begins(Phase.FORWARD), 1, 2)
    return found


def outcomes(answers: RankAnswers) -> tuple[Outcome, int | None, list[Outcome | None]]:
    merged = answers.merged()
    assert merged is not None
    return merged.measurement.outcome, merged.measurement.rank, [each.outcome for each in merged.measurement.ranks]


def test_one_process_alone_is_no_rank() -> None:
    phases: list[Phase] = []
    answers = RankAnswers(8, phases.append)
    answers.receive(begins(Phase.BACKWARD))
    answers.lose(0)
    assert (answers.is_over, answers.merged(), answers.last_phase) == (False, None, Phase.BACKWARD)
    answers.receive(done())
    assert answers.is_over
    assert phases == [Phase.BACKWARD]
    merged = answers.merged()
    assert merged is not None
    assert (merged.measurement.rank, merged.measurement.ranks) == (None, ())


def test_a_trial_fits_if_all_ranks_do(answers: RankAnswers) -> None:
    answers.receive(done(made=("a",)), 1, 2)
    assert not answers.is_over
    answers.receive(done(made=("b", "a")), 0, 2)
    answers.lose(0)
    assert answers.is_over
    assert outcomes(answers) == (Outcome.FITS, 0, [Outcome.FITS, Outcome.FITS])
    merged = answers.merged()
    assert merged is not None
    assert merged.made == ("a", "b")


def test_a_rank_that_fails_ends_the_trial(answers: RankAnswers) -> None:
    answers.receive(done(Outcome.OUT_OF_MEMORY), 1, 2)
    assert answers.is_over
    assert outcomes(answers) == (Outcome.OUT_OF_MEMORY, 1, [None, Outcome.OUT_OF_MEMORY])


def test_a_rank_that_dies_is_the_cause_even_if_another_tells_of_it_first(answers: RankAnswers) -> None:
    answers.receive(done(Outcome.ERROR, CLOSED), 0, 2)
    assert outcomes(answers) == (Outcome.KILLED, 1, [None, Outcome.KILLED])
    answers.lose(1)
    assert answers.is_over
    assert outcomes(answers) == (Outcome.KILLED, 1, [None, Outcome.KILLED])


def test_others_may_tell_of_their_own_failure(answers: RankAnswers) -> None:
    answers.grace_seconds = 60.0
    answers.receive(done(Outcome.OUT_OF_MEMORY), 1, 2)
    assert not answers.is_over
    answers.receive(done(Outcome.OUT_OF_MEMORY), 0, 2)
    assert answers.is_over
    assert outcomes(answers) == (Outcome.OUT_OF_MEMORY, 1, [Outcome.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY])


def test_the_validation_of_one_rank_is_enough(answers: RankAnswers) -> None:
    answers.needs_all = False
    answers.receive(done(), 0, 2)
    assert answers.is_over
    assert outcomes(answers) == (Outcome.FITS, 0, [Outcome.FITS])


def test_a_refusal_is_that_of_all(answers: RankAnswers) -> None:
    answers.receive(sent(Refused(error="ConfigError", message="no", hint="yes")), 1, 2)
    assert answers.is_over
    assert answers.refused is not None


def test_a_prediction_stands_for_all_ranks_that_the_command_names() -> None:
    answers = RankAnswers(8, lambda _: None, declared=8)
    answers.receive(done(), 0, 8)
    assert answers.is_over
    with pytest.raises(ConfigError, match="starts 16 training processes") as caught:
        answers.receive(done(), 9, 16)
    assert "torchrun" in caught.value.hint
