"""Scripts on the virtual GPU: bytes of their configs, values that they read, and their refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.scripts.conftest import T4, RunScript
from tests.scripts.test_scripts import HEAD, LOOP, WITH_N, peaks, trial_of
from vram_cli.records import Detail, HostRead, Limit, Measurement, Outcome, Phase

Configs = Callable[[str, Sequence[str], int], Measurement]


@pytest.mark.parametrize("size", [7, 64])
def test_a_plain_script_takes_the_bytes_of_its_config(on_t4: RunScript, measured_config: Configs, size: int) -> None:
    script = trial_of(on_t4("plain.py", *WITH_N, sizes=(size,), detail=Detail.ROWS))
    config = measured_config("plain.yaml", T4, size)
    assert script.breakdown is not None
    assert config.breakdown is not None
    rows = [{row.category: row.bytes for row in breakdown.rows} for breakdown in (script.breakdown, config.breakdown)]
    assert rows[0] == rows[1]
    assert 0 <= script.resident_bytes - config.resident_bytes <= 1024  # the labels
    assert {peak.phase: peak.reserved_bytes for peak in script.peaks}[Phase.BACKWARD] == max(
        peak.reserved_bytes for peak in config.peaks
    )


def test_a_search_ends_at_a_certificate(on_t4: RunScript) -> None:
    run = on_t4("plain.py", *WITH_N, "--test-batch-size", "100", search=True)
    assert run.refusal is None, run.refusal
    result = run.result
    assert result is not None
    largest = result.max_batch_size
    assert largest is not None
    assert result.limited_by is Limit.MEMORY
    outcomes = {trial.batch_size: trial for trial in result.trials}
    assert outcomes[largest].outcome is Outcome.FITS
    failed = outcomes[largest + 1]
    assert (failed.outcome, failed.phase) == (Outcome.OUT_OF_MEMORY, Phase.BACKWARD)
    assert failed.requested_bytes is not None
    assert "plain.py" in failed.traceback
    assert result.validation is not None
    assert result.validation.fits
    assert run.changes == []


def test_values_that_the_script_reads_are_listed(on_t4: RunScript) -> None:
    trial = trial_of(on_t4("plain.py", *WITH_N, sizes=(64,)))
    assert trial.reads == (
        HostRead(line="plain.py:50", bytes=1, count=3, value="computed"),
        HostRead(line="plain.py:56", bytes=4, count=1, value="computed"),
    )


def test_a_mask_is_assumed_to_select_all(on_t4: RunScript) -> None:
    masked = HEAD.replace("model(x.to(device))", "model(x.to(device)[x.to(device)[:, 0] > 0])")
    found, expected = (trial_of(on_t4(script + LOOP, "{n}", sizes=(4096,))) for script in (masked, HEAD))
    assert [(read.line, read.value) for read in found.reads] == [("train.py:14", "most")]
    assert peaks(found)[Phase.FORWARD] == peaks(expected)[Phase.FORWARD]


CPU_ONLY = HEAD.replace('"cuda" if torch.cuda.is_available() else "cpu"', '"cpu"')


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        (CPU_ONLY + LOOP, "ConfigError", "the script trained without the GPU: it never used CUDA"),
        ((HEAD + LOOP).replace("SGD", "LBFGS"), "UnsupportedError", "torch.optim.LBFGS"),
    ],
)
def test_refusals(on_t4: RunScript, script: str, kind: str, message: str) -> None:
    run = on_t4(script, "{n}", sizes=(8,))
    assert run.refusal is not None
    assert run.refusal.kind == kind
    assert message in run.refusal.message
    assert "--device cpu" in run.refusal.hint
