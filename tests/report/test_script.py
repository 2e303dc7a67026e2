"""The answers about a training script: where its size is set, what it did, its validation, and the command again."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from vram_cli.records import BreakdownResult, Device, FindBatchResult, Limit, LoaderInfo, Measurement, Outcome, Phase
from vram_cli.report.next_step import again, next_step
from vram_cli.shell import command_name

from .drawing import flat, html, markdown, text
from .examples import COMMAND, GPU, SCRIPT, SCRIPT_INFO, failed, ran

BREAKDOWN = BreakdownResult(run=SCRIPT.run, measurement=ran(64), breakdown=SCRIPT.breakdown)
OTHERS = replace(SCRIPT_INFO, batch_size=64, set_in="train.py:41", isolation="none", micro_batches=4)


def of(result: FindBatchResult, device: Device | None = None, **script: object) -> FindBatchResult:
    info = replace(OTHERS, **script)  # type: ignore[arg-type]
    return replace(result, run=replace(result.run, script=info, device=device or result.run.device))


@pytest.mark.parametrize("result", [SCRIPT, BREAKDOWN])
def test_first_line_says_where_the_size_is_set(result: FindBatchResult | BreakdownResult) -> None:
    assert text(result).splitlines()[0] == "Batch size: {n} in the command."
    in_loader = replace(result, run=replace(result.run, script=OTHERS, config={"train": {"batch_size": 64}}))
    assert text(in_loader).splitlines()[0] == "Batch size: set in the DataLoader of train.py:41."
    assert "Batch size: set in the DataLoader of train.py:41." in html(in_loader)
    assert "Batch size: set in the DataLoader of train.py:41." in markdown(in_loader)


def test_a_remark_of_the_run_follows() -> None:
    drawn = text(replace(SCRIPT, run=replace(SCRIPT.run, remark="No GPU here.")))
    assert drawn.splitlines()[:2] == ["Batch size: {n} in the command.", "No GPU here."]


def test_evidence_is_about_the_script() -> None:
    answer = flat(of(SCRIPT))
    for words in (
        "script python train.py --batch-size {n} ",
        "loaders train.py:41: batch size 2, 60,000 samples, trains train.py:42: batch size 1,000, 10,000 samples ",
        "steps 4 batches per step of the optimizer ",
        "start a fork of a process that has imported torch ",
        "isolation none: files that it writes are kept ",
        "it wrote made the folder out torch.save: out/last.pt ",
    ):
        assert words in answer
    assert "train.py:41: batch size {n}, 60,000" in flat(SCRIPT)
    assert "it wrote nothing" in flat(replace(SCRIPT, trials=(ran(174),)))
    unknown = LoaderInfo(line="a.py:1", batch_size=None, num_samples=None, trains=True)
    assert "loaders a.py:1: no batch size, no length, trains" in flat(of(SCRIPT, loaders=(unknown,)))
    assert "loaders no DataLoader" in flat(of(SCRIPT, loaders=()))


def test_writes_are_told_once_and_the_many_counted() -> None:
    trial = replace(ran(174), writes=tuple(f"wrote {number}" for number in range(30)))
    answer = flat(replace(SCRIPT, trials=(trial, trial), validation=replace(trial, writes=("wrote 0", "evaluated"))))
    assert answer.count("wrote 0 ") == 1
    assert "wrote 19 and 11 more" in answer


def test_memory_of_the_script_itself_counts_on_the_cpu_alone() -> None:
    assert "memory that the script itself takes counts as well" in flat(SCRIPT)
    assert "memory that the script itself takes counts as well" in flat(BREAKDOWN)
    assert "memory that the script itself" not in flat(of(SCRIPT, GPU))


@pytest.mark.parametrize(
    ("loaders", "size"),
    [
        (SCRIPT_INFO.loaders, " with its own batch of 1,000"),
        ((replace(SCRIPT_INFO.loaders[1], batch_size=2),), " with the same batch of 174"),
        ((*SCRIPT_INFO.loaders, SCRIPT_INFO.loaders[1]), ""),
        ((), ""),
    ],
)
def test_validation_names_its_batch_if_it_is_known(loaders: tuple[LoaderInfo, ...], size: str) -> None:
    answer = flat(of(SCRIPT, loaders=loaders, set_in="", batch_size=2))
    assert f"Validation: takes more than training: 3.00 GiB{size} Peak memory" in answer


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (
            replace(failed(174), phase=Phase.VALIDATION),
            "ran out of memory in validation with its own batch of 1,000 Peak",
        ),
        (failed(174), "not known: the training before it ran out of memory in backward Peak"),
        (
            Measurement(batch_size=174, outcome=Outcome.ERROR, phase=Phase.VALIDATION, message="KeyError: acc"),
            "raised an error in validation with its own batch of 1,000: KeyError: acc Peak",
        ),
    ],
)
def test_validation_that_fails_is_told_with_its_phase(trial: Measurement, words: str) -> None:
    assert f"Validation: {words}" in flat(replace(SCRIPT, validation=trial))


def test_lines_are_a_table_in_every_format() -> None:
    for drawn in (text(SCRIPT), markdown(SCRIPT), html(SCRIPT), text(BREAKDOWN)):
        assert "Lines that allocated the most" in drawn
        words = " ".join(drawn.replace("|", " ").split())
        assert words.index("train.py:57") < words.index("models/net.py:12") < words.index("(no line of the script)")
    assert "train.py:57 180 MiB batch data" in flat(SCRIPT)


@pytest.mark.parametrize("config_name", ["python train.py --batch-size {n}", "train.yaml", "both.yaml"])
def test_commands_end_with_that_of_the_script(config_name: str) -> None:
    overrides = ("script.command=python train.py", "search.steps=5") if config_name == "both.yaml" else ()
    result = replace(SCRIPT, run=replace(SCRIPT.run, config_name=config_name, overrides=overrides))
    words = again(result).words
    assert words[-5:] == ("--", *COMMAND) if config_name != "train.yaml" else "--" not in words
    assert ("--config" in words) == config_name.endswith(".yaml")
    assert ("search.steps=5" in words) == (config_name == "both.yaml")
    assert not any("script.command" in word for word in words)


def test_next_step_asks_nothing_that_a_script_decides() -> None:
    for result in (SCRIPT, of(SCRIPT, GPU), replace(SCRIPT, max_batch_size=None, trials=(failed(1),), breakdown=None)):
        words = next_step(result).words
        assert not any(word.startswith("precision") for word in words)
        assert words[-5:] == ("--", *COMMAND)


def test_a_long_command_is_one_that_a_shell_takes() -> None:
    command = (*COMMAND, "--name", "a b", *(word for number in range(9) for word in (f"--option-{number}", "value")))
    result = replace(
        SCRIPT, run=replace(SCRIPT.run, config_name=command_name(command), config={"script": {"command": [*command]}})
    )
    shown = text(result).split("\nNext: ")[1].partition("\n")[2]
    assert tuple(shlex.split(shown.replace("\\\n", " ")))[-len(command) - 1 :] == ("--", *command)
    assert "  -- python train.py --batch-size {n} --name 'a b' --option-0" in shown


def test_interrupted_validation_is_named() -> None:
    stopped = replace(SCRIPT, validation=None, interrupted=True)
    assert "Interrupted: before validation was measured" in flat(stopped)
    assert stopped.limited_by is Limit.MEMORY
