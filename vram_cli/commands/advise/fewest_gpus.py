"""The fewest GPUs that train a batch together, without other changes: predicted with DDP and with FSDP2."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from vram_cli.commands.advise.advice_run import FATAL, AdviceRun
from vram_cli.commands.advise.parallel_optimizations import fsdp2_overrides
from vram_cli.config import with_overrides
from vram_cli.errors import VramError
from vram_cli.records import AccumulationPlan, RankPlan
from vram_cli.records.parallel import Strategy

MOST_GPUS = 64
_COUNTS = (*range(2, 9), *range(16, MOST_GPUS + 1, 8))
"""The numbers of GPUs to try: any in one machine, and then whole machines of 8."""
_STRATEGIES: dict[Strategy, str] = {"ddp": "DDP", "fsdp2": "FSDP2"}

NUMBERS_OF_GPUS = (
    "fewest GPUs: without other changes; of the numbers up to 8, and of the multiples of 8 up to "
    f"{MOST_GPUS}, those that divide the batch equally"
)


def asks_for_ranks(run: AdviceRun, plan: AccumulationPlan) -> bool:
    """Return whether other numbers of ranks may answer `--fit-batch`, and can be predicted."""
    fits_whole = plan.micro_batch_size == plan.batch_size
    config = run.config
    return run.device.engine == "virtual-gpu" and config.script is None and config.mode == "train" and not fits_whole


def fewest_gpus(run: AdviceRun, batch_size: int) -> Iterator[RankPlan]:
    """Yield the fewest GPUs of each strategy that train a batch which they divide equally."""
    if run.config.parallel is not None and _fits_on_one(run, batch_size):
        yield RankPlan(strategy=None, ranks=1, batch_size=batch_size, overrides=("parallel=null",))
        return
    for strategy in _STRATEGIES:
        yield _Search(run, strategy, batch_size).plan()


def _fits_on_one(run: AdviceRun, batch_size: int) -> bool:
    return run.fits(with_overrides(run.config, ["parallel=null"]), batch_size, "1 GPU")


class _Search:
    """The search for the fewest GPUs with one strategy."""

    def __init__(self, run: AdviceRun, strategy: Strategy, batch_size: int) -> None:
        self._run, self._strategy, self._batch_size = run, strategy, batch_size
        self._error = ""

    def plan(self) -> RankPlan:
        """Return the fewest GPUs, or the reason why there are none."""
        if self._copies_too_large_a_model():
            return self._impossible("not even one sample fits on one GPU, and each has a copy of the whole model")
        counts = self._counts()
        if not counts:
            return self._impossible(f"no number of GPUs to try divides {self._batch_size:,} into sizes that may fit")
        ranks = self._fewest(counts)
        if ranks is None:
            return self._impossible(self._error or f"does not fit on {counts[-1]} GPUs either")
        return RankPlan(
            strategy=self._strategy,
            ranks=ranks,
            batch_size=self._batch_size // ranks,
            overrides=self._overrides(ranks),
        )

    def _fewest(self, counts: Sequence[int]) -> int | None:
        """Return the smallest number that fits: each GPU of a larger group has less to hold."""
        guess = self._guess(counts)
        low, high = 0, max(guess - 1, 0)
        if not self._fits(counts[guess]):
            low, high = guess + 1, len(counts)
        elif guess and not self._fits(counts[guess - 1]):
            return counts[guess]
        index = bisect_left(counts, True, low, high, key=self._fits)
        return counts[index] if index < len(counts) else None

    def _guess(self, counts: Sequence[int]) -> int:
        """Return the index of the number with which shares are as large as what fits without changes."""
        largest = self._run.max_batch_size
        too_large = sum(self._batch_size // ranks > largest for ranks in counts)
        return min(too_large, len(counts) - 1) if largest else len(counts) // 2

    def _copies_too_large_a_model(self) -> bool:
        return self._strategy == "ddp" and self._run.config.parallel is None and self._run.max_batch_size == 0

    def _counts(self) -> Sequence[int]:
        run, batch_size = self._run, self._batch_size
        counts = [ranks for ranks in _COUNTS if batch_size % ranks == 0 and batch_size // ranks in run.accepted_sizes]
        parallel = run.config.parallel
        if parallel is None and self._strategy == "ddp":  # takes no less memory than one GPU does
            return [ranks for ranks in counts if batch_size // ranks <= run.max_batch_size]
        replicas = parallel.replicas if parallel is not None and self._strategy == "fsdp2" else 1
        return [ranks for ranks in counts if ranks % replicas == 0]

    def _fits(self, ranks: int) -> bool:
        description = f"{ranks} GPUs with {_STRATEGIES[self._strategy]}"
        try:
            config = with_overrides(self._run.config, self._overrides(ranks))
            return self._run.runner.fits(config, self._batch_size // ranks, description)
        except FATAL:
            raise
        except VramError as error:
            self._error = error.message
            return False

    def _overrides(self, ranks: int) -> tuple[str, ...]:
        parallel = self._run.config.parallel
        strategy: tuple[str, ...] = (f"parallel.strategy={self._strategy}",)
        if parallel is not None and parallel.strategy == self._strategy:
            strategy = ()
        elif self._strategy == "fsdp2":
            strategy = fsdp2_overrides(self._run.config)
        return (*strategy, f"parallel.ranks={ranks}")

    def _impossible(self, reason: str) -> RankPlan:
        return RankPlan(strategy=self._strategy, ranks=None, batch_size=None, reason=reason)
