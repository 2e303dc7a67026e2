"""The file of a comparison: nothing finished is lost or done twice, and nothing of the user's is overwritten."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram_cli.compare.records import ComparePlan, CurvePoint, MemoryCheck, NoisePoint, Run
from vram_cli.compare.results_file import Journal, SimulatedTraining
from vram_cli.errors import ConfigError

PLAN = ComparePlan(samples=100, holdout=0.2, folds=1, epochs=2, scaling="linear", warmup=0.0, seed=0)
SUBJECT = SimulatedTraining(
    config={"model": {"name": "mlp", "hidden": 128}, "search": {"steps": 3}, "data": {"root": "data"}},
    plan=PLAN,
    device="CPU",
    versions={"vram": "0.1.0", "torch": "2.14.1"},
)
FITS = MemoryCheck(batch_size=8, fits=True, peak_bytes=1024)


def run(size: int = 8, repeat: int = 0, **changes: Any) -> Run:
    facts = {"learning_rate": 0.1, "steps": 20, "images": 160, "seconds": 1.5, "loss": 0.25, "accuracy": 0.9}
    curve, noise = (CurvePoint(images=160, loss=0.5),), (NoisePoint(images=160, signal=1.0, variance=30.0),)
    return Run(batch_size=size, repeat=repeat, fold=0, **{**facts, "curve": curve, "noise": noise, **changes})


def test_what_is_kept_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    with Journal(path, SUBJECT) as journal:
        journal.keep_fit(FITS)
        journal.keep_run(run())
        # On the disk at once, and not only when the file is closed.
        assert len(path.read_text().splitlines()) == 3
    with Journal(path, SUBJECT) as again:
        assert again.fits == {8: FITS}
        assert again.runs == {(8, 0, 0): run()}
        again.keep_run(run(repeat=1))
    with Journal(path, SUBJECT) as third:
        assert set(third.runs) == {(8, 0, 0), (8, 1, 0)}


@settings(max_examples=60)
@given(st.data())
def test_wherever_the_writing_is_cut_whole_lines_are_kept_and_the_rest_can_be_written_anew(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "kept.jsonl"
    with Journal(path, SUBJECT) as journal:
        for repeat in range(3):
            journal.keep_run(run(repeat=repeat))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    cut = data.draw(st.integers(first, len(whole)))
    path.write_bytes(whole[:cut])
    finished = whole[:cut].count(b"\n") - 1
    with Journal(path, SUBJECT) as journal:
        assert len(journal.runs) == finished
        for repeat in range(finished, 3):
            journal.keep_run(run(repeat=repeat))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plan": replace(PLAN, epochs=3)}, "epochs was 2, is 3"),
        ({"config": {**SUBJECT.config, "model": {"name": "mlp", "hidden": 64}}}, "model.hidden was 128, is 64"),
        ({"device": "NVIDIA H100"}, 'device was "CPU", is "NVIDIA H100"'),
        ({"versions": {"vram": "0.1.0", "torch": "2.15.0"}}, "torch"),
    ],
)
def test_another_comparison_is_refused_and_left_as_it_is(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "kept.jsonl"
    with Journal(path, SUBJECT) as journal:
        journal.keep_run(run())
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another comparison") as caught:
        Journal(path, replace(SUBJECT, **change))
    assert words in str(caught.value)
    assert "--results" in caught.value.hint
    assert path.read_bytes() == before


def test_what_no_result_depends_on_may_change(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    with Journal(path, SUBJECT) as journal:
        journal.keep_run(run())
    moved = replace(
        SUBJECT,
        config={**SUBJECT.config, "search": {"steps": 9}, "data": {"root": "elsewhere"}},
    )
    with Journal(path, moved) as journal:
        assert journal.runs


@pytest.mark.parametrize(
    "content",
    ["dear diary\n", "dear diary", '{"kind": "run"}\n', json.dumps({"kind": "fit", "fit": {}}) + "\n", "[]\n"],
)
def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        Journal(path, SUBJECT)
    assert str(path) in str(caught.value)
    assert path.read_text() == content


def test_a_file_with_nothing_finished_in_it_is_nobodys(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    with Journal(path, SUBJECT):
        pass
    other = replace(SUBJECT, device="NVIDIA H100")
    with Journal(path, other) as journal:
        journal.keep_run(run())
    with Journal(path, other) as journal:
        assert journal.runs


def test_fresh_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_text("dear diary\n")
    with Journal(path, SUBJECT, fresh=True) as journal:
        assert journal.runs == {}
    with Journal(path, SUBJECT) as journal:
        assert journal.fits == {}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        Journal(tmp_path / "nowhere" / "kept.jsonl", SUBJECT)
