"""The description of models: parameters as papers count them, and the output shapes of a forward pass."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torchinfo import summary

from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError
from vram_cli.probe.worker import model_layers
from vram_cli.probe.worker.model_layers import model_facts
from vram_cli.records import LayerFacts, ModelFacts
from vram_cli.workload import build_model, open_data

MODULE = "models_to_describe"


class Answer:
    """An output of an unknown class."""

    __slots__ = ("logits",)

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


class Net(nn.Module):
    """A body, a head, a parameter and a buffer."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU())
        self.head = nn.Linear(16, classes)
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, images: torch.Tensor) -> Any:
        return self.head(self.body(images))


class Structured(Net):
    def forward(self, images: torch.Tensor) -> Any:
        return Answer(self.head(self.body(images)))


class Dependent(Net):
    def forward(self, images: torch.Tensor) -> Any:
        return self.head(self.body(images[: max(1, int(images.abs().sum() > 0) * len(images))]))


class Broken(Net):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(17, 10)


class Lazy(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.LazyLinear(16))


def pruned() -> nn.Module:
    return prune.l1_unstructured(Net(), "scale", 2)  # type: ignore[no-any-return, no-untyped-call]


class Tied(Net):
    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Linear(784, 16, bias=False)
        self.again.weight = self.body[1].weight


class Repeated(Net):
    def forward(self, images: torch.Tensor) -> Any:
        return self.head(self.body[2](self.body(images)))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)

    def forward(self, ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.embed(ids)
        return {"loss": (scores.mean() - labels.float().mean()) ** 2, "scores": scores}


@pytest.fixture(autouse=True)
def _module() -> Iterator[None]:
    module = types.ModuleType(MODULE)
    for factory in (Net, Structured, Dependent, Broken, Tied, Repeated, Pair, Lazy, pruned):
        setattr(module, factory.__name__, factory)
    sys.modules[MODULE] = module
    yield
    del sys.modules[MODULE]


def describe(name: str, *overrides: str) -> ModelFacts:
    return facts_of(
        load_config("mlp_mnist.yaml", [f"model={{factory: '{MODULE}:{name}'}}", "data.source=synthetic", *overrides])
    )


def facts_of(config: Config) -> ModelFacts:
    return model_facts(config, open_data(config))


def by_path(facts: ModelFacts) -> dict[str, LayerFacts]:
    return {layer.path: layer for layer in facts.layers}


@pytest.mark.parametrize(("name", "parameters"), [("mlp_mnist.yaml", 101_770), ("mlp_cifar10.yaml", 394_634)])
def test_parameters_of_the_models_of_the_lesson(name: str, parameters: int) -> None:
    facts = facts_of(load_config(name, ["data.source=synthetic"]))
    assert facts.parameters == facts.trainable_parameters == facts.layers[0].parameters == parameters
    assert facts.layers[0].bytes == facts.dtypes[0].parameter_bytes == 4 * parameters
    assert facts.layers[-1].output_shape == (128, 10)
    assert facts.notes == ()


def test_shapes_and_counts_agree_with_torchinfo() -> None:
    config = load_config("resnet18_cifar10.yaml", ["data.source=synthetic", "train.batch_size=2"])
    layers = by_path(facts_of(config))
    model = build_model(config)
    paths = {id(module): path for path, module in model.named_modules()}
    reference = summary(model, input_data=torch.zeros(2, 3, 32, 32), verbose=0).summary_list
    assert {path for path, layer in layers.items() if layer.calls} == {paths[info.layer_id] for info in reference}
    for info in reference:
        layer = layers[paths[info.layer_id]]
        assert (layer.parameters, layer.trainable_parameters) == (info.num_params, info.trainable_params)
        if not info.is_recursive and layer.calls == 1:
            assert layer.output_shape == tuple(info.output_size)


def test_every_module_is_listed_once_below_its_parent() -> None:
    config = load_config("resnet18_cifar10.yaml", ["data.source=synthetic"])
    paths = [layer.path for layer in facts_of(config).layers]
    assert sorted(paths) == sorted(dict(build_model(config).named_modules()))
    for index, path in enumerate(paths[1:], 1):
        assert path.rpartition(".")[0] in paths[:index]


def test_frozen_and_partly_frozen_layers() -> None:
    facts = describe("Net", "train.freeze=['body.*']")
    trained = {path: layer.trained for path, layer in by_path(facts).items()}
    assert trained == {"": "partly", "body": "no", "body.0": "", "body.1": "no", "body.2": "", "head": "yes"}
    assert (facts.parameters, facts.trainable_parameters) == (12560 + 170 + 3, 173)
    assert facts.dtypes[0].buffers == 5


def test_pure_bf16_halves_the_bytes() -> None:
    (dtype,) = describe("Net", "precision=bf16").dtypes
    assert (dtype.dtype, dtype.parameter_bytes, dtype.buffer_bytes) == ("bfloat16", 2 * 12733, 10)


def test_output_of_an_unknown_class_has_no_shape() -> None:
    facts = by_path(describe("Structured"))
    assert facts[""].output_shape is None
    assert facts["head"].output_shape == (128, 10)


def test_shape_of_a_dict_is_not_that_of_its_loss() -> None:
    config = Config.model_validate(
        {
            "model": {"factory": f"{MODULE}:Pair"},
            "data": {
                "inputs": {
                    "ids": {"shape": [12], "dtype": "int64", "high": 50},
                    "labels": {"shape": [], "dtype": "int64", "high": 2},
                }
            },
            "optimizer": {"name": "sgd"},
            "train": {"batch_size": 4},
        }
    )
    assert by_path(facts_of(config))[""].output_shape == (4, 12, 8)


def test_model_that_reads_values_is_run_for_real() -> None:
    facts = describe("Dependent")
    assert facts.batch_size == 2
    assert by_path(facts)["head"].output_shape == (2, 10)
    assert "Run for real on the CPU" in facts.notes[0]
    assert "_local_scalar_dense" in facts.notes[0]


def test_large_model_is_not_run_for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_layers, "available_bytes", lambda: 50_000)
    facts = describe("Dependent")
    assert facts.batch_size is None
    assert "too little RAM" in facts.notes[0]
    assert facts.parameters == 12733


