"""The section about several GPUs."""

from __future__ import annotations

import pytest

from vram_cli.config import Config, load_config, with_overrides
from vram_cli.errors import ConfigError


def load(*overrides: str) -> Config:
    return load_config("mlp_mnist.yaml", overrides)


def test_a_config_without_the_section_trains_on_one_gpu() -> None:
    assert load().ranks == 1
    assert "parallel" not in load().model_dump(mode="json")


def test_ranks_alone_are_ddp() -> None:
    parallel = load("parallel.ranks=8").parallel
    assert parallel is not None
    assert (parallel.strategy, parallel.ranks, parallel.shard_ranks) == ("ddp", 8, 1)


def test_replicas_divide_the_ranks_that_share_a_copy() -> None:
    config = load("parallel={strategy: fsdp2, ranks: 16, replicas: 2, nccl: 1GiB}")
    assert config.parallel is not None
    assert (config.parallel.shard_ranks, config.parallel.nccl) == (8, 2**30)
    assert Config.model_validate(config.model_dump(mode="json")) == config


def test_another_strategy_drops_the_keys_of_the_config() -> None:
    ddp = load("parallel={ranks: 8, static_graph: true}")
    config = with_overrides(ddp, ["parallel.strategy=fsdp2"])
    assert config.parallel is not None
    assert config.parallel.shards


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("parallel.strategy=fsdp2",), "parallel.ranks: is missing"),
        (("parallel.ranks=8", "parallel.strategy=fsdp1"), "fsdp1 cannot be measured"),
        (("parallel.ranks=8", "parallel.strategy=fsdp"), "may be FSDP1 or FSDP2"),
        (("parallel.ranks=8", "parallel.strategy=tensor-parallel"), "tensor parallelism is not supported"),
        (("parallel.ranks=8", "parallel.strategy=pipeline"), "pipeline parallelism is not supported"),
        (("parallel={ranks: 8, cpu_offload: true}",), "parallel.cpu_offload: offloading to the CPU"),
        (("parallel={ranks: 9, strategy: fsdp2, replicas: 2}",), "parallel.replicas: 9 ranks cannot be divided"),
        (("parallel={ranks: 8, strategy: fsdp2, static_graph: true}",), "static_graph: does not apply to fsdp2"),
        (("parallel.ranks=8", "train.compile=true"), "train.compile: cannot be combined"),
        (("parallel.ranks=8", "train.optimizer_in_backward=true"), "train.optimizer_in_backward: cannot be combined"),
        (("parallel={ranks: 8, strategy: fsdp2}", "train.ema=true"), "train.ema: cannot be combined"),
    ],
)
def test_refusals_name_the_key(overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(*overrides)
    assert words in caught.value.message
    assert caught.value.hint
