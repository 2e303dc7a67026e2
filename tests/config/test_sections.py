"""Sections of a config: their subject, conflicts, overrides, user code and round trips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vram_cli.config import Config, TensorConfig, load_config, with_overrides
from vram_cli.config.yaml_document import parse_document
from vram_cli.errors import ConfigError

OWN = """
model: {factory: "mine:build", kwargs: {width: 3}}
data: {factory: "mine:batch"}
optimizer: {name: sgd}
"""
INPUTS = """
model: {factory: "torchvision:resnet18"}
data:
  inputs: {image: {shape: [3, 8, 8]}, scale: {shape: []}}
  targets: {shape: [], dtype: int64, high: 10}
optimizer: {name: sgd}
"""
PRESET = (
    "model: {name: mlp, hidden: 9}\ndata: {name: synthetic, shape: [1, 4, 4], classes: 3}\noptimizer: {name: sgd}\n"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, *overrides: str) -> Config:
    Path("my.yaml").write_text(text)
    return load_config("my.yaml", overrides)


def refused(text: str, *overrides: str) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(text, *overrides)
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value.message, caught.value.hint


# One choice


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (OWN.replace('factory: "mine:build", ', ""), "model.name: is missing: set name or factory", "mlp"),
        ("model: {}\n" + OWN[OWN.index("data") :], "my.yaml:1: model.name: is missing: set name or factory", "mlp"),
        (PRESET.replace("mlp", 'mlp, factory: "a:b"'), "model.factory: cannot be combined with name", "only one"),
        (PRESET.replace("mlp", "mlp, kwargs: {x: 1}"), "model.kwargs: does not apply to mlp", "it is for factory"),
        (OWN.replace("kwargs", "hidden: 3, kwargs"), "model.hidden: does not apply to factory", "it is for mlp"),
        (OWN.replace('factory: "mine:batch"', ""), "data.name: is missing: set name, inputs or factory", "mnist"),
        (
            OWN.replace("mine:batch", 'a:b", name: "mnist'),
            "data.factory: cannot be combined with name",
            "name, inputs or factory",
        ),
        (INPUTS.replace("inputs:", 'factory: "a:b"\n  inputs:'), "data.", "name, inputs or factory"),
        (OWN.replace("name: sgd", ""), "optimizer.name: is missing: set name or factory", "sgd, adam"),
        (OWN.replace("sgd", 'sgd, factory: "a:b"'), "optimizer.factory: cannot be combined with name", "only one"),
        (OWN.replace("sgd", "sgd, kwargs: {x: 1}"), "optimizer.kwargs: does not apply to sgd", "it is for factory"),
        (OWN.replace("name: sgd", 'factory: "a:b", fused: true'), "optimizer.fused: does not apply to factory", "sgd"),
        (OWN + "loss: {}\n", "loss.name: is missing: set name or factory", "model"),
        (OWN + "loss: {kwargs: {x: 1}}\n", "loss.name: is missing: set name or factory", "model"),
        (OWN + 'loss: {name: model, factory: "a:b"}\n', "loss.factory: cannot be combined with name", "only one"),
        (OWN + "step: {}\n", "step.function: is missing", ""),
        (INPUTS.replace("image: {shape: [3, 8, 8]}, scale: {shape: []}", ""), "data.inputs", ""),
    ],
)
def test_sections_have_one_subject(text: str, message: str, hint: str) -> None:
    told = refused(text)
    assert message in told[0]
    assert hint in told[1]


@pytest.mark.parametrize(
    "target",
    ["mine", "mine:", ":build", "mine build", "mine/models:build", "my module:build", "../mine:build", "a:b:c"],
)
def test_references_need_a_module_and_a_name(target: str) -> None:
    told = refused(OWN.replace("mine:build", target))
    assert told[0] == f"my.yaml:2: model.factory: expected module:name, got '{target}'"
    assert told[1].startswith("such as mycode.models:build")


@pytest.mark.parametrize(
    ("key", "others"),
    [
        ("source", "mnist"),
        ("root", "mnist"),
        ("shape", "synthetic"),
        ("classes", "synthetic"),
        ("targets", "inputs"),
    ],
)
def test_data_factories_refuse_keys_of_presets(key: str, others: str) -> None:
    value = {"source": "files", "root": "here", "shape": [3, 8, 8], "classes": 3, "targets": {"shape": []}}[key]
    told = refused(OWN, f"data.{key}={json.dumps(value)}")
    assert told[0].endswith(f"data.{key}: does not apply to factory")
    assert others in told[1]


# What goes not together

STEP = OWN + 'step: "mine:step"\n'
IN_BACKWARD = OWN + "train: {optimizer_in_backward: true}\n"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("loss=model", "loss"),
        ("precision=amp-bf16", "precision"),
        ("precision=amp-fp16", "precision"),
        ("train.optimizer_in_backward=true", "train.optimizer_in_backward"),
        ("train.gradient_accumulation_steps=2", "train.gradient_accumulation_steps"),
        ("train.clip_grad_norm=1", "train.clip_grad_norm"),
        ("train.ema=true", "train.ema"),
        ("train.zero_grad_set_to_none=false", "train.zero_grad_set_to_none"),
    ],
)
def test_custom_step_conflicts(override: str, key: str) -> None:
    told = refused(STEP, override)
    assert told[0].endswith(f"{key}: does not apply to a custom step")
    assert "remove the key" in told[1]
    load(OWN, override)  # without the step it is fine


@pytest.mark.parametrize(
    "override",
    [
        "precision=bf16",
        "precision=tf32",
        "train.activation_checkpointing=full",
        "train.channels_last=true",
        "train.compile=true",
        "train.freeze=[x]",
        "train.gradient_accumulation_steps=1",
        "optimizer.name=adam8bit",
    ],
)
def test_custom_step_allows_model_options(override: str) -> None:
    assert load(STEP, override).step is not None


@pytest.mark.parametrize(
    "override",
    [
        "precision=amp-fp16",
        "train.gradient_accumulation_steps=2",
        "train.clip_grad_norm=1",
        "train.zero_grad_set_to_none=false",
    ],
)
def test_optimizer_in_backward_conflicts(override: str) -> None:
    told = refused(IN_BACKWARD, override)
    assert told[0].endswith(f"{override.partition('=')[0]}: cannot be combined with train.optimizer_in_backward")
    load(OWN, override)


def test_preset_models_need_image_data() -> None:
    told = refused(INPUTS, "model.name=mlp")
    assert told[0].endswith("model.name: mlp needs image data, which data.inputs does not describe")
    assert "data.name" in told[1]
    assert load(OWN, "data.name=mnist").data.num_classes == 10


@pytest.mark.parametrize(
    ("how", "good"),
    [
        ("none", True),
        ("full", True),
        ("every-2", True),
        ("layer3.*", True),
        ("every-", False),
        ("every-0", False),
        ("every-two", False),
        ("''", False),
    ],
)
def test_checkpointing_values(how: str, good: bool) -> None:
    if good:
        assert load(OWN, f"train.activation_checkpointing={how}").train.activation_checkpointing == how
    else:
        assert "train.activation_checkpointing: expected" in refused(OWN, f"train.activation_checkpointing={how}")[0]


# Tensors


@pytest.mark.parametrize(
    ("tensor", "values"),
    [
        ({"dtype": "int64", "high": 7}, (0, 7)),
        ({"dtype": "int64", "high": 7, "low": -7}, (-7, 7)),
        ({"dtype": "int32", "high": 2**31}, (0, 2**31)),
        ({"dtype": "uint8"}, (0, 256)),
        ({"dtype": "uint8", "low": 200}, (200, 256)),
        ({"dtype": "bool"}, (0, 2)),
    ],
)
def test_integer_ranges(tensor: dict[str, Any], values: tuple[int, int]) -> None:
    assert TensorConfig.model_validate({"shape": [], **tensor}).values == values


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ("{shape: []", "data.inputs.x.shape"),
        ("{dtype: int64, high: 3}", "data.inputs.x.shape: is missing"),
        ("{shape: 3}", "data.inputs.x.shape: expected a list of sizes, got 3"),
        ("{shape: [0]}", "data.inputs.x.shape[0]: must be at least 1, got 0"),
        ("{shape: [], dtype: float31}", "data.inputs.x.dtype: unknown dtype 'float31', did you mean float32?"),
        ("{shape: [], dtype: int64}", "data.inputs.x.high: is missing"),
        ("{shape: [], dtype: int64, high: 0}", "data.inputs.x.high: must be above low, 0, got 0"),
        ("{shape: [], dtype: uint8, high: 257}", "data.inputs.x.high: must be at most 256 for uint8, got 257"),
        ("{shape: [], dtype: uint8, low: -1}", "data.inputs.x.low: must be from 0 to 255 for uint8, got -1"),
        ("{shape: [], dtype: float32, high: 3}", "data.inputs.x.high: does not apply to float32"),
        ("{shape: [], hihg: 3}", "unknown key data.inputs.x.hihg, did you mean data.inputs.x.high?"),
    ],
)
def test_invalid_tensors_name_their_key(tensor: str, message: str) -> None:
    text = f"model: {{factory: 'a:b'}}\noptimizer: {{name: sgd}}\ndata:\n  inputs:\n    x: {tensor}\n"
    told = refused(text)
    assert told[0].startswith("my.yaml:")
    if tensor.endswith("}"):
        assert message in told[0]
        assert ":5:" in told[0]
        assert told[1]


def test_hints_of_nested_keys() -> None:
    assert refused(INPUTS, "data.inputs.image.dtyp=x")[1] == "data.inputs.image takes shape, dtype, low, high"
    assert refused(INPUTS, "data.inputs.image.dtype=x")[1].startswith("one of float32, float16")
    assert refused(INPUTS, "data.targets.high=0")[1].startswith("Upper bound of the values")
    assert refused(INPUTS, "data.inputs=3")[0].endswith("expected a mapping of names, got 3")


# Overridden


def test_factory_override_replaces_name_and_back() -> None:
    by_target = load(PRESET, "model.factory=mine:build", "model.kwargs={width: 3}")
    assert by_target.model_dump()["model"] == {"factory": "mine:build", "kwargs": {"width": 3}}
    back = load(OWN, "model.name=cnn", "data.name=mnist")
    assert back.model_dump()["model"] == {"name": "cnn"}
    assert back.data == load(PRESET, "data.name=mnist").data


@pytest.mark.parametrize("order", [1, -1])
def test_override_order_does_not_matter(order: int) -> None:
    overrides = ["model.kwargs={width: 4}", "model.factory=mine:other"][::order]
    assert load(PRESET, *overrides).model.kwargs == {"width": 4}


def test_another_data_choice_drops_old_keys() -> None:
    assert load(INPUTS, "data.factory=mine:batch").model_dump(exclude_unset=True)["data"] == {"factory": "mine:batch"}
    assert load(OWN, "data.inputs.x.shape=[3]").model_dump(exclude_unset=True)["data"] == {
        "inputs": {"x": {"shape": (3,)}}
    }


def test_nested_overrides() -> None:
    config = load(INPUTS, "data.inputs.image.shape=[3, 4, 4]", "data.targets.high=5", "model.kwargs.num_classes=5")
    assert config.data.inputs is not None
    assert config.data.inputs["image"].shape == (3, 4, 4)
    assert config.data.inputs["scale"].shape == ()
    assert config.data.targets is not None
    assert (config.data.targets.high, config.data.targets.dtype) == (5, "int64")
    assert config.model.kwargs == {"num_classes": 5}
    assert load(OWN, "model.kwargs.deep.er=[1]").model.kwargs == {"width": 3, "deep": {"er": [1]}}


def test_overrides_extend_shorthand() -> None:
    assert load(OWN + "loss: model\n", "loss.factory=a:b").loss == load(OWN, "loss.factory=a:b").loss
    assert load(STEP, "step.function=a:b").step == load(OWN, "step=a:b").step
    assert load(STEP, "step=null").step is None
    assert load(OWN + "device: cpu\n", "device.memory_limit=1GiB").device.name == "cpu"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.freeze.x=1", "command line: unknown key train.freeze.x"),
        ("precision.x=1", "command line: unknown key precision.x"),
        ("model.kwarg.x=1", "command line: unknown key model.kwarg, did you mean model.kwargs?"),
        ("data.inputs.image.shap=[1]", "did you mean data.inputs.image.shape?"),
        ("model.kwargs.x=.inf", "model.kwargs: expected a finite number, got inf"),
    ],
)
def test_unknown_nested_overrides(override: str, message: str) -> None:
    assert message in refused(INPUTS, override)[0]


# Own code


@pytest.mark.parametrize(
    ("text", "overrides", "code"),
    [
        (PRESET, [], ()),
        (INPUTS, [], ()),
        (INPUTS, ["loss.factory=torch.nn:BCEWithLogitsLoss", "model.factory=timm:vit_tiny_patch16_224"], ()),
        (INPUTS, ["loss.factory=losses:mine"], ("loss.factory (losses:mine)",)),
        (INPUTS, ["optimizer.factory=torch.optim:Muon"], ()),
        (INPUTS, ["optimizer.factory=mine:Lion"], ("optimizer.factory (mine:Lion)",)),
        (INPUTS, ["loss.factory=torchlike:mine"], ("loss.factory (torchlike:mine)",)),
        (STEP, [], ("model.factory (mine:build)", "data.factory (mine:batch)", "step.function (mine:step)")),
    ],
)
def test_user_code_excludes_libraries(text: str, overrides: list[str], code: tuple[str, ...]) -> None:
    assert load(text, *overrides).user_code == code


@pytest.mark.parametrize(
    ("optimizer", "family", "needs_gpu"),
    [
        ("name: sgd", "sgd", False),
        ("name: adamw", "adam", False),
        ("name: rmsprop", "other", False),
        ("name: adamw8bit", "other", True),
        ('factory: "torch.optim:SGD"', "sgd", False),
        ('factory: "torch:optim.AdamW"', "adam", False),
        ('factory: "bitsandbytes.optim:AdamW8bit"', "other", True),
        ('factory: "mine:Lion"', "other", False),
    ],
)
def test_optimizer_family(optimizer: str, family: str, needs_gpu: bool) -> None:
    section = load(OWN.replace("name: sgd", optimizer)).optimizer
    assert (section.family, section.needs_gpu) == (family, needs_gpu)


def test_evaluation_accumulates_no_batches() -> None:
    config = load(OWN, "train.gradient_accumulation_steps=4")
    assert (config.micro_batches_per_step, with_overrides(config, ["mode=eval"]).micro_batches_per_step) == (4, 1)


# Dumped and read again

COUNTS = st.integers(1, 2**62)
SIZES = st.integers(1, 2**15)  # four of them are fewer bytes than 2**63
TARGETS = st.from_regex(r"[a-z_][a-z0-9_]{0,8}(\.[a-z]{1,5})?:[A-Za-z_][A-Za-z0-9_.\-]{0,8}", fullmatch=True)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab:"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(st.text("abc_", min_size=1, max_size=5), JSON, max_size=3)
TENSORS = st.one_of(
    st.fixed_dictionaries(
        {"shape": st.lists(SIZES, max_size=4)}, optional={"dtype": st.sampled_from(["float32", "float64", "bfloat16"])}
    ),
    st.fixed_dictionaries(
        {"shape": st.lists(SIZES, max_size=4), "dtype": st.just("int64"), "high": st.integers(1, 2**62)},
        optional={"low": st.integers(-(2**62), 0)},
    ),
    st.fixed_dictionaries({"shape": st.lists(SIZES, max_size=2), "dtype": st.sampled_from(["uint8", "bool"])}),
)
DATA = st.one_of(
    st.fixed_dictionaries(
        {"inputs": st.dictionaries(st.text("xyz", min_size=1), TENSORS, min_size=1, max_size=3)},
        optional={"targets": TENSORS, "num_samples": COUNTS},
    ),
    st.fixed_dictionaries(
        {"factory": TARGETS}, optional={"kwargs": ARGUMENTS, "collate_fn": TARGETS, "num_samples": st.none() | COUNTS}
    ),
)
TRAIN = st.fixed_dictionaries(
    {},
    optional={
        "activation_checkpointing": st.sampled_from(["none", "full", "every-3", "layer?.*"]),
        "gradient_accumulation_steps": COUNTS,
        "channels_last": st.booleans(),
        "compile": st.booleans(),
        "freeze": st.lists(st.text("ab.*"), max_size=3) | st.text("ab.*"),
        "ema": st.booleans(),
        "clip_grad_norm": st.none() | st.floats(0.1, 10),
    },
)
LOSSES = (
    st.none()
    | st.sampled_from(["model", "cross_entropy"])
    | st.fixed_dictionaries({"factory": TARGETS, "kwargs": ARGUMENTS})
)
OPTIMIZERS = st.one_of(
    st.fixed_dictionaries({"name": st.sampled_from(["sgd", "adamw", "adam8bit", "paged_adamw8bit"])}),
    st.fixed_dictionaries({"factory": TARGETS, "kwargs": ARGUMENTS}),
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Any valid config that names code or declares its inputs."""
    model = draw(st.fixed_dictionaries({"factory": TARGETS}, optional={"kwargs": ARGUMENTS}))
    config = {"model": model, "data": draw(DATA), "optimizer": draw(OPTIMIZERS)}
    if draw(st.booleans()):
        return {**config, "step": draw(TARGETS), "train": {"activation_checkpointing": "full"}}
    return {**config, "loss": draw(LOSSES), "train": draw(TRAIN)}


