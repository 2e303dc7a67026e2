"""The results file: no result is lost or computed twice, and no other file is overwritten."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram_cli.compare.records import ComparePlan, CurvePoint, MemoryCheck, NoisePoint, TrainingRun
from vram_cli.compare.results_file import ComparisonKey, ResultsFile
from vram_cli.errors import ConfigError

PLAN = ComparePlan(samples=100, holdout=0.2, folds=1, epochs=2, lr_scaling="linear", warmup=0.0, seed=0)
KEY = ComparisonKey(
    config={"model": {"name": "mlp", "hidden": 128}, "search": {"steps": 3}, "data": {"root": "data"}},
    plan=PLAN,
    device="CPU",
    versions={"vram": "0.1.0", "torch": "2.14.1"},
)
FITS = MemoryCheck(batch_size=8, fits=True, peak_bytes=1024)


def make_run(size: int = 8, repeat: int = 0, **changes: Any) -> TrainingRun:
    fields = {
        "learning_rate": 0.1,
        "steps": 20,
        "samples": 160,
        "seconds": 1.5,
        "loss": 0.25,
        "accuracy": 0.9,
        "curve": (CurvePoint(samples=160, loss=0.5),),
        "gradient_noise": (NoisePoint(samples=160, signal=1.0, variance=30.0),),
    }
    return TrainingRun(batch_size=size, repeat=repeat, fold=0, **{**fields, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def test_results_survive_reopening(path: Path) -> None:
    with ResultsFile(path, KEY) as file:
        file.add_memory_check(FITS)
        file.add_run(make_run())
        # On disk at once, before the file is closed.
        assert len(path.read_text().splitlines()) == 3
    with ResultsFile(path, KEY) as file:
        assert file.memory_checks == {8: FITS}
        assert file.runs == {(8, 0, 0): make_run()}
        file.add_run(make_run(repeat=1))
    with ResultsFile(path, KEY) as file:
        assert set(file.runs) == {(8, 0, 0), (8, 1, 0)}


@settings(max_examples=60)
@given(st.data())
def test_truncated_file_keeps_complete_lines(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("cut") / "results.jsonl"
    with ResultsFile(path, KEY) as file:
        for repeat in range(3):
            file.add_run(make_run(repeat=repeat))
    complete = path.read_bytes()
    first = complete.index(b"\n") + 1
    cut = data.draw(st.integers(first, len(complete)))
    path.write_bytes(complete[:cut])
    finished = complete[:cut].count(b"\n") - 1
    with ResultsFile(path, KEY) as file:
        assert len(file.runs) == finished
        for repeat in range(finished, 3):
            file.add_run(make_run(repeat=repeat))
    assert path.read_bytes() == complete


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plan": replace(PLAN, epochs=3)}, "epochs was 2, is 3"),
        ({"config": {**KEY.config, "model": {"name": "mlp", "hidden": 64}}}, "model.hidden was 128, is 64"),
        ({"device": "NVIDIA H100"}, "device was CPU, is NVIDIA H100"),
        ({"versions": {"vram": "0.1.0", "torch": "2.15.0"}}, "torch"),
    ],
)
def test_another_comparison_is_refused(path: Path, change: dict[str, Any], words: str) -> None:
    with ResultsFile(path, KEY) as file:
        file.add_run(make_run())
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another comparison") as caught:
        ResultsFile(path, replace(KEY, **change))
    assert words in str(caught.value)
    assert "--results" in caught.value.hint
    assert path.read_bytes() == before


def test_irrelevant_keys_may_change(path: Path) -> None:
    with ResultsFile(path, KEY) as file:
        file.add_run(make_run())
    changed = replace(KEY, config={**KEY.config, "search": {"steps": 9}, "data": {"root": "elsewhere"}})
    with ResultsFile(path, changed) as file:
        assert file.runs


@pytest.mark.parametrize(
    "content",
    [
        "dear diary\n",
        "dear diary",
        '{"kind": "run"}\n',
        json.dumps({"kind": "memory_check", "memory_check": {}}) + "\n",
        "[]\n",
    ],
)
def test_other_files_are_not_overwritten(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        ResultsFile(path, KEY)
    assert str(path) in str(caught.value)
    assert path.read_text() == content


def test_file_without_results_may_be_reused(path: Path) -> None:
    with ResultsFile(path, KEY):
        pass
    other = replace(KEY, device="NVIDIA H100")
    with ResultsFile(path, other) as file:
        file.add_run(make_run())
    with ResultsFile(path, other) as file:
        assert file.runs


def test_fresh_discards_the_file(path: Path) -> None:
    path.write_text("dear diary\n")
    with ResultsFile(path, KEY, fresh=True) as file:
        assert file.runs == {}
    with ResultsFile(path, KEY) as file:
        assert file.memory_checks == {}


def test_unwritable_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        ResultsFile(tmp_path / "missing" / "results.jsonl", KEY)


def test_second_comparison_is_refused_until_the_first_has_ended(path: Path) -> None:
    with ResultsFile(path, KEY) as file:
        file.add_run(make_run())
        before = path.read_bytes()
        for fresh in (False, True):
            with pytest.raises(ConfigError, match="another `vram compare` is writing") as caught:
                ResultsFile(path, KEY, fresh=fresh)
            assert "--results FILE" in caught.value.hint
        assert path.read_bytes() == before
    with ResultsFile(path, KEY) as file:
        assert file.runs


def test_comparison_that_ended_in_its_first_write_goes_on(path: Path) -> None:
    with ResultsFile(path, KEY):
        pass
    first = path.read_bytes()
    for cut in range(len(first)):
        path.write_bytes(first[:cut])
        with ResultsFile(path, KEY) as file:
            assert file.runs == {}
        assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ('"loss": 0.25', '"loss": NaN', "run.run.loss"),
        ('"accuracy": 0.9', '"accuracy": 7.5', "run.run.accuracy"),
        ('"seconds": 1.5', '"seconds": -1', "run.run.seconds"),
        ('"variance": 30.0', '"variance": Infinity', "run.run.gradient_noise[0].variance"),
        ('"steps": 20', f'"steps": {10**400}', "run.run.steps"),
        ('"kind": "run"', '"kind": "walk"', "tag"),
    ],
)
def test_impossible_figures_are_refused_by_line(path: Path, before: str, after: str, field: str) -> None:
    with ResultsFile(path, KEY) as file:
        file.add_run(make_run())
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(ConfigError, match=r"results\.jsonl:2: not a line of vram compare") as caught:
        ResultsFile(path, KEY)
    assert field in caught.value.message


def test_pipe_is_no_results_file(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="no regular file"):
        ResultsFile(path, KEY)
