"""`Config.changed`: what `--set` does to a file, done to a config that is read already."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.config import Config, bundled_configs, load_config, with_overrides
from vram_cli.errors import ConfigError

ADAMW = ("optimizer={name: adamw}",)

OVERRIDES = st.lists(
    st.sampled_from([
        "optimizer.name=adam",
        "optimizer.name=adamw",
        "optimizer.name=sgd",
        "optimizer.weight_decay=0.1",
        "precision=amp-bf16",
        "train.batch_size=64",
        "train.activation_checkpointing=full",
        "train.freeze=[features.*]",
        "train.ema=true",
        "search.max_batch_size=1000",
        "device.memory_limit=8GiB",
        "device.gpu=l4",
        "data={name: synthetic, shape: [3, 32, 32], classes: 10}",
        "loss=model",
    ]),
    max_size=4,
    unique_by=lambda text: text.partition("=")[0],
)  # fmt: skip


@pytest.mark.parametrize("name", bundled_configs())
def test_nothing_changed_is_the_same(name: str) -> None:
    config = load_config(name)
    same = with_overrides(config, [])
    assert same == config
    assert same.source == config.source
    assert same.model_dump(mode="json") == config.model_dump(mode="json")


@given(st.sampled_from(["mlp_mnist.yaml", "resnet18_cifar10.yaml"]), OVERRIDES, OVERRIDES)
def test_changing_is_loading_with_the_same_overrides(name: str, first: list[str], later: list[str]) -> None:
    at_once = load_config(name, first)
    assert with_overrides(load_config(name), first) == at_once
    assert with_overrides(with_overrides(at_once, later), []) == with_overrides(at_once, later)


def test_a_changed_config_remembers_where_it_is_from_and_what_was_changed() -> None:
    config = load_config("mlp_mnist.yaml", ["train.batch_size=64"])
    changed = with_overrides(config, ["precision=bf16", "train.batch_size=32"])
    assert (changed.source.name, changed.source.is_bundled) == ("mlp_mnist.yaml", True)
    assert changed.source.overrides == ("train.batch_size=64", "precision=bf16", "train.batch_size=32")
    assert (changed.train.batch_size, config.train.batch_size) == (32, 64)


def test_relative_paths_are_still_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("model: {factory: mine:Net}\ndata: {name: mnist}\noptimizer: {name: sgd}\n")
    config = with_overrides(load_config(tmp_path / "my.yaml"), ["train.gradient_accumulation_steps=2"])
    assert config.source.folder == tmp_path
    assert config.model.factory == "mine:Net"


def test_another_choice_drops_the_keys_of_the_old_one() -> None:
    config = load_config("resnet18_cifar10.yaml")  # sgd with momentum 0.9 and weight decay 5e-4
    adam = with_overrides(config, ["optimizer.name=adam"]).optimizer
    assert (adam.momentum, adam.weight_decay) == (0.0, 5e-4)
    own = with_overrides(config, ["model.factory=timm:resnet18", "model.kwargs={num_classes: 10}"]).model
    assert (own.name, own.factory) == (None, "timm:resnet18")


def test_the_decay_that_adamw_has_by_itself_does_not_go_over_to_another_optimizer() -> None:
    config = load_config("mlp_mnist.yaml", ADAMW)
    assert config.optimizer.weight_decay == 0.01
    assert with_overrides(config, ["optimizer.name=sgd"]).optimizer.weight_decay == 0
    assert with_overrides(with_overrides(config, ["optimizer.name=adam"]), ["optimizer.name=adamw"]) == config
    given_decay = with_overrides(config, ["optimizer.weight_decay=0.01"])
    assert with_overrides(given_decay, ["optimizer.name=sgd"]).optimizer.weight_decay == 0.01


def test_bare_words_and_defaults_stay_what_they_are() -> None:
    config = with_overrides(load_config("mlp_mnist.yaml", ["device=cpu"]), ["device.memory_limit=1GiB"])
    assert (config.device.name, config.device.memory_limit) == ("cpu", 1024**3)
    assert with_overrides(config, ["device.memory_limit=null"]).device.memory_limit is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.nme=sgd", "command line: unknown key optimizer.nme, did you mean optimizer.name"),
        ("optimizer", "expected section.key=value, got 'optimizer'"),
        ("train.gradient_accumulation_steps=0", "train.gradient_accumulation_steps"),
        ("train.gradient_accumulation_steps=[", "not valid YAML"),
        ("optimizer.momentum=0.9", "optimizer.momentum: does not apply to adamw"),
        ("train.optimizer_in_backward=true", "cannot be combined with train.optimizer_in_backward"),
    ],
)
def test_what_makes_no_config_is_refused_and_says_where(override: str, message: str) -> None:
    config: Config = load_config("mlp_mnist.yaml", [*ADAMW, "train.gradient_accumulation_steps=2"])
    with pytest.raises(ConfigError) as caught:
        with_overrides(config, [override])
    assert message in caught.value.message
    assert "command line" in caught.value.message or "mlp_mnist.yaml" in caught.value.message
