"""Results as JSON: nothing is lost on the way there and back, and nothing wrong is believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram_cli.errors import ConfigError
from vram_cli.records import (
    OF_ONE_RANK,
    BatchSizes,
    Breakdown,
    BreakdownResult,
    BreakdownRow,
    Category,
    Device,
    FindBatchResult,
    LineShare,
    LoaderInfo,
    Measurement,
    Phase,
    RunInfo,
    ScriptInfo,
    SearchResult,
    Throughput,
)
from vram_cli.report.formats.json import to_json
from vram_cli.report.saved import from_json, load, result_schema, save
from vram_cli.search import throughput_of, throughput_point

from .drawing import text as as_text
from .examples import ALL, DATASET, MEMORY, detailed

SIZES = st.integers(0, 2**50)
TEXT = st.text(max_size=20)
SECONDS = st.floats(0, 1e9)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-1e29, 1e29) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def breakdowns() -> st.SearchStrategy[Breakdown]:
    rows = st.lists(st.builds(BreakdownRow, category=st.sampled_from(Category), bytes=SIZES), max_size=9).map(tuple)
    lines = st.lists(st.builds(LineShare, line=TEXT, bytes=SIZES, category=st.sampled_from(Category)), max_size=3)
    return st.builds(
        lambda batch_size, rows, phase, lines: Breakdown(
            batch_size=batch_size, rows=rows, total_bytes=sum(row.bytes for row in rows), peak_phase=phase, lines=lines
        ),
        SIZES,
        rows,
        st.sampled_from(Phase),
        lines.map(tuple),
    )


def throughputs() -> st.SearchStrategy[Throughput | None]:
    steps = st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=5)
    timed = st.dictionaries(st.integers(1, 2**40), steps, min_size=1, max_size=4)
    return timed.map(
        lambda sizes: throughput_of([throughput_point(n, 1, seconds) for n, seconds in sizes.items()], len(sizes))
    )


# What vram measures and writes: whole numbers of 64 bits, and real numbers that are no overflow.
st.register_type_strategy(int, st.integers(-(2**63) + 1, 2**63 - 1))
st.register_type_strategy(float, st.floats(-1e29, 1e29))


def records(kind: type[Any], **strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw all fields of a record, those with defaults too."""
    return st.builds(kind, **{field.name: ... for field in fields(kind)} | strategies)


ACCEPTED = st.builds(
    lambda unit, at, powers: BatchSizes(multiple_of=unit, remainder=at % unit, powers_of_two=powers),
    st.integers(1, 2**62),
    st.integers(0),
    st.booleans(),
)
TRIALS = records(
    Measurement,
    seconds=SECONDS,
    step_seconds=st.none() | SECONDS,
    timed_seconds=st.lists(SECONDS, max_size=2).map(tuple),
    breakdown=st.none() | breakdowns(),
)
CONFIGS = st.dictionaries(TEXT, VALUES, max_size=4)
COMMANDS = st.lists(TEXT, min_size=1, max_size=3).map(tuple)
RUNS = records(RunInfo, config=CONFIGS, device=records(Device)) | records(
    RunInfo,
    config=COMMANDS.map(lambda command: {"script": {"command": [*command]}}),
    device=records(Device),
    script=records(ScriptInfo, command=COMMANDS, loaders=st.lists(records(LoaderInfo), max_size=2).map(tuple)),
)
SEARCHES = records(
    FindBatchResult,
    command=st.just("find-batch"),
    run=RUNS,
    multiple_of=st.integers(1, 64),
    accepted_sizes=ACCEPTED,
    margin=st.floats(0, 1),
    trials=st.lists(TRIALS, max_size=3).map(tuple),
    breakdown=st.none() | breakdowns(),
    throughput=st.none() | throughputs(),
    evaluation=st.none()
    | records(SearchResult, accepted_sizes=ACCEPTED, trials=st.lists(TRIALS, max_size=3).map(tuple)),
    validation=st.none() | TRIALS,
    schema_version=st.just(1),
)
RESULTS = SEARCHES | records(
    BreakdownResult,
    command=st.just("breakdown"),
    run=RUNS,
    measurement=TRIALS,
    breakdown=st.none() | breakdowns(),
    needed=st.none(),
    schema_version=st.just(1),
)


@given(RESULTS)
@settings(max_examples=30, deadline=None)
def test_any_result_comes_back_as_it_was(result: FindBatchResult | BreakdownResult) -> None:
    text = to_json(result)
    assert text.isascii()
    assert from_json(text, "here") == result


def test_modules_and_timeline_come_back_as_they_were() -> None:
    result = detailed()
    assert from_json(to_json(result), "here") == result
    document = json.loads(to_json(result))["breakdown"]
    assert document["modules"][1]["path"] == "layer1"
    assert document["timeline"]["points"][0]["by_category"]["parameters"] == 102_437_376


@pytest.mark.parametrize(("key", "value"), [("modules", {"bytes": 1}), ("timeline", {"points": []})])
def test_modules_and_timeline_that_contradict_themselves_are_refused(key: str, value: dict[str, Any]) -> None:
    document = json.loads(to_json(detailed()))
    part = document["breakdown"][key]
    (part[0] if isinstance(part, list) else part).update(value)
    with pytest.raises(ConfigError, match=rf"here: breakdown.{key}"):
        from_json(json.dumps(document), "here")


