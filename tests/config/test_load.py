"""Valid configs: finding, reading, overriding and round trips; JSON schema and starter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.config import (
    DATA_PRESETS,
    Config,
    bundled_configs,
    bundled_folder,
    json_schema,
    load_config,
    starter_yaml,
    write_starter,
)
from vram_cli.config.schema import SECTIONS
from vram_cli.config.yaml_document import parse_document
from vram_cli.errors import ConfigError

GOOD = "model: {name: mlp}\ndata: {name: mnist}\noptimizer: {name: sgd}\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load_text(text: str, *overrides: str) -> Config:
    Path("my.yaml").write_text(text)
    return load_config("my.yaml", overrides)


# Found


def test_default_config(here: Path) -> None:
    (here / "mlp_mnist.yaml").write_text(GOOD.replace("mlp", "cnn"))
    config = load_config()
    assert config.model.name == "mlp"
    assert config.source.is_default
    assert str(config.source) == "mlp_mnist.yaml (bundled)"
    assert config.source.folder == here


@pytest.mark.parametrize("name", ["cnn_mnist.yaml", "cnn_mnist"])
def test_bare_name_falls_back_to_bundled_configs(name: str, here: Path) -> None:
    (here / "cnn_mnist").mkdir()  # a folder of that name is no config
    config = load_config(name)
    assert (config.source.name, config.source.is_bundled, config.source.is_default) == ("cnn_mnist.yaml", True, False)


@pytest.mark.parametrize("name", ["cnn_mnist.yaml", "cnn_mnist"])
def test_bare_name_prefers_the_current_folder(name: str, here: Path) -> None:
    (here / "cnn_mnist.yaml").write_text(GOOD)
    config = load_config(name)
    assert config.model.name == "mlp"
    assert not config.source.is_bundled
    assert (config.source.name, config.source.path) == ("cnn_mnist.yaml", Path("cnn_mnist.yaml"))


def test_path_keeps_its_folder(here: Path) -> None:
    (here / "runs").mkdir()
    (here / "runs" / "my.yaml").write_text(GOOD)
    for path in ("runs/my.yaml", Path("runs/my.yaml"), here / "runs" / "my.yaml"):
        source = load_config(path).source
        assert (source.name, source.folder, source.is_bundled) == ("my.yaml", here / "runs", False)


# Read


@pytest.mark.parametrize(
    ("name", "shape", "classes", "length"),
    [
        ("cnn_cifar10.yaml", (3, 32, 32), 10, 50_000),
        ("cnn_mnist.yaml", (1, 28, 28), 10, 60_000),
        ("mlp_cifar10.yaml", (3, 32, 32), 10, 50_000),
        ("mlp_mnist.yaml", (1, 28, 28), 10, 60_000),
        ("resnet18_cifar10.yaml", (3, 32, 32), 10, 50_000),
        ("resnet50_imagenet.yaml", (3, 224, 224), 1000, 1_281_167),
    ],
)
def test_bundled_configs_match_their_names(name: str, shape: tuple[int, ...], classes: int, length: int) -> None:
    config = load_config(name)
    assert config.model.name == name.partition("_")[0]
    assert (config.data.sample_shape, config.data.num_classes, config.data.length) == (shape, classes, length)


def test_bundled_configs_comment_every_value() -> None:
    assert len(bundled_configs()) == 6
    for name in bundled_configs():
        title, *lines = (bundled_folder() / name).read_text().splitlines()
        assert title.startswith("# ")
        assert all("  # " in line for line in lines if line.startswith("  "))


def test_data_presets() -> None:
    assert [DATA_PRESETS[name].mode for name in ("mnist", "fashion_mnist", "cifar10")] == ["gray", "gray", "colour"]
    for preset in DATA_PRESETS.values():
        assert len(preset.mean) == len(preset.std) == preset.shape[0]


def test_yaml_1_2_scalars() -> None:
    config = load_text(
        GOOD.replace("sgd}", "sgd, weight_decay: 1e-4, foreach: null, fused: True}")
        + "train: {batch_size: 010, learning_rate: 1E-3}\n"
        + "search: {limit_to_dataset: false, margin: 5 %, tolerance: '2.5%', max_batch_size: 1_000, time_limit: ~}\n"
    )
    assert (config.optimizer.weight_decay, config.optimizer.fused, config.train.learning_rate) == (1e-4, True, 1e-3)
    assert config.train.batch_size == 10  # eight in YAML 1.1
    assert (config.search.limit_to_dataset, config.search.margin, config.search.tolerance) == (False, 0.05, 0.025)
    assert (config.search.max_batch_size, config.search.time_limit) == (1000, None)


def test_yaml_1_1_words_stay_text() -> None:
    assert load_text(GOOD.replace("mnist", "mnist, root: no")).data.root == "no"
    assert load_text(GOOD.replace("mnist", "mnist, root: 2020-01-01")).data.root == "2020-01-01"
    assert load_text(GOOD.replace("mnist", "mnist, root: !!str 7")).data.root == "7"


def test_byte_order_mark_and_windows_line_ends(here: Path) -> None:
    (here / "my.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_config("my.yaml") == load_text(GOOD)


def test_empty_section_has_defaults() -> None:
    assert load_text(GOOD + "train:\n  # batch_size: 3\nsearch:\ndevice:\n") == load_text(GOOD)


def test_device_shorthand() -> None:
    config = load_text(GOOD + "device: cuda:0\n")
    assert (config.device.name, config.device.memory_limit) == ("cuda:0", None)
    assert load_text(GOOD + "device: cuda:0\n", "device.memory_limit=8 GiB").device.memory_limit == 8 * 2**30
    assert load_text(GOOD + "device: cuda:0\n", "device.memory_limit=8 GiB").device.name == "cuda:0"


def test_home_folder_is_expanded(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    assert load_text(GOOD.replace("mnist", "mnist, root: ~/data")).data.root == str(here / "data")


def test_adamw_default_weight_decay() -> None:
    assert load_text(GOOD, "optimizer.name=adamw").optimizer.weight_decay == 0.01
    assert load_text(GOOD, "optimizer.name=adamw", "optimizer.weight_decay=0").optimizer.weight_decay == 0
    assert load_text(GOOD, "optimizer.name=adam").optimizer.weight_decay == 0


def test_configs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config().train.batch_size = 3  # type: ignore[misc]


# Overridden


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("optimizer.nesterov=true", "optimizer", "nesterov", True),
        ("train.learning_rate=1e-3", "train", "learning_rate", 1e-3),
        ("search.max_batch_size=null", "search", "max_batch_size", None),
        ("search.margin=10%", "search", "margin", 0.1),
        ("data.root=a=b", "data", "root", "a=b"),
        (" train.batch_size = 7 ", "train", "batch_size", 7),
        ("device=cpu", "device", "name", "cpu"),
        ("model={name: mlp, hidden: 3}", "model", "hidden", 3),
    ],
)
def test_overrides_set_any_key(override: str, section: str, key: str, value: object) -> None:
    assert getattr(getattr(load_config(None, [override]), section), key) == value


def test_last_override_wins() -> None:
    config = load_config(None, ["precision=bf16", "train.batch_size=1", "train.batch_size=2"])
    assert (config.precision, config.train.batch_size) == ("bf16", 2)


def test_another_name_drops_keys_of_the_old_one() -> None:
    config = load_config("mlp_mnist", ["optimizer.name=adam", "model.name=cnn"])
    assert (config.optimizer.name, config.optimizer.momentum) == ("adam", 0)
    assert config.model_dump()["model"] == {"name": "cnn"}
    assert load_config("resnet50_imagenet", ["data.name=cifar10"]).data.sample_shape == (3, 32, 32)
    assert load_config("mlp_mnist", ["optimizer.name=rmsprop"]).optimizer.momentum == 0.9  # which RMSprop has too


@pytest.mark.parametrize("order", [1, -1])
def test_another_name_keeps_keys_of_overrides(order: int) -> None:
    overrides = ["optimizer.name=adam", "optimizer.momentum=0.5"][::order]
    with pytest.raises(ConfigError, match=r"command line: optimizer\.momentum: does not apply to adam"):
        load_config(None, overrides)


# Dumped and read again

COUNTS = st.integers(min_value=1, max_value=2**63 - 1)
SIZES = st.integers(min_value=1, max_value=2**15)  # three of them and a batch are fewer bytes than 2**63
SHARES = st.floats(min_value=0, max_value=1, exclude_max=True)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
SECONDS = st.floats(min_value=0, exclude_min=True, max_value=4_000_000)
SWITCH = st.sampled_from([None, True, False])


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Any valid config, as a user could write it."""

    def some(**keys: st.SearchStrategy[Any]) -> dict[str, Any]:
        return draw(st.fixed_dictionaries({}, optional=keys))

    model, data, optimizer = (
        draw(st.sampled_from(names))
        for names in (
            ("mlp", "cnn", "resnet18", "resnet50"),
            ("mnist", "fashion_mnist", "cifar10", "synthetic"),
            ("sgd", "adam", "adamw", "rmsprop", "adagrad"),
        )
    )
    synthetic = {"shape": draw(st.lists(SIZES, min_size=3, max_size=3)), "classes": draw(SIZES)}
    momentum = draw(SHARES)
    fused = draw(SWITCH)
    config = {
        "model": {"name": model, **(some(hidden=SIZES) if model == "mlp" else {})},
        "data": {
            "name": data,
            **some(root=st.text("abc./~", min_size=1).filter(lambda root: root[0] != "~")),
            **some(source=st.sampled_from(["auto", "synthetic"])),
            **({**synthetic, **some(num_samples=st.none() | COUNTS)} if data == "synthetic" else {}),
        },
        "optimizer": {
            "name": optimizer,
            **({"momentum": momentum} if optimizer in ("sgd", "rmsprop") else {}),
            **({"nesterov": momentum > 0 and draw(st.booleans())} if optimizer == "sgd" else {}),
            **some(weight_decay=st.floats(min_value=0, allow_infinity=False)),
            **({"fused": fused} if optimizer != "rmsprop" else {}),
            **({"foreach": draw(SWITCH)} if not fused else {}),
        },
        "train": some(batch_size=SIZES, learning_rate=POSITIVE),
        "search": some(
            steps=st.integers(2, 1_000_000),
            limit_to_dataset=st.booleans(),
            max_batch_size=st.none() | COUNTS,
            tolerance=SHARES,
            multiple_of=COUNTS,
            margin=SHARES,
            time_limit=st.none() | SECONDS,
            trial_timeout=SECONDS,
        ),
        "device": some(
            name=st.sampled_from(["auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps", "xpu"]),
            memory_limit=st.none() | COUNTS,
        ),
        **some(precision=st.sampled_from(["fp32", "tf32", "amp-bf16", "amp-fp16", "bf16"])),
    }
    kept = draw(st.permutations(sorted(config)))
    return {key: config[key] for key in kept}


