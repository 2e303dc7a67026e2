"""Trainings in user code, real and predicted: errors in it name the config key."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workload.configs import HERE, config
from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError, VramError
from vram_cli.probe.messages import RunTrial
from vram_cli.probe.worker.trials import open_trials
from vram_cli.records import Category, Detail, Measurement, Outcome
from vram_cli.workload import error_summary

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # by peft 0.21
]

EXAMPLES = Path(__file__).parents[3] / "examples"
PLACES = {"real": {"name": "cpu"}, "predicted": {"gpu": "t4"}}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set no limit and no state of this process, and unload the modules of the examples afterwards."""
    monkeypatch.setattr("vram_cli.probe.devices.cpu.ENFORCED", False)
    monkeypatch.setattr("vram_cli.probe.worker.trials.set_matmul_precision", lambda _: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def measure(config: Config, n: int) -> Measurement:
    trials = open_trials(config, download=False)
    return trials.run(RunTrial(batch_size=n, detail=Detail.ROWS), lambda _: None).measurement


def error_message(config: Config, n: int = 5) -> str:
    """Return the message of the error, if it has a hint or a traceback as it must."""
    try:
        measurement = measure(config, n)
    except VramError as error:
        return error.message if error.hint and error.exit_code == 2 else ""
    except Exception as error:  # noqa: BLE001 - as in the worker
        return error_summary(error)
    return measurement.message if measurement.outcome is Outcome.ERROR and measurement.traceback else ""


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "a missing module": (
        {"model": {"factory": "nowhere:build"}},
        "model.factory: nowhere:build",
        "ModuleNotFoundError: No module named 'nowhere'",
    ),
    "a factory that raises": ({"model": {"factory": HERE + "raises"}}, "model.factory", "ValueError: no such width: 3"),
    "a factory with wrong arguments": (
        {"model": {"factory": HERE + "linear", "kwargs": {"widht": 4}}},
        "model.factory",
        "TypeError",
    ),
    "no model": ({"model": {"factory": HERE + "no_model"}}, "model.factory", "not a model"),
    "a factory that exits": ({"model": {"factory": HERE + "leaves"}}, "model.factory", "SystemExit: bye"),
    "a loss that is no number": (
        {"loss": {"factory": HERE + "no_number"}},
        "loss.factory",
        "the loss is a tensor of [",
    ),
    "a loss that raises": ({"loss": {"factory": HERE + "raises_in_loss"}}, "loss.factory", "KeyError"),
    "a model without a loss": (
        {"loss": "model", "data": {"inputs": {"x": {"shape": [4]}}}},
        "loss: model",
        "the loss is a tensor of [",
    ),
    "shapes that the model refuses": (
        {"data": {"inputs": {"x": {"shape": [5]}}, "targets": {"shape": [], "dtype": "int64", "high": 2}}},
        "data.inputs",
        "RuntimeError",
    ),
    "names that the model refuses": (
        {
            "data": {
                "inputs": {"input": {"shape": [4]}, "mask": {"shape": [4]}},
                "targets": {"shape": [], "dtype": "int64", "high": 2},
            }
        },
        "data.inputs",
        "the model takes no mask",
    ),
    "classes that the loss refuses": (
        {"data": {"inputs": {"x": {"shape": [4]}}, "targets": {"shape": [3], "dtype": "int64", "high": 2}}},
        "loss",
        "",
    ),
    "a batch of the wrong length": (
        {"data": {"factory": HERE + "too_few"}},
        "data.factory",
        "asked for a batch of 5, got one of 4",
    ),
    "data without tensors": ({"data": {"factory": HERE + "no_tensors"}}, "data.factory", "no tensor in it"),
    "data that raises": ({"data": {"factory": HERE + "raises_in_data"}}, "data.factory", "no such file: images.tar"),
    "a sample that raises": ({"data": {"factory": HERE + "Broken"}}, "data.factory", "LookupError: no file for sample"),
    "a collate that raises": (
        {"data": {"factory": HERE + "Sentences", "collate_fn": "operator:concat"}},
        "data.collate_fn",
        "TypeError",
    ),
    "data without targets": (
        {"data": {"factory": HERE + "Sentences", "collate_fn": HERE + "padded"}},
        "data.factory",
        "(inputs, targets)",
    ),
    "a step without a loss": (
        {"step": HERE + "step_without_loss", "data": {"factory": HERE + "batch"}},
        "step.function",
        "the loss is a NoneType",
    ),
    "a step that raises": ({"step": HERE + "step_that_raises"}, "step.function", "RuntimeError: the step is broken"),
    "a missing step": ({"step": HERE + "stepp"}, "step.function", "has no attribute 'stepp'"),
    "nothing to checkpoint": (
        {"train": {"activation_checkpointing": "full"}},
        "train.activation_checkpointing",
        "no repeated blocks",
    ),
    "nothing to freeze": ({"train": {"freeze": ["head.*"]}}, "train.freeze", "no parameter is called 'head.*'"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", BAD)
def test_error_names_the_config_key(case: str, place: str) -> None:
    sections, key, words = BAD[case]
    message = error_message(config(**sections, device=PLACES[place]))
    assert message.startswith(key), message
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("place", PLACES)
def test_user_step_on_user_data(place: str) -> None:
    sections = {"data": {"factory": HERE + "batch"}, "step": HERE + "step", "optimizer": {"name": "adam"}}
    measurement = measure(config(**sections, device=PLACES[place]), 4)
    assert measurement.fits
    assert measurement.breakdown is not None


@pytest.mark.parametrize("place", PLACES)
def test_model_that_reads_values_while_it_is_built(place: str) -> None:
    measurement = measure(config(model={"factory": HERE + "ReadsValues"}, device=PLACES[place]), 4)
    assert measurement.breakdown is not None, measurement.message
    assert measurement.breakdown.bytes_of(Category.PARAMETERS) == 4 * (4 * 5 + 5 + 5 * 6 + 6 + 6 * 2 + 2)


@pytest.mark.parametrize("place", PLACES)
def test_channels_last_reaches_images_and_weights(place: str) -> None:
    sections = {
        "model": {"factory": HERE + "WantsChannelsLast"},
        "data": {"name": "synthetic", "shape": [3, 8, 8], "classes": 2},
        "device": PLACES[place],
    }
    assert measure(config(**sections, train={"channels_last": True}), 4).fits
    assert error_message(config(**sections)).endswith("ValueError: channels come first")


def example(name: str, *overrides: str) -> Config:
    loaded = load_config(EXAMPLES / name, overrides)
    if loaded.user_code:
        sys.path.insert(0, str(loaded.source.folder))
    return loaded


YAMLS = sorted(str(file.relative_to(EXAMPLES)) for file in EXAMPLES.rglob("*.yaml"))


def test_examples_of_each_library_in_25_lines() -> None:
    lines = {name: (EXAMPLES / name).read_text().splitlines() for name in YAMLS}
    assert len(lines) >= 6
    assert all(len(text) <= 25 for text in lines.values())
    assert all(text[0].startswith("# ") for text in lines.values())
    targets = " ".join(example(name).model.factory or "" for name in YAMLS)
    assert all(library in targets for library in ("torchvision:", "timm:", "transformers:"))


SMALL = {
    "bert_transformers.yaml": [
        "model.kwargs.hidden_size=32",
        "model.kwargs.num_hidden_layers=1",
        "data.inputs.input_ids.shape=[16]",
        "data.inputs.attention_mask.shape=[16]",
    ],
    "gpt2_transformers.yaml": [
        "model.kwargs={n_layer: 1, n_embd: 32, n_head: 2}",
        "data.inputs.input_ids.shape=[16]",
        "data.inputs.labels.shape=[16]",
    ],
    "vit_timm.yaml": ["model.kwargs={num_classes: 10, img_size: 32, depth: 1}", "data.shape=[3, 32, 32]"],
    "segmentation.yaml": ["data.inputs.image.shape=[3, 32, 32]", "data.targets.shape=[32, 32]"],
    "own_project/train.yaml": ["model.kwargs.width=16"],
    "lora/train.yaml": [
        "model.kwargs={rank: 2, vocab_size: 50, hidden_size: 32, intermediate_size: 64}",
        "model.kwargs.num_hidden_layers=2",
        "model.kwargs.num_attention_heads=2",
        "data.inputs.input_ids={shape: [16], dtype: int64, high: 50}",
        "data.inputs.labels={shape: [16], dtype: int64, high: 50}",
    ],
}


@pytest.mark.parametrize("name", YAMLS)
def test_examples_are_predicted(name: str) -> None:
    config = example(name, "device.gpu=t4", *SMALL.get(name, []))
    if name == "detection.yaml":
        assert error_message(config).startswith("reading a tensor's value (.item(), float(), bool()")
        return
    measurement = measure(config, config.train.batch_size)
    assert measurement.fits, measurement.message
    assert measurement.breakdown is not None
    assert measurement.breakdown.total_bytes == sum(row.bytes for row in measurement.breakdown.rows)


@pytest.mark.parametrize("name", SMALL)
def test_small_examples_train_for_real(name: str) -> None:
    measurement = measure(example(name, "device.name=cpu", "search.steps=2", *SMALL[name]), 2)
    assert measurement.fits, measurement.message + measurement.traceback
    assert measurement.steps == 2


@pytest.mark.parametrize("place", PLACES)
def test_adapters_in_float32_on_a_base_in_bfloat16(place: str) -> None:
    """A base of 2 layers of width 32 with 3 matrices of 64, as in Llama; adapters of rank 2 on 4 projections."""
    device = "device.name=cpu" if place == "real" else "device.gpu=t4"
    measurement = measure(example("lora/train.yaml", device, *SMALL["lora/train.yaml"]), 2)
    assert measurement.breakdown is not None, measurement.message
    base = 2 * 50 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32
    adapters = 2 * 4 * (2 * 32 * 2)
    buffers = 2 * (32 // 2 // 2) * 4  # of the rotary embedding, in float32 or bfloat16
    parameters = measurement.breakdown.bytes_of(Category.PARAMETERS)
    assert 0 <= parameters - (2 * base + 4 * adapters) <= buffers
    assert 0 <= measurement.breakdown.bytes_of(Category.OPTIMIZER_STATE) - 8 * adapters <= 64


def test_refused_prediction_suggests_real_steps() -> None:
    with pytest.raises(ConfigError) as caught:
        measure(example("detection.yaml", "device.gpu=t4"), 2)
    assert "--device cpu and a --memory-limit" in caught.value.hint