@settings(deadline=None)
@given(configs())
def test_round_trip_through_yaml_and_json(written: dict[str, Any]) -> None:
    config = Config.model_validate(written)
    dump = config.model_dump(mode="json")
    assert Config.model_validate(json.loads(json.dumps(dump))) == config
    assert Config.model_validate(parse_document(yaml.safe_dump(dump), "dump.yaml").values) == config
    assert with_overrides(with_overrides(config, ["train.batch_size=3"]), ["train.batch_size=128"]) == config
    assert dump["model"].items() >= written["model"].items()
    assert config.model.kwargs == written["model"].get("kwargs", {})


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.hidden=9223372036854775807", "model.hidden"),
        ("data.shape=[9223372036854775807, 1, 1]", "data.shape"),
        ("data.shape=[3, 3037000500, 3037000500]", "data.shape"),
        ("data.classes=9223372036854775807", "data.classes"),
        ("train.batch_size=9223372036854775807", "train.batch_size"),
    ],
)
def test_sizes_beyond_64_bits_name_their_key(override: str, key: str) -> None:
    text = "model: {name: mlp}\ndata: {name: synthetic, shape: [3, 8, 8], classes: 10}\noptimizer: {name: sgd}\n"
    assert refused(text, override)[0].startswith(f"command line: {key}: is larger than PyTorch can count")


def test_sizes_of_inputs_beyond_64_bits_name_their_key() -> None:
    told = refused(INPUTS, "data.inputs={x: {shape: [4611686018427387904, 4]}}")
    assert "data.inputs.x.shape: is larger than PyTorch can count" in told[0]