@given(configs())
def test_round_trip_through_yaml_and_json(written: dict[str, Any]) -> None:
    config = Config.model_validate(written)
    dump = config.model_dump(mode="json")
    assert Config.model_validate(json.loads(json.dumps(dump))) == config
    assert Config.model_validate(parse_document(yaml.safe_dump(dump), "dump.yaml").values) == config
    # What was written is kept as it was written.
    for section in ("model", "data", "optimizer", "train", "search", "device"):
        assert dump[section].items() >= written[section].items()


def test_equality_ignores_the_source() -> None:
    config = load_config()
    read_again = Config.model_validate(config.model_dump(mode="json"))
    assert read_again == config
    assert read_again.source != config.source
    assert load_config("mlp_cifar10") != config


# Described

JSON_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}


def nodes_of(schema: Any) -> list[dict[str, Any]]:
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    return [*([schema] if isinstance(schema, dict) else []), *(node for part in inner for node in nodes_of(part))]


def test_json_schema_is_valid() -> None:
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["properties"]) == {*SECTIONS, "mode", "precision"}
    assert schema["required"] == ["model", "data", "optimizer"]
    for node in nodes_of(schema):
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        if isinstance(node.get("type"), str):
            assert node["type"] in JSON_TYPES


def test_json_schema_describes_every_key() -> None:
    definitions = json_schema()["$defs"]
    for section in SECTIONS.values():
        definition = definitions[section.__name__]
        assert definition["additionalProperties"] is False
        assert set(definition["properties"]) == set(section.model_fields)
        for key, described in definition["properties"].items():
            assert "description" in described, key