def test_failed_forward_pass_has_shapes_up_to_the_error() -> None:
    facts = describe("Broken")
    shapes = {path: layer.output_shape for path, layer in by_path(facts).items()}
    assert shapes["body"] == (2, 16)
    assert shapes[""] is shapes["head"] is None
    assert "data.name, as the model is called with it: RuntimeError: " in facts.notes[0]


def test_pruned_parameters_are_counted_in_full() -> None:
    facts = describe("pruned")
    assert facts.parameters == facts.layers[0].parameters == 12733
    assert by_path(facts)["head"].output_shape == (128, 10)


def test_uninitialized_parameters_are_left_out() -> None:
    facts = describe("Lazy")
    assert by_path(facts)["body"].parameters == 784 * 16 + 16 + 16 * 16 + 16  # both have run
    assert "mat1 and mat2" in facts.notes[0]


def test_shared_parameters_are_counted_once_in_the_totals() -> None:
    facts = describe("Tied")
    assert facts.parameters == 12733
    assert by_path(facts)["again"].parameters == 784 * 16
    assert "share" in facts.notes[-1]


def test_calls_are_counted() -> None:
    facts = by_path(describe("Repeated"))
    assert (facts["body.2"].calls, facts["head"].calls) == (2, 1)


def test_wrong_checkpointing_pattern_is_ignored() -> None:
    assert describe("Net", "train.activation_checkpointing=nonsense.*").parameters == 12733
    with pytest.raises(ConfigError, match=r"train\.freeze"):
        describe("Net", "train.freeze=nonsense.*")


def test_model_larger_than_memory() -> None:
    config = load_config("mlp_mnist.yaml", ["model.hidden=1000000000", "data.source=synthetic"])
    assert facts_of(config).parameters == 1_000_000_000 * (784 + 1 + 10) + 10


def test_user_step_is_not_imported() -> None:
    facts = describe("Net", "step=not_there_yet:step")
    assert by_path(facts)["head"].output_shape == (128, 10)
