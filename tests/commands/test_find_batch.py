"""The Python API: the command line's answers as records."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

import vram_cli
from tests.fakes import MIB, FakeMemory, RecordingProgress
from tests.probe.conftest import small_config
from vram_cli import breakdown, find_batch, find_largest, load_config
from vram_cli.commands.throughput import ThroughputSweep
from vram_cli.commands.user_errors import raise_user_error
from vram_cli.config import Config
from vram_cli.errors import ConfigError, Interrupted, WorkloadError
from vram_cli.probe import OpenProbe
from vram_cli.records import DataInfo, Detail, Device, Limit, Measurement, Outcome, Phase, RunInfo, SearchResult
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


class PickyMemory(Memory):
    """The same, with a step that refuses sizes."""

    def __init__(self, multiple_of: int, largest: int | None = None) -> None:
        super().__init__("train")
        self._multiple_of, self._largest_accepted = multiple_of, largest
        self.sizes: list[int] = []

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        self.sizes.append(batch_size)
        if batch_size % self._multiple_of or batch_size > (self._largest_accepted or batch_size):
            message = "AssertionError: whole groups, please"
            return Measurement(batch_size=batch_size, outcome=Outcome.ERROR, phase=Phase.FORWARD, message=message)
        return super().measure(batch_size, detail)

    confirm = measure


def picky(probe: Memory) -> OpenProbe:
    @contextmanager
    def open_memory(_: Config, **__: object) -> Iterator[Memory]:
        yield probe

    return open_memory


def test_memory_limits_a_training_that_refuses_sizes() -> None:
    probe = PickyMemory(32)
    result = find_batch(load_config("mlp_mnist.yaml", [*CONFIG, "train.batch_size=96"]), open_probe=picky(probe))
    assert (result.max_batch_size, result.limited_by) == (1280, Limit.MEMORY)
    words = dict(headline(result))
    assert words["Limited by:"] == (
        "memory (1,312 ran out of memory in forward; of the sizes tried, only multiples of 32 ran)"
    )
    assert "(largest multiple of 32 that leaves 5 % of memory free)" in words["Recommended:"]
    assert any("raised AssertionError: whole groups, please" in note for note in result.notes)
    assert {size % 32 for size in probe.sizes if size > result.max_batch_size} == {0, 16}


def test_error_that_is_the_limit_is_told_in_the_words_of_the_training() -> None:
    result = find_batch(load_config("mlp_mnist.yaml", CONFIG), open_probe=picky(PickyMemory(1, largest=512)))
    assert (result.max_batch_size, result.limited_by) == (512, Limit.ERROR)
    assert dict(headline(result))["Limited by:"] == (
        "an error in the training code (513 raised an error in forward: AssertionError: whole groups, please); memory "
        "alone would allow about 1,200 (extrapolated, not run)"
    )


def test_only_multiples_of_tries_nothing_else() -> None:
    probe = PickyMemory(32)
    config = load_config("mlp_mnist.yaml", [*CONFIG, "search.only_multiples_of=32", "search.multiple_of=24"])
    result = find_batch(config, open_probe=picky(probe))
    assert result.max_batch_size == 1280
    assert all(size % 32 == 0 for size in probe.sizes)
    assert result.recommended_batch_size is not None
    assert result.recommended_batch_size % 96 == 0
    assert dict(headline(result))["Limited by:"].endswith("; only multiples of 32 were tried)")


def test_only_multiples_of_more_than_the_data_set_is_refused() -> None:
    config = load_config("mlp_mnist.yaml", ["device.name=cpu", "search.only_multiples_of=32"])
    probe = PickyMemory(32)
    data = DataInfo(name="x", source="synthetic", detail="", tensors=(), classes=None, num_samples=20)
    probe.info = replace(probe.info, data=data)
    with pytest.raises(ConfigError, match=r"only_multiples_of: the data set has 20 samples, too few for a batch of 32"):
        find_batch(config, open_probe=picky(probe))
    with pytest.raises(ConfigError, match="no multiple of 32 is at most max_batch_size, 20"):
        load_config("mlp_mnist.yaml", ["search.only_multiples_of=32", "search.max_batch_size=20"])


def test_training_that_raises_at_every_size_is_the_users_error() -> None:
    with pytest.raises(WorkloadError, match="a batch of 128 fails in forward"):
        find_batch(load_config("mlp_mnist.yaml", CONFIG), open_probe=picky(PickyMemory(1009)))


def test_sizes_to_time_are_accepted_ones() -> None:
    config = load_config("mlp_mnist.yaml", [*CONFIG, "train.batch_size=96"])
    result = find_batch(config, open_probe=picky(PickyMemory(24)))
    sizes = ThroughputSweep(config, result)._sizes
    assert all(size % 24 == 0 for size in sizes)
    assert sizes[-1] == result.max_batch_size


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
