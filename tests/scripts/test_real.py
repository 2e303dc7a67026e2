"""Scripts on the CPU, under a limit of its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.scripts.conftest import CPU, RunScript
from tests.scripts.test_both import HEAD, WITH_N, trial_of
from vram_cli.records import Category, Detail, Limit, Measurement, Outcome

Configs = Callable[[str, Sequence[str], int], Measurement]


def test_a_search_ends_at_a_certificate(on_cpu: RunScript) -> None:
    overrides = ["device.memory_limit=48MiB", "search.tolerance=0"]
    run = on_cpu("plain.py", *WITH_N, "--test-batch-size", "100", search=True, overrides=overrides)
    assert run.refusal is None, run.refusal
    result = run.result
    assert result is not None
    largest = result.search.max_batch_size
    assert largest is not None
    assert 60 < largest < 180
    assert result.search.limited_by is Limit.MEMORY
    outcomes = {trial.batch_size: trial for trial in result.search.trials}
    failed = outcomes[largest + 1]
    assert (failed.outcome, failed.steps) == (Outcome.OUT_OF_MEMORY, 0)
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
    print(found, expected)
    of_tensors = (Category.PARAMETERS, Category.GRADIENTS, Category.OPTIMIZER_STATE, Category.ACTIVATIONS)
    assert {row: found[row] for row in of_tensors} == {row: expected[row] for row in of_tensors}
    data_set = 512 * 28 * 28 + 512 * 8
    assert 0 <= found[Category.TEMPORARIES] - expected[Category.TEMPORARIES] <= data_set


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
    run = on_cpu(HEAD + "for _ in range(9):\n    train(*data[:n])\n    n > 8 and os.kill(os.getpid(), 9)\n", "{n}", sizes=(16,))
    trial = trial_of(run)
    assert trial.outcome is Outcome.KILLED
    assert "SIGKILL" in trial.message