@pytest.mark.parametrize("path", ["multiple_of", "accepted_sizes.multiple_of"])
def test_multiples_of_nothing_are_refused(path: str) -> None:
    document = json.loads(to_json(MEMORY))
    part = document["accepted_sizes"] if "." in path else document
    part["multiple_of"] = 0
    with pytest.raises(ConfigError, match="multiple of 0"):
        from_json(json.dumps(document), "here")


@given(RESULTS)
@settings(max_examples=30, deadline=None)
def test_any_result_can_be_drawn(result: FindBatchResult | BreakdownResult) -> None:
    text = as_text(result)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "Next: " in text


def test_the_keys_that_readers_of_the_json_rely_on() -> None:
    document = json.loads(to_json(MEMORY))
    assert document["schema_version"] == 1
    assert (document["max_batch_size"], document["recommended_batch_size"]) == (1536, 1456)
    assert document["limited_by"] == "memory"
    proof = document["certificate"]
    assert [proof[key] for key in ("largest_ok", "smallest_failed", "outcome", "phase")] == [
        1536,
        1537,
        "out_of_memory",
        "backward",
    ]
    assert len(document["trials"]) == 6
    assert {
        key: document["trials"][3][key]
        for key in ("batch_size", "outcome", "phase", "peak_allocated_bytes", "peak_reserved_bytes", "seconds")
    } == {
        "batch_size": 1600,
        "outcome": "out_of_memory",
        "phase": "backward",
        "peak_allocated_bytes": MEMORY.trials[3].peak_allocated_bytes,
        "peak_reserved_bytes": MEMORY.trials[3].peak_reserved_bytes,
        "seconds": 1.4,
    }
    assert document["run"]["device"]["kind"] == "real"
    assert document["run"]["device"]["name"] == "NVIDIA GeForce RTX 3060"
    assert document["run"]["device"]["capacity_bytes"] == 12 * 1024**3
    shown = document["breakdown"]
    assert shown["batch_size"] == 1536
    assert sum(row["bytes"] for row in shown["rows"]) == shown["total_bytes"] == 12 * 1024**3
    assert [row["category"] for row in shown["rows"]] == [category.value for category in OF_ONE_RANK]
    assert document["run"]["versions"]["torch"] == "2.14.1+cu130"


def test_unknown_and_derived_keys_are_ignored() -> None:
    document = json.loads(to_json(DATASET)) | {"comment": "mine"}
    document["trials"][0]["peak_reserved_bytes"] = 1
    assert from_json(json.dumps(document), "here") == DATASET


def test_schema_has_every_key_that_is_written() -> None:
    schema = result_schema()
    for result, name in ((MEMORY, "FindBatchResult"), (detailed(), "BreakdownResult")):
        assert json.loads(to_json(result)).keys() == schema["$defs"][name]["properties"].keys()


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(to_json(MEMORY))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "schema_version is missing"),
        ("{}", "schema_version is missing"),
        ('{"schema_version": 2}', "schema_version is 2, and this vram reads 1"),
        ('{"schema_version": 0}', "schema_version is 0, and this vram reads 1"),
        ('{"schema_version": 1}', "command is not find-batch, breakdown, advise"),
        ('{"schema_version": 1, "command": []}', "command is not find-batch"),
        (changed(lambda d: d["trials"][2].pop("outcome")), r"trials\[2\].outcome is missing"),
        (changed(lambda d: d["trials"][2].update(outcome="fine")), r"trials\[2\].outcome: input should be 'fits'"),
        (changed(lambda d: d.update(max_batch_size="many")), "max_batch_size: input should be a valid integer"),
        (changed(lambda d: d.update(max_batch_size="1536")), "max_batch_size: input should be a valid integer"),
        (
            changed(lambda d: d["run"]["device"].update(capacity_bytes=1.5)),
            "run.device.capacity_bytes: input should be",
        ),
        (changed(lambda d: d.update(trials=None)), "trials: input should be"),
        (changed(lambda d: d["breakdown"]["rows"][4].update(bytes=1)), "breakdown: breakdown rows add up to"),
        (changed(lambda d: d.update(command="\ud800")), "here: "),
    ],
)
def test_the_wrong_field_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        from_json(text, "here")
    assert caught.value.message.startswith("here: ")
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 250
    assert caught.value.hint


def test_file_of_a_newer_vram_says_to_upgrade() -> None:
    with pytest.raises(ConfigError) as caught:
        from_json('{"schema_version": 99}', "run.json")
    assert "pip install --upgrade vram-cli" in caught.value.hint


@pytest.mark.parametrize("name", ALL)
def test_a_saved_result_is_drawn_as_before(name: str, tmp_path: Path) -> None:
    save(ALL[name], tmp_path / "run.json")
    assert as_text(load(tmp_path / "run.json")) == as_text(ALL[name])
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_files_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x80\xff\x00")
    for name, message in (
        (".", "is a folder"),
        ("missing.json", "cannot be read: No such file"),
        ("binary", "not JSON"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            load(tmp_path / name)
        assert str(tmp_path) in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize("number", ["1" + 400 * "0", str(2**63), "-" + 50 * "9", "1e999", "NaN", "-Infinity"])
def test_numbers_that_nothing_measures_are_refused(number: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    text = to_json(detailed())
    capacity = f'"capacity_bytes": {detailed().run.device.capacity_bytes}'
    assert capacity in text
    path.write_text(text.replace(capacity, f'"capacity_bytes": {number}', 1))
    with pytest.raises(ConfigError, match=r"run\.json: .* is no figure that vram writes"):
        load(path)
