"""`with_overrides`: the effect of `--set` on a config in memory."""

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
def test_no_overrides_change_nothing(name: str) -> None:
    config = load_config(name)
    same = with_overrides(config, [])
    assert same == config
    assert same.source == config.source
    assert same.model_dump(mode="json") == config.model_dump(mode="json")


@given(st.sampled_from(["mlp_mnist.yaml", "resnet18_cifar10.yaml"]), OVERRIDES, OVERRIDES)
def test_with_overrides_equals_loading_with_them(name: str, first: list[str], later: list[str]) -> None:
    at_once = load_config(name, first)
    assert with_overrides(load_config(name), first) == at_once
    assert with_overrides(with_overrides(at_once, later), []) == with_overrides(at_once, later)


def test_source_records_overrides() -> None:
    config = load_config("mlp_mnist.yaml", ["train.batch_size=64"])
    changed = with_overrides(config, ["precision=bf16", "train.batch_size=32"])
    assert (changed.source.name, changed.source.is_bundled) == ("mlp_mnist.yaml", True)
    assert changed.source.overrides == ("train.batch_size=64", "precision=bf16", "train.batch_size=32")
    assert (changed.train.batch_size, config.train.batch_size) == (32, 64)


def test_relative_paths_keep_their_base(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("model: {factory: mine:Net}\ndata: {name: mnist}\noptimizer: {name: sgd}\n")
    config = with_overrides(load_config(tmp_path / "my.yaml"), ["train.gradient_accumulation_steps=2"])
    assert config.source.folder == tmp_path
    assert config.model.factory == "mine:Net"


def test_another_choice_drops_old_keys() -> None:
    config = load_config("resnet18_cifar10.yaml")  # sgd with momentum 0.9 and weight decay 5e-4
    adam = with_overrides(config, ["optimizer.name=adam"]).optimizer
    assert (adam.momentum, adam.weight_decay) == (0.0, 5e-4)
    own = with_overrides(config, ["model.factory=timm:resnet18", "model.kwargs={num_classes: 10}"]).model
    assert (own.name, own.factory) == (None, "timm:resnet18")


def test_adamw_default_decay_does_not_carry_over() -> None:
    config = load_config("mlp_mnist.yaml", ADAMW)
    assert config.optimizer.weight_decay == 0.01
    assert with_overrides(config, ["optimizer.name=sgd"]).optimizer.weight_decay == 0
    assert with_overrides(with_overrides(config, ["optimizer.name=adam"]), ["optimizer.name=adamw"]) == config
    given_decay = with_overrides(config, ["optimizer.weight_decay=0.01"])
    assert with_overrides(given_decay, ["optimizer.name=sgd"]).optimizer.weight_decay == 0.01


def test_shorthand_and_defaults_are_kept() -> None:
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
def test_invalid_overrides_name_their_place(override: str, message: str) -> None:
    config: Config = load_config("mlp_mnist.yaml", [*ADAMW, "train.gradient_accumulation_steps=2"])
    with pytest.raises(ConfigError) as caught:
        with_overrides(config, [override])
    assert message in caught.value.message
    assert "command line" in caught.value.message or "mlp_mnist.yaml" in caught.value.message
