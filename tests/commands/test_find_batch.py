"""The Python API: the command line's answers as records."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import vram_cli
from tests.fakes import MIB, FakeMemory, RecordingProgress
from tests.probe.conftest import small_config
from vram_cli import breakdown, find_batch, find_largest, load_config
from vram_cli.commands.user_errors import raise_user_error
from vram_cli.config import Config
from vram_cli.errors import ConfigError, Interrupted, WorkloadError
from vram_cli.probe import OpenProbe
from vram_cli.records import Detail, Device, Limit, Measurement, Outcome, Phase, RunInfo, SearchResult
from vram_cli.report.answers.find_batch import headline

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
    assert "against an H200" in result.run.device.accuracy
    assert result.breakdown is not None
    assert result.breakdown.total_bytes == result.run.device.capacity_bytes
    assert result.measurement.peak_in(Phase.FORWARD) is not None


class Memory:
    """A device that the tests' formula describes: evaluation takes a quarter of the memory per sample."""

    def __init__(self, mode: str, error: BaseException | None = None) -> None:
        device = Device(kind="real", name="test", type="cuda:0", capacity_bytes=100 * MIB)
        self.info = RunInfo(config_name="", config={}, device=device, data=None, versions={})
        self._mode, self._error = mode, error
        self._memory = FakeMemory(100 * MIB, MIB, 80_000 if mode == "train" else 20_000)

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        if self._error is not None and self._mode == "eval":
            raise self._error
        return self._memory(batch_size)

    confirm = measure


def opener(opened: list[str], error_in_eval: BaseException | None = None) -> OpenProbe:
    @contextmanager
    def open_memory(config: Config, **_: object) -> Iterator[Memory]:
        opened.append(config.mode)
        yield Memory(config.mode, error_in_eval)

    return open_memory


CONFIG = ["device.name=cpu", "search.limit_to_dataset=false"]


def test_with_eval_searches_for_both() -> None:
    opened: list[str] = []
    config = load_config("mlp_mnist.yaml", CONFIG)
    result = find_batch(config, with_eval=True, open_probe=opener(opened))
    assert result.evaluation is not None
    assert result.evaluation.max_batch_size > 3 * result.max_batch_size > 0
    assert result.evaluation.certificate.smallest_failed == result.evaluation.max_batch_size + 1
    assert set(opened) == {"train", "eval"}
    assert find_batch(config, open_probe=opener([])).evaluation is None
    assert dict(headline(result))["Evaluation:"].startswith(
        f"{result.evaluation.max_batch_size:,}, limited by memory ("
    )


def test_interrupt_in_evaluation_keeps_the_answer_for_training() -> None:
    with pytest.raises(Interrupted) as stop:
        find_batch(load_config("mlp_mnist.yaml", CONFIG), with_eval=True, open_probe=opener([], KeyboardInterrupt()))
    assert stop.value.partial.max_batch_size > 1000
    assert stop.value.partial.interrupted


def test_refused_evaluation_keeps_the_answer_for_training() -> None:
    refusal = opener([], ConfigError("a fused layer cannot be predicted"))
    result = find_batch(load_config("mlp_mnist.yaml", CONFIG), with_eval=True, open_probe=refusal)
    assert result.max_batch_size > 1000
    assert result.evaluation is None
    assert "the evaluation batch is not known: a fused layer cannot be predicted" in result.notes


def test_with_eval_needs_a_training() -> None:
    config = load_config("mlp_mnist.yaml", [*CONFIG, "mode=eval"])
    with pytest.raises(ConfigError, match="mode is eval"):
        find_batch(config, with_eval=True, open_probe=opener([]))
