"""The validation of a script, which runs once after the steps of a trial."""

from __future__ import annotations

import pytest

from tests.scripts.conftest import RunScript
from tests.scripts.test_scripts import GROUNDS, HEAD, LOOP, WITH_N, peaks, trial_of
from vram_cli.records import Detail, Outcome, Phase


@pytest.fixture(params=GROUNDS)
def run_script(request: pytest.FixtureRequest) -> RunScript:
    run: RunScript = request.getfixturevalue(request.param)
    return run


def test_a_validation_with_its_own_larger_batch(run_script: RunScript) -> None:
    run = run_script("plain.py", *WITH_N, "--test-batch-size", "500", sizes=(8,), detail=Detail.VALIDATION)
    phases = peaks(trial_of(run))
    assert phases[Phase.VALIDATION] > phases[Phase.BACKWARD] + 500 * 16 * 26 * 26 * 4
    assert "test: loss" not in run.printed


def test_a_validation_that_does_not_fit(run_script: RunScript) -> None:
    run = run_script("plain.py", *WITH_N, "--test-batch-size", "4000", sizes=(8,), detail=Detail.VALIDATION)
    trial = trial_of(run)
    assert (trial.outcome, trial.phase, trial.steps) == (Outcome.OUT_OF_MEMORY, Phase.VALIDATION, 3)
    assert trial.requested_bytes is not None
    assert "plain.py" in trial.traceback


def test_a_script_without_validation(run_script: RunScript) -> None:
    trial = trial_of(run_script(HEAD + LOOP, "{n}", sizes=(8,), detail=Detail.VALIDATION))
    assert trial.outcome is Outcome.FITS
    assert Phase.VALIDATION not in peaks(trial)


def test_a_validation_every_few_steps(run_script: RunScript) -> None:
    run = run_script(
        HEAD
        + """
for step, (x, y) in enumerate(DataLoader(data, batch_size=n)):
    train(x, y)
    if step % 2 == 1:
        model.eval()
        with torch.no_grad():
            for x, y in DataLoader(data, batch_size=200):
                model(x.to(device))
        model.train()
        print("validated")
""",
        "{n}",
        sizes=(2,),
        detail=Detail.VALIDATION,
    )
    phases = peaks(trial_of(run))
    assert phases[Phase.VALIDATION] > phases[Phase.FORWARD] + 100 * 512 * 4
