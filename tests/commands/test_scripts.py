"""Questions about a training script, asked of a fake one: batch sizes, validation, and what a script decides itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fake_script import WITH_N, WITHOUT_N, FakeScript, script_config
from tests.fakes import MIB
from tests.report.drawing import flat
from vram_cli import advise, breakdown, check, find_batch
from vram_cli.commands.inspect import inspect
from vram_cli.compare import compare_batch_sizes
from vram_cli.config import Config, with_overrides
from vram_cli.errors import ConfigError, DoesNotFitError, Interrupted, ProbeError, WorkloadError
from vram_cli.records import CheckLimits, CheckResult, Detail, Limit, Measurement, Outcome, Phase
from vram_cli.report.formats.json import to_json
from vram_cli.report.saved import from_json

LARGEST = 1297
"""The largest batch that fits into the 100 MiB of the fake script."""


def test_largest_batch_and_no_prediction_runs_the_script_again() -> None:
    script = FakeScript(is_gpu=True)
    result = find_batch(script_config(), open_probe=script)
    assert (result.max_batch_size, result.limited_by, result.validation) == (LARGEST, Limit.MEMORY, None)
    assert len(script.opened) == 1
    assert script.measured[-1] == (LARGEST, Detail.VALIDATION)
    assert [detail for _, detail in script.measured].count(Detail.VALIDATION) == 1


def test_data_set_that_the_script_trains_on_is_a_limit() -> None:
    result = find_batch(script_config(), open_probe=FakeScript(num_samples=300))
    assert (result.max_batch_size, result.limited_by) == (300, Limit.DATASET)
    assert "Limited by: the data set (300 samples)" in flat(result)
    beyond = find_batch(script_config("search.limit_to_dataset=false"), open_probe=FakeScript(num_samples=300))
    assert beyond.max_batch_size == LARGEST


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (100 * MIB, "Validation: takes more than training: 100 MiB with its own batch of 1,000"),
        (101 * MIB, "Validation: ran out of memory in validation with its own batch of 1,000"),
        (50 * MIB, "validation ran with its own batch of 1,000: 50.0 MiB reserved at its peak, no more than in"),
    ],
)
def test_validation_at_the_answer_is_told(size: int, words: str) -> None:
    result = find_batch(script_config(), open_probe=FakeScript(validation_bytes=size))
    assert result.validation is not None
    assert result.validation.batch_size == result.max_batch_size == LARGEST
    assert words in flat(result)
    assert from_json(to_json(result), "here") == result


def test_validation_that_breaks_does_not_take_the_answer() -> None:
    result = find_batch(script_config(), open_probe=FakeScript(error=ProbeError("the worker is gone")))
    assert (result.max_batch_size, result.validation) == (LARGEST, None)
    assert "validation was not measured: the worker is gone" in result.notes


def test_ctrl_c_in_validation_reports_the_search() -> None:
    with pytest.raises(Interrupted) as stop:
        find_batch(script_config(), open_probe=FakeScript(error=KeyboardInterrupt()))
    assert (stop.value.partial.max_batch_size, stop.value.partial.interrupted) == (LARGEST, True)


def test_error_of_the_script_is_that_of_its_user() -> None:
    error = Measurement(batch_size=1, outcome=Outcome.ERROR, phase=Phase.FORWARD, message="Oh", traceback="train.py:7")
    for command in (find_batch, breakdown):
        with pytest.raises(WorkloadError, match="fails in forward, for a reason other than memory: Oh") as caught:
            command(script_config(command=WITHOUT_N), open_probe=FakeScript(failure=error))
        assert (caught.value.traceback, caught.value.exit_code) == ("train.py:7", 2)


def test_breakdown_runs_the_scripts_own_batch_size() -> None:
    script = FakeScript()
    result = breakdown(script_config(command=WITHOUT_N), open_probe=script)
    assert script.measured == [(64, Detail.ROWS)]
    assert flat(result).startswith("Batch size: 64, the script's own, of the DataLoader of train.py:8.")
    named = breakdown(script_config("train.batch_size=32", command=WITHOUT_N), open_probe=script)
    assert (script.measured[-1], named.run.config["train"]) == ((32, Detail.ROWS), {"batch_size": 32})
    assert flat(named).startswith("Batch size: set in the DataLoader of train.py:8.")


def test_command_with_n_needs_a_batch_size() -> None:
    script = FakeScript()
    for run in (lambda: breakdown(script_config(), open_probe=script), lambda: checked(script)):
        with pytest.raises(ConfigError, match=r"the command has \{n\}, and no batch size is given") as caught:
            run()
        assert "-n" in caught.value.hint
    assert script.opened == []
    assert flat(breakdown(script_config("train.batch_size=8"), open_probe=script)).startswith(
        "Batch size: {n} in the command."
    )


def test_loader_without_a_batch_size_needs_one() -> None:
    with pytest.raises(ConfigError, match="batch size is not known"):
        breakdown(script_config(command=WITHOUT_N), open_probe=FakeScript(batch_size=None))


def test_batch_that_does_not_fit_is_not_predicted_by_another_run() -> None:
    script = FakeScript(is_gpu=True)
    with pytest.raises(DoesNotFitError):
        breakdown(script_config("train.batch_size=2000"), open_probe=script)
    assert script.measured == [(2000, Detail.ROWS)]


def checked(script: FakeScript, *overrides: str, command: tuple[str, ...] = WITH_N, **options: Any) -> CheckResult:
    limits = CheckLimits(max_memory_bytes=80 * MIB, tolerance=0.02)
    return check(script_config(*overrides, command=command), limits, open_probe=script, **options)


def test_check_compares_a_script_at_the_same_size_only() -> None:
    script = FakeScript()
    own = checked(script, command=WITHOUT_N)
    assert own.passed
    assert script.measured[-1] == (64, Detail.MODULES)
    assert flat(own).startswith("Batch size: 64, the script's own")
    again = checked(script, "train.batch_size=64", command=WITHOUT_N, baseline=own.result)
    assert (again.passed, again.baseline_peak) == (True, own.peak)
    search = find_batch(script_config("search.max_batch_size=64", command=WITHOUT_N), open_probe=script)
    assert checked(script, command=WITHOUT_N, baseline=search).passed
    with pytest.raises(ConfigError, match=r"train\.batch_size was 64, is 32"):
        checked(FakeScript(batch_size=32), command=WITHOUT_N, baseline=own.result)
    with pytest.raises(ConfigError, match=r"script\.command was"):
        checked(script, "train.batch_size=64", baseline=own.result)
    assert not checked(script, "train.batch_size=1200").passed


def test_advise_tries_what_a_script_leaves_open() -> None:
    script = FakeScript(is_gpu=True)
    advice = advise(script_config(), also_try=["device.cudnn_benchmark=true"], fit_batch=2000, open_probe=script)
    assert [change.overrides for change in advice.optimizations] == [
        ("device.expandable_segments=true",),
        ("device.cudnn_benchmark=true",),
    ]
    assert advice.best is not None
    assert advice.best.max_batch_size > advice.max_batch_size > 0
    assert advice.learning_rate is None
    assert advice.fit_batch is not None
    assert advice.fit_batch.micro_batch_size is None
    answer = flat(advice)
    assert answer.startswith("Batch size: {n} in the command.")
    assert "Note: a script decides about its model, precision and optimizer itself" in answer
    assert "To train with 2,000: not possible: nothing that a script leaves open makes it fit whole" in answer
    assert answer.endswith("--set device.expandable_segments=true -- python3 train.py --batch-size {n}")
    assert from_json(to_json(advice), "here") == advice


def test_on_the_cpu_a_script_leaves_nothing_open() -> None:
    assert advise(script_config(), open_probe=FakeScript()).optimizations == ()


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (lambda config: find_batch(config, with_eval=True), "--with-eval: "),
        (lambda config: find_batch(config, download=True), "--download: "),
        (
            lambda config: find_batch(with_overrides(config, ["search.objective=throughput"])),
            "search.objective: the throughput of a script",
        ),
        (lambda config: breakdown(config, batch_size=1, snapshot=Path("a.pickle")), "--snapshot: "),
        (lambda config: advise(config, effective_batch=512), "--effective-batch: "),
        (lambda config: advise(config, also_try=["precision=amp-bf16"]), "--also-try precision=amp-bf16: "),
        (lambda config: advise(config, also_try=["script.loader=a.py:1"]), "--also-try script.loader=a.py:1: "),
        (lambda config: advise(config, also_try=["train.batch_size=8"]), "--also-try train.batch_size=8: "),
        (inspect, "vram inspect describes"),
        (compare_batch_sizes, "vram compare trains"),
    ],
)
def test_questions_that_make_no_sense_for_a_script_are_refused_by_name(
    run: Callable[[Config], object], name: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(script_config())
    assert name in caught.value.message
    assert caught.value.hint
