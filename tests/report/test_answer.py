"""The text of an answer: its sentences are true of the result, and the last command asks the same question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from vram_cli.records import Category, Certificate, FindBatchResult, Limit, Measurement, Outcome, Phase
from vram_cli.report.answers.find_batch import headline
from vram_cli.report.next_step import next_step
from vram_cli.units import GIB, MIB

from .drawing import WIDTHS, assert_within, flat, text
from .examples import ALL, BREAKDOWN, DATASET, DOES_NOT_FIT, GPU, INTERRUPTED, MEMORY, OOM, failed, peaks, ran


def with_run(result: FindBatchResult, **fields: Any) -> FindBatchResult:
    return replace(result, run=replace(result.run, **fields))


def limited(limit: Limit, outcome: Outcome, phase: Phase | None = Phase.FORWARD, fails: int = 1537) -> FindBatchResult:
    proof = Certificate(
        largest_ok=1536, steps=3, smallest_failed=fails, outcome=outcome, phase=phase, message="the words of it"
    )
    return replace(MEMORY, limited_by=limit, certificate=proof)


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (MEMORY, "Limited by: memory (1,537 ran out of memory in backward)"),
        (limited(Limit.KERNEL_LIMIT, Outcome.KERNEL_LIMIT), "a limit of a kernel, not memory (1,537 was refused by a"),
        (limited(Limit.HOST_MEMORY, Outcome.KILLED, None), "this computer's RAM (1,537 was killed)"),
        (limited(Limit.TIME, Outcome.TIMED_OUT), "the time limit (1,537 exceeded its time limit in forward)"),
        (
            limited(Limit.ERROR, Outcome.ERROR),
            "an error in the training code (1,537 raised an error in forward: the words of it)",
        ),
        (limited(Limit.MEMORY, Outcome.OUT_OF_MEMORY, fails=1538), "in forward; 1 size between not tried)"),
        (limited(Limit.MEMORY, Outcome.OUT_OF_MEMORY, fails=1600), "in forward; 63 sizes between not tried)"),
        (
            replace(DATASET, limited_by=Limit.MAX_BATCH_SIZE, max_batch_size=1024),
            "your maximum of 1,024; memory alone would allow about 310,000 (extrapolated, not run)",
        ),
        (DATASET, "the data set (60,000 samples); memory alone would allow about 310,000 (extrapolated, not run)"),
        (replace(DATASET, extrapolated_batch_size=None), "Limited by: the data set (60,000 samples) Peak memory"),
    ],
)
def test_limit_is_named(result: FindBatchResult, sentence: str) -> None:
    assert sentence in flat(result)


@pytest.mark.parametrize(
    ("multiple_of", "margin", "recommended", "sentence"),
    [
        (8, 0.05, 1456, "1,456 (largest multiple of 8 that leaves 5 % of memory free)"),
        (1, 0.025, 1456, "1,456 (largest size that leaves 2.5 % of memory free)"),
        (16, 0.0, 1456, "1,456 (largest multiple of 16 that fits)"),
        (8, 0.05, None, "none (no size that ran leaves 5 % of memory free)"),
        (8, 0.05, 5, "5 (largest size below 8 that leaves 5 % of memory free)"),
        (1, 0.0, 1456, "1,456 (largest size that fits)"),
    ],
)
def test_recommended_size_names_its_rule(
    multiple_of: int, margin: float, recommended: int | None, sentence: str
) -> None:
    result = replace(MEMORY, multiple_of=multiple_of, margin=margin, recommended_batch_size=recommended)
    assert f"Recommended: {sentence}" in flat(result)


def test_time_limit_claims_no_largest_size() -> None:
    answer = flat(limited(Limit.TIME, Outcome.OUT_OF_MEMORY, fails=2000))
    assert answer.startswith("Largest that ran: 1,536 (")
    assert "Recommended: 1,456 (a multiple of 8 that leaves 5 % of memory free)" in answer


def test_used_memory_is_all_that_is_not_free() -> None:
    assert headline(MEMORY)[0] == ("Largest batch size:", "1,536 (10.6 of 12.0 GiB, 89 %)")


def test_peak_of_the_trial_without_a_breakdown() -> None:
    trial = replace(ran(1536), peaks=peaks(3 * GIB - 5 * MIB, 0, 1536))
    assert headline(replace(MEMORY, breakdown=None, trials=(trial,)))[0][1] == "1,536 (3.01 of 12.0 GiB, 25 %)"
    assert headline(replace(MEMORY, breakdown=None, trials=()))[0][1] == "1,536"


def test_predictions_are_called_predictions() -> None:
    for result in (MEMORY, BREAKDOWN):
        answer = flat(
            replace(
                result,
                run=replace(result.run, device=replace(GPU, kind="simulated", name="RTX 4090", limit_enforced_by="")),
            )
        )
        assert answer.count("predicted") >= 3
        assert "RTX 4090" in answer
        assert "How it was predicted" in answer
        assert "measured" not in answer


@pytest.mark.parametrize(
    ("trials", "sentence"),
    [
        ((), "Interrupted: before any trial ended"),
        ((ran(1),), "Interrupted: largest that ran 1, nothing failed yet"),
        ((failed(4),), "Interrupted: nothing ran yet, smallest that failed 4"),
        ((ran(512), failed(2048), failed(1024)), "Interrupted: largest that ran 512, smallest that failed 1,024"),
        ((failed(1, Outcome.ERROR), ran(42)), "Interrupted: largest that ran 42, nothing failed yet"),
    ],
)
def test_interrupted(trials: tuple[Measurement, ...], sentence: str) -> None:
    answer = flat(replace(INTERRUPTED, trials=trials, certificate=None))
    assert answer.startswith(sentence)
    assert "Largest batch size" not in answer


def test_nothing_measured_says_so() -> None:
    nothing = replace(DOES_NOT_FIT, trials=(), limited_by=Limit.TIME)
    assert flat(nothing).startswith("Nothing measured: the search ended before its first trial")
    assert "trials none" in flat(nothing)
    assert flat(replace(BREAKDOWN, breakdown=None)).startswith("Nothing measured: ")


def test_misfit_names_the_shortfall() -> None:
    assert flat(DOES_NOT_FIT).startswith(
        "Not even a batch of 1 fits: it ran out of memory in backward, at least 28.0 MiB short"
    )
    silent = replace(DOES_NOT_FIT, shortfall_bytes=None)
    assert flat(silent).startswith(f"Not even a batch of 1 fits: it ran out of memory in backward: {OOM[:60]}")


def test_killed_trial_is_not_called_too_large() -> None:
    killed = Measurement(batch_size=1, outcome=Outcome.KILLED, message="signal 9 (SIGKILL)")
    answer = flat(replace(DOES_NOT_FIT, trials=(killed,), limited_by=Limit.HOST_MEMORY))
    assert answer.startswith("Nothing ran to the end: a batch of 1 was killed: signal 9 (SIGKILL)")
    assert "fits" not in answer.split("How it")[0]


def test_proof_quotes_the_exception() -> None:
    answer = flat(MEMORY)
    assert f"proof 1,536 ran 3 full steps; 1,537 ran out of memory in backward: {OOM[:70]}" in answer
    assert "60,000 ran 3 full steps; nothing larger was tried" in flat(DATASET)
    assert "1 ran 1 full step;" in flat(replace(DATASET, certificate=Certificate(largest_ok=1, steps=1)))


def test_trials_are_counted_by_outcome() -> None:
    trials = (ran(1, 30), ran(2, 31), failed(9), failed(8), failed(7, Outcome.KILLED, None))
    answer = flat(replace(MEMORY, trials=trials))
    assert "trials 5 in 1 min 5 s: 2 ran to the end (3 steps each), 2 out of memory, 1 killed" in answer


@pytest.mark.parametrize(
    ("result", "command"),
    [
        (MEMORY, "vram find-batch --config resnet18_cifar10.yaml --set precision=amp-bf16"),
        (DATASET, "vram find-batch --device cpu --memory-limit 1GiB --no-dataset-limit"),
        (INTERRUPTED, "vram find-batch --config resnet18_cifar10.yaml"),
        (BREAKDOWN, "vram find-batch --config resnet50_imagenet.yaml"),
        (DOES_NOT_FIT, "vram find-batch --config resnet18_cifar10.yaml --set precision=bf16"),
        (
            replace(DOES_NOT_FIT, run=replace(DOES_NOT_FIT.run, config={"precision": "bf16"})),
            "vram breakdown --config resnet18_cifar10.yaml --device cpu --memory-limit 24GiB --batch-size 1",
        ),
        (
            replace(MEMORY, run=replace(MEMORY.run, config={"precision": "bf16"})),
            "vram breakdown --config resnet18_cifar10.yaml --batch-size 1456",
        ),
        (
            replace(
                DATASET,
                run=replace(DATASET.run, device=replace(DATASET.run.device, memory_limit_bytes=1023 * MIB + 7)),
                limited_by=Limit.MAX_BATCH_SIZE,
            ),
            "vram find-batch --device cpu --memory-limit 1072693255B --max-batch-size 622964",
        ),
        (
            with_run(limited(Limit.ERROR, Outcome.ERROR), config_name="mlp_mnist.yaml"),
            "vram breakdown --batch-size 1537",
        ),
        (
            with_run(limited(Limit.TIME, Outcome.OUT_OF_MEMORY), config={"search": {"time_limit": 30.0}}),
            "vram find-batch --config resnet18_cifar10.yaml --time-limit 120",
        ),
        (
            with_run(limited(Limit.TIME, Outcome.TIMED_OUT), config={"search": {"trial_timeout": 900.0}}),
            "vram find-batch --config resnet18_cifar10.yaml --set search.trial_timeout=3600",
        ),
        (
            replace(INTERRUPTED, run=replace(INTERRUPTED.run, config_name="my configs/a'b.yaml")),
            "vram find-batch --config 'my configs/a'\"'\"'b.yaml'",
        ),
    ],
)
def test_next_command(result: FindBatchResult, command: str) -> None:
    assert text(result, 200).splitlines()[-1] == f"  {command}"


def test_long_command_continues_as_a_shell_reads_it() -> None:
    *_, first, second, third = text(MEMORY, 60).splitlines()
    assert (first, second) == ("  vram find-batch \\", "    --config resnet18_cifar10.yaml \\")
    whole = " ".join(line.rstrip("\\").strip() for line in (first, second, third))
    assert tuple(whole.split()) == next_step(MEMORY).words


def test_text_from_users_is_shown_as_it_is() -> None:
    hostile = "[red]a[/red] [1, 2] \x1b[31m :smile: {x}"
    result = replace(
        MEMORY,
        run=replace(
            MEMORY.run,
            config_name=hostile,
            device=replace(GPU, name=hostile, other_processes=(hostile,)),
            versions={"torch": hostile},
        ),
        notes=(hostile,),
        certificate=Certificate(
            largest_ok=1536, steps=3, smallest_failed=1537, outcome=Outcome.ERROR, phase=Phase.FORWARD, message=hostile
        ),
    )
    drawn = text(result, 200)
    assert drawn.count("[red]a[/red] [1, 2] \\x1b[31m :smile: {x}") == 8
    assert "\x1b" not in drawn


@pytest.mark.parametrize("width", WIDTHS)
def test_long_names_are_folded(width: int) -> None:
    long = "x" * 500
    result = replace(
        MEMORY, run=replace(MEMORY.run, config_name=f"mlp {long}", device=replace(GPU, name=long)), notes=(long,)
    )
    drawn = text(result, width)
    assert_within(width, drawn)
    assert drawn.count("x") >= 4 * 500


@pytest.mark.parametrize("name", ALL)
def test_answer_at_80_columns(name: str, golden: Callable[[str, str], str]) -> None:
    drawn = text(ALL[name])
    assert drawn == golden(f"{name}-80", drawn)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ALL)
def test_no_line_is_longer_than_the_console(name: str, width: int) -> None:
    assert_within(width, text(ALL[name], width))


def test_without_block_characters(golden: Callable[[str, str], str]) -> None:
    drawn = text(MEMORY, encoding="ascii")
    assert drawn == golden("find-batch-memory-80-ascii", drawn)
    assert drawn.isascii()


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize("result", [MEMORY, INTERRUPTED])
def test_poor_encodings_get_ascii(encoding: str, result: FindBatchResult) -> None:
    assert text(result, encoding=encoding) == text(result, encoding="ascii")


def test_gradients_are_explained_if_the_peak_comes_before_them() -> None:
    note = "gradients created after that moment are not in this table"
    assert BREAKDOWN.breakdown is not None
    few = {Category.PARAMETERS: 400_000, Category.GRADIENTS: 5_160}
    rows = tuple(replace(row, bytes=few.get(row.category, row.bytes)) for row in BREAKDOWN.breakdown.rows)
    early = replace(BREAKDOWN.breakdown, rows=rows, total_bytes=sum(row.bytes for row in rows))
    assert note in flat(replace(BREAKDOWN, breakdown=early))
    assert note not in flat(replace(BREAKDOWN, breakdown=replace(early, peak_phase=Phase.FORWARD)))
    assert note not in flat(BREAKDOWN)


def test_samples_that_were_not_looked_at_are_among_the_first_lines() -> None:
    data = replace(DATASET.run.data, num_samples=20_000, samples_measured=2000, samples_total=20_000)
    some = with_run(DATASET, data=data)
    assert "Worst batch: of the 2,000 samples looked at; the other 18,000 may be larger Peak memory" in flat(some)
    stream = with_run(DATASET, data=replace(data, num_samples=None, samples_total=None))
    assert "of the 2,000 samples looked at; the stream goes on, and later ones may be larger" in flat(stream)
    broken_down = replace(BREAKDOWN, run=replace(BREAKDOWN.run, data=data))
    assert "in backward Worst batch: of the 2,000 samples looked at" in flat(broken_down)
    every = with_run(DATASET, data=replace(data, samples_measured=20_000))
    assert "Worst batch" not in flat(every) + flat(DATASET)
