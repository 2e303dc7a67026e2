"""The next command can be pasted: it is about the same config and device."""

from __future__ import annotations

from dataclasses import replace

from tests.report import examples
from vram_cli.config import DEFAULT_CONFIG
from vram_cli.report.next_step import DEFAULT_CONFIG as LEFT_OUT
from vram_cli.report.next_step import after_breakdown, again, next_step


def words(*overrides: str) -> tuple[str, ...]:
    return next_step(replace(examples.MEMORY, run=replace(examples.MEMORY.run, overrides=overrides))).words


def test_the_default_config_is_the_one_that_is_left_out() -> None:
    assert LEFT_OUT == DEFAULT_CONFIG


def test_overrides_are_carried_over() -> None:
    assert ("--set", "model.hidden=64") in zip(words("model.hidden=64"), words("model.hidden=64")[1:], strict=False)


def test_nothing_is_set_twice() -> None:
    assert "precision=tf32" not in words("precision=tf32")


def test_user_step_gets_no_precision_advice() -> None:
    config = {**examples.MEMORY.run.config, "precision": "fp32"}
    assert (
        "precision=amp-bf16"
        in next_step(replace(examples.MEMORY, run=replace(examples.MEMORY.run, config=config))).words
    )
    own = replace(
        examples.MEMORY, run=replace(examples.MEMORY.run, config={**config, "step": {"function": "train:step"}})
    )
    assert next_step(own).words[1] == "breakdown"


def test_breakdown_takes_only_the_steps_of_the_search() -> None:
    given = ("search.limit_to_dataset=false", "search.steps=2", "optimizer.name=adam")
    result = replace(examples.MEMORY, run=replace(examples.MEMORY.run, overrides=given, config={"precision": "bf16"}))
    step = next_step(result)
    assert step.words[1] == "breakdown"
    assert "search.limit_to_dataset=false" not in step.words
    assert {"search.steps=2", "optimizer.name=adam"} <= set(step.words)


def test_answers_can_be_reproduced() -> None:
    result = replace(
        examples.DATASET,
        run=replace(
            examples.DATASET.run, overrides=("search.max_batch_size=90", "device.name=cpu", "optimizer.name=adam")
        ),
    )
    same = "vram find-batch --device cpu --memory-limit 1GiB --set search.max_batch_size=90 --set optimizer.name=adam"
    assert " ".join(again(result).words) == same
    broken_down = replace(
        examples.BREAKDOWN, run=replace(examples.BREAKDOWN.run, overrides=("search.max_batch_size=90",))
    )
    assert " ".join(again(broken_down).words) == "vram breakdown --config resnet50_imagenet.yaml --batch-size 128"
    assert after_breakdown(broken_down).words[:2] == ("vram", "find-batch")


def test_mode_has_a_flag_of_its_own() -> None:
    assert ("--mode", "eval") in zip(words("mode=eval"), words("mode=eval")[1:], strict=False)
    assert "mode=eval" not in words("mode=eval")
