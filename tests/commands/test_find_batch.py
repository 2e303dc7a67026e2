"""The Python API: the command line's answers as records."""

from __future__ import annotations

import sys

import pytest

import vram_cli
from tests.fakes import RecordingProgress
from tests.probe.conftest import small_config
from vram_cli import breakdown, find_batch, find_largest, load_config
from vram_cli.commands.user_errors import raise_user_error
from vram_cli.errors import WorkloadError
from vram_cli.records import Limit, Measurement, Outcome, Phase, SearchResult

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces RLIMIT_DATA")


def test_every_public_name_can_be_imported_and_no_other() -> None:
    for name in vram_cli.__all__:
        assert getattr(vram_cli, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = vram_cli.nonsense  # type: ignore[attr-defined]


def test_an_own_measure_needs_no_torch_and_no_config() -> None:
    found = find_largest(lambda n: n <= 1000)
    assert (found.max_batch_size, found.limited_by) == (1000, Limit.MEMORY)


@linux
def test_find_batch_returns_what_it_ran_and_tells_a_listener_of_each_trial() -> None:
    progress = RecordingProgress()
    result = find_batch(small_config("search.max_batch_size=50"), progress=progress)
    assert (result.max_batch_size, result.limited_by) == (50, Limit.MAX_BATCH_SIZE)
    sizes = [trial.batch_size for trial in result.trials]
    assert sizes == [size for size, _ in progress.started] == [trial.batch_size for trial, _ in progress.finished]
    assert result.breakdown is not None
    assert result.breakdown.batch_size == 50
    assert result.run.config["search"]["max_batch_size"] == 50
    assert "search.max_batch_size=50" in result.run.overrides
    assert progress.statuses


def test_batch_norm_at_one_sample_does_not_hide_that_two_lack_memory() -> None:
    def searched(*outcomes: Outcome) -> SearchResult:
        trials = (Measurement(batch_size=n, outcome=outcome) for n, outcome in enumerate(outcomes, 1))
        return SearchResult(
            max_batch_size=None, recommended_batch_size=None, limited_by=None, certificate=None, trials=tuple(trials)
        )

    raise_user_error(searched(Outcome.ERROR, Outcome.OUT_OF_MEMORY))
    raise_user_error(searched())
    with pytest.raises(WorkloadError, match="a batch of 2 fails in a trial"):
        raise_user_error(searched(Outcome.ERROR, Outcome.ERROR))


def test_prediction_is_simulated() -> None:
    result = breakdown(load_config("mlp_mnist.yaml", ["device.gpu=l4"]), batch_size=256)
    assert (result.run.device.kind, result.run.device.type) == ("simulated", "cuda:0")
    assert "published" in result.run.device.accuracy
    assert result.breakdown is not None
    assert result.breakdown.total_bytes == result.run.device.capacity_bytes
    assert result.measurement.peak_in(Phase.FORWARD) is not None
