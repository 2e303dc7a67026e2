"""Scripts on the CPU, under a limit of its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.scripts.conftest import CPU, RunScript
from tests.scripts.test_scripts import HEAD, WITH_N, trial_of
from vram_cli.records import Category, Detail, Limit, Measurement, Outcome

Configs = Callable[[str, Sequence[str], int], Measurement]


def test_a_search_ends_at_a_certificate(on_cpu: RunScript) -> None:
    overrides = ["device.memory_limit=48MiB", "search.tolerance=0"]
    run = on_cpu("plain.py", *WITH_N, "--test-batch-size", "100", search=True, overrides=overrides)
    assert run.refusal is None, run.refusal
    result = run.result
    assert result is not None
    largest = result.max_batch_size
    assert largest is not None
    assert 60 < largest < 180
    assert result.limited_by is Limit.MEMORY
    outcomes = {trial.batch_size: trial for trial in result.trials}
    failed = outcomes[largest + 1]
    assert failed.outcome is Outcome.OUT_OF_MEMORY
    assert failed.phase is not None
    assert result.breakdown is not None
    assert run.changes == []
    assert run.children == []


def test_a_plain_script_has_the_tensors_of_its_config(on_cpu: RunScript, measured_config: Configs) -> None:
    script = trial_of(on_cpu("plain.py", *WITH_N, sizes=(64,), detail=Detail.ROWS))
    config = measured_config("plain.yaml", CPU, 64)
    assert script.breakdown is not None
    assert config.breakdown is not None
    found, expected = (
        {row.category: row.bytes for row in breakdown.rows} for breakdown in (script.breakdown, config.breakdown)
    )
    # The script holds its data sets besides, and what Python's lists and kernels take.
    assert found[Category.KEPT] == 2 * 512 * 28 * 28
    of_tensors = (
        Category.TEMPORARIES,
        Category.PARAMETERS,
        Category.GRADIENTS,
        Category.OPTIMIZER_STATE,
        Category.BATCH_DATA,
        Category.ACTIVATIONS,
    )
    assert [found[category] for category in of_tensors] == [expected[category] for category in of_tensors]


def test_the_limit_stays_after_an_exception_that_the_script_catches(on_cpu: RunScript) -> None:
    run = on_cpu(
        HEAD
        + """
try:
    torch.linalg.cholesky(-torch.eye(3))
except RuntimeError:
    print("not positive")
for x, y in DataLoader(data, batch_size=n):
    train(x, y)
    held = torch.ones(n, 2**20)
""",
        "{n}",
        sizes=(16, 128),
    )
    assert [trial.outcome for trial in run.trials] == [Outcome.FITS, Outcome.OUT_OF_MEMORY]
    assert run.printed.count("not positive") == 3
    assert "held = torch.ones(n, 2**20)" in run.trials[1].traceback
    assert "vram_cli" not in run.trials[1].traceback


def test_memory_of_numpy_runs_out_in_a_trial(on_cpu: RunScript) -> None:
    run = on_cpu(
        HEAD
        + """
import numpy as np
for x, y in DataLoader(data, batch_size=n):
    train(x, y)
    try:
        extra = np.ones((n, 2**20))
    except MemoryError:
        print("caught")
        raise
""",
        "{n}",
        sizes=(128,),
    )
    assert trial_of(run).outcome is Outcome.OUT_OF_MEMORY


def test_a_trial_that_is_killed_did_not_fit(on_cpu: RunScript) -> None:
    run = on_cpu(
        HEAD + "for _ in range(9):\n    train(*data[:n])\n    n > 12 and os.kill(os.getpid(), 9)\n", "{n}", sizes=(16,)
    )
    trial = trial_of(run)
    assert trial.outcome is Outcome.KILLED
    assert "SIGKILL" in trial.message