def test_json_schema_agrees_with_the_loader() -> None:
    schema = json_schema()
    device, search = schema["properties"]["device"], schema["$defs"]["SearchConfig"]["properties"]
    kinds = [kind.get("type") or kind["$ref"] for kind in device["anyOf"]]
    assert sorted(kinds) == ["#/$defs/DeviceConfig", "null", "string"]
    assert [kind["type"] for kind in search["margin"]["anyOf"]] == ["number", "string"]
    names, nothing = schema["$defs"]["ModelConfig"]["properties"]["name"]["anyOf"]
    assert (names["enum"], nothing) == (["mlp", "cnn", "resnet18", "resnet50"], {"type": "null"})
    step = [kind.get("type") or kind["$ref"] for kind in schema["properties"]["step"]["anyOf"]]
    assert sorted(step) == ["#/$defs/StepConfig", "null", "string"]


# Started


def test_starter_equals_the_default_config(here: Path) -> None:
    assert write_starter(here / "my.yaml", force=False) == here / "my.yaml"
    assert load_config("my.yaml") == load_config()


def test_starter_has_every_key_at_its_default() -> None:
    others = (
        "shape",
        "classes",
        "num_samples",
        "factory",
        "function",
        "kwargs",
        "inputs",
        "collate_fn",
    )  # for data of another kind
    shown = {line.strip("# ").split(":")[0] for line in starter_yaml().splitlines() if ":" in line}
    assert {key for section in SECTIONS.values() for key in section.model_fields} | {"mode", "precision"} <= shown
    for line in starter_yaml().splitlines():
        if line.startswith("  # ") and not any(key in line for key in others):
            assert load_text(starter_yaml().replace(line, line.replace("# ", "", 1))) == load_config()


def test_starter_overwrites_only_with_force(here: Path) -> None:
    file = here / "my.yaml"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="already exists") as caught:
        write_starter(file, force=False)
    assert "--force" in caught.value.hint
    assert file.read_text() == "mine"
    write_starter(file, force=True)
    assert file.read_text() == starter_yaml()


def test_starter_does_not_follow_a_dangling_link(here: Path) -> None:
    (here / "my.yaml").symlink_to("elsewhere.yaml")
    with pytest.raises(ConfigError, match="already exists"):
        write_starter(here / "my.yaml", force=False)
    assert not (here / "elsewhere.yaml").exists()


@pytest.mark.parametrize("force", [False, True])
def test_starter_write_errors(here: Path, force: bool) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        write_starter(here, force=force)
    with pytest.raises(ConfigError, match="does not exist"):
        write_starter(here / "none" / "my.yaml", force=force)
    with pytest.raises(ConfigError, match="cannot be written: File name too long"):
        write_starter(here / ("x" * 300), force=force)
