"""The next command is one that can be pasted: it asks about the same thing."""

from __future__ import annotations

from dataclasses import replace

from tests.report import examples
from vram_cli.config import DEFAULT_CONFIG
from vram_cli.report.next_step import DEFAULT_CONFIG as LEFT_OUT
from vram_cli.report.next_step import again, next_step


def words(*overrides: str, command: str = "find-batch") -> tuple[str, ...]:
    result = replace(examples.MEMORY, run=replace(examples.MEMORY.run, overrides=overrides), command=command)
    return next_step(result).words


def test_the_default_config_is_the_one_that_is_left_out() -> None:
    assert LEFT_OUT == DEFAULT_CONFIG


def test_overrides_are_carried_over() -> None:
    assert ("--set", "model.hidden=64") in zip(words("model.hidden=64"), words("model.hidden=64")[1:], strict=False)


def test_what_the_advice_sets_itself_is_not_set_twice() -> None:
    assert "precision=tf32" not in words("precision=tf32")


def test_a_step_of_ones_own_is_not_told_to_use_autocast() -> None:
    config = {**examples.MEMORY.run.config, "precision": "fp32"}
    assert (
        "precision=amp-bf16"
        in next_step(replace(examples.MEMORY, run=replace(examples.MEMORY.run, config=config))).words
    )
    own = replace(
        examples.MEMORY, run=replace(examples.MEMORY.run, config={**config, "step": {"function": "train:step"}})
    )
    assert next_step(own).words[1] == "breakdown"


def test_a_breakdown_takes_no_keys_of_the_search_but_its_steps() -> None:
    given = ("search.limit_to_dataset=false", "search.steps=2", "optimizer.name=adam")
    found = replace(examples.MEMORY, run=replace(examples.MEMORY.run, overrides=given, config={"precision": "bf16"}))
    step = next_step(found)
    assert step.words[1] == "breakdown"
    assert "search.limit_to_dataset=false" not in step.words
    assert {"search.steps=2", "optimizer.name=adam"} <= set(step.words)


def test_the_same_question_can_be_asked_again() -> None:
    found = replace(
        examples.DATASET,
        run=replace(
            examples.DATASET.run, overrides=("search.max_batch_size=90", "device.name=cpu", "optimizer.name=adam")
        ),
    )
    same = "vram find-batch --device cpu --memory-limit 1GiB --set search.max_batch_size=90 --set optimizer.name=adam"
    assert " ".join(again(found).words) == same
    broken_down = replace(
        examples.BREAKDOWN, run=replace(examples.BREAKDOWN.run, overrides=("search.max_batch_size=90",))
    )
    assert " ".join(again(broken_down).words) == "vram breakdown --config resnet50_imagenet.yaml --batch-size 128"
