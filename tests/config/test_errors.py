"""Errors about configs: the file, the line, the key, the expected value and a suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.config import load_config
from vram_cli.config.yaml_document import parse_document
from vram_cli.errors import ConfigError
from vram_cli.suggest import nearest

GOOD = "model: {name: mlp}\ndata: {name: mnist}\noptimizer: {name: sgd}\n"
SYNTHETIC = "model: {name: mlp}\noptimizer: {name: sgd}\ndata:\n  name: synthetic\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(path: str | Path | None, overrides: tuple[str, ...] = ()) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    error = caught.value
    assert error.exit_code == 2
    assert "\n" not in error.message + error.hint
    return error


def refused_text(text: str | bytes) -> ConfigError:
    Path("my.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return refused("my.yaml")


NOT_YAML = [
    ("", "my.yaml: the file is empty"),
    ("# nothing but a comment\n", "my.yaml: the file is empty"),
    ("mlp", "my.yaml:1: expected sections such as model:, got 'mlp'"),
    ("- model\n- data\n", "my.yaml:1: expected sections such as model:, got ['model', 'data']"),
    ("model:\n  name: x: y\n", "my.yaml:2: not valid YAML: mapping values are not allowed here (column 10)"),
    (
        "model:\n\tname: mlp\n",
        "my.yaml:2: not valid YAML: found character '\\t' that cannot start any token (column 1)",
    ),
    ("model: {name: mlp", "my.yaml:1: not valid YAML: expected ',' or '}', but got '<stream end>' (column 18)"),
    (GOOD + "---\n" + GOOD, "my.yaml:4: not valid YAML: but found another document (column 1)"),
    ("model: mlp\nx: \x01\n", "my.yaml:2: not valid YAML: a control character (0x01)"),
    (b"model: mlp\nx: \xff\n", "my.yaml:2: not UTF-8 text: byte 0xff"),
    (GOOD + "model: {name: cnn}\n", "my.yaml:4: model is set twice, first at my.yaml:1"),
    (SYNTHETIC + "  name: mnist\n", "my.yaml:5: data.name is set twice, first at my.yaml:4"),
    ("[a]: b\n", "my.yaml:1: a key must be a plain word"),
    (
        "model: !!python/object/apply:os.mkdir [made]\n",
        "my.yaml:1: the tag '!!python/object/apply:os.mkdir' is not allowed",
    ),
    ("!!python/name:os.mkdir : 1\n", "my.yaml:1: the tag '!!python/name:os.mkdir' is not allowed"),
    ("model: !mine mlp\n", "my.yaml:1: the tag '!mine' is not allowed"),
    ("model: !!binary aGk=\n", "my.yaml:1: the tag '!!binary' is not allowed"),
    ("model: !!int mlp\n", "my.yaml:1: 'mlp' cannot be read as int"),
    (
        "model: " + "9" * 5000,
        "my.yaml:1: '99999999999999999999999999999999999999999999999999999999... cannot be read as",
    ),
]


@pytest.mark.parametrize(("text", "message"), NOT_YAML)
def test_invalid_yaml(text: str | bytes, message: str, here: Path) -> None:
    assert refused_text(text).message.startswith(message)
    assert not (here / "made").exists()  # what the tag would have run


KEYS = [
    ("train:\n  batchsize: 1\n", "my.yaml:5: unknown key train.batchsize, did you mean train.batch_size?"),
    ("serach: {}\n", "my.yaml:4: unknown key serach, did you mean search?"),
    ("batch_size: 64\n", "my.yaml:4: unknown key batch_size, did you mean train.batch_size?"),
    ("train:\n  lr: 1\n", "my.yaml:5: unknown key train.lr, did you mean train.learning_rate?"),
    ("train:\n  steps: 4\n", "my.yaml:5: unknown key train.steps, did you mean search.steps?"),
    ("<<: {}\n", "my.yaml:4: unknown key <<"),
    ("7: 8\n", "my.yaml:4: unknown key 7"),
    ('"two\\nlines": 8\n', "my.yaml:4: unknown key 'two\\nlines'"),
    ("x" * 99 + ": 8\n", f"my.yaml:4: unknown key '{'x' * 56}..."),
]


@pytest.mark.parametrize(("lines", "message"), KEYS)
def test_unknown_keys_suggest_the_nearest(lines: str, message: str) -> None:
    error = refused_text(GOOD + lines)
    assert error.message == message
    assert "takes" in error.hint


OLD_KEYS = [
    ("model: {target: mycode:build}", "model.target", "model.factory"),
    ("data: {target: mycode:batch}", "data.target", "data.factory"),
    ("data: {collate: mycode:pad}", "data.collate", "data.collate_fn"),
    ("loss: {target: mycode:loss}", "loss.target", "loss.factory"),
    ("step: {target: mycode:step}", "step.target", "step.function"),
    ("optimizer: {in_backward: true}", "optimizer.in_backward", "train.optimizer_in_backward"),
    ("train: {accumulate: 4}", "train.accumulate", "train.gradient_accumulation_steps"),
    ("train: {checkpointing: full}", "train.checkpointing", "train.activation_checkpointing"),
    ("train: {in_backward: true}", "train.in_backward", "train.optimizer_in_backward"),
    ("train: {zero_grad: none}", "train.zero_grad", "train.zero_grad_set_to_none"),
    ("search: {cap: none}", "search.cap", "search.limit_to_dataset"),
    ("search: {max: 64}", "search.max", "search.max_batch_size"),
    ("device: {budget: 8GiB}", "device.budget", "device.memory_limit"),
]


@pytest.mark.parametrize(("line", "old", "new"), OLD_KEYS)
def test_old_keys_suggest_new_ones(line: str, old: str, new: str) -> None:
    section = line.partition(":")[0]
    others = [other for other in GOOD.splitlines() if not other.startswith(f"{section}:")]
    message = f"unknown key {old}, did you mean {new}?"
    assert refused_text("\n".join([*others, line])).message == f"my.yaml:{len(others) + 1}: {message}"
    assert refused(None, (f"{old}=1",)).message == f"command line: {message}"


def test_misspelled_section_before_missing_one() -> None:
    error = refused_text(GOOD.replace("model", "modle"))
    assert error.message == "my.yaml:1: unknown key modle, did you mean model?"


VALUES = [
    ("model: {name: resnt18}", "model.name: unknown model 'resnt18', did you mean resnet18?", "mlp, cnn, resnet18"),
    ("model: {name: CNN}", "model.name: unknown model 'CNN', did you mean cnn?", "one of mlp"),
    ("model: {name: [mlp]}", "model.name: expected one of mlp, cnn, resnet18, resnet50, got ['mlp']", ""),
    ("model: mlp", "model: expected a section with keys, got 'mlp'", "such as model: {name: mlp}"),
    ("model:", "model.name: is missing", "one of mlp, cnn, resnet18, resnet50"),
    ("model: {name: mlp, hidden: 12.5}", "model.hidden: expected a whole number, got 12.5", ""),
    ("model: {name: mlp, hidden: '8'}", "model.hidden: expected a whole number, got '8'", ""),
    ("model: {name: cnn, hidden: 8}", "model.hidden: does not apply to cnn", "it is for mlp"),
    ("data: {name: cifar100}", "data.name: unknown data 'cifar100', did you mean cifar10?", "fashion_mnist"),
    ("data: {name: mnist, shape: [1, 2, 3]}", "data.shape: does not apply to mnist", "it is for synthetic"),
    (
        "data: {name: mnist, root: ~no-such-user/x}",
        "data.root: '~no-such-user/x' is not a home folder",
        "~ is",
    ),
    (
        "data: {name: {is: mnist}}",
        "data.name: expected one of mnist, fashion_mnist, cifar10, synthetic, got a mapping",
        "",
    ),
    ("data: {name: mnist, root: 5}", "data.root: expected text, got 5", ""),
    ("data: {name: mnist, root: ''}", "data.root: expected some text, got ''", ""),
    ("data: {name: synthetic}", "data.shape: is missing: synthetic data has no shape of its own", "[3, 224, 224]"),
    ("optimizer: {name: adm}", "optimizer.name: unknown optimizer 'adm', did you mean adam?", "adagrad"),
    ("optimizer: {name: adam, momentum: 0.9}", "optimizer.momentum: does not apply to adam", "sgd, rmsprop"),
    ("optimizer: {name: rmsprop, fused: true}", "optimizer.fused: does not apply to rmsprop", "sgd, adam, adamw"),
    ("optimizer: {name: adam, nesterov: true}", "optimizer.nesterov: does not apply to adam", "it is for sgd"),
    ("optimizer: {name: sgd, nesterov: true}", "optimizer.nesterov: needs momentum above 0", "momentum: 0.9"),
    (
        "optimizer: {name: sgd, fused: true, foreach: true}",
        "optimizer.fused: fused and foreach cannot both be true",
        "remove one",
    ),
    ("optimizer: {name: sgd, foreach: yes}", "optimizer.foreach: expected true or false, got 'yes'", ""),
    ("optimizer: {name: sgd, momentum: 1.5}", "optimizer.momentum: must be below 1, got 1.5", ""),
    ("mode: training", "mode: unknown mode 'training', did you mean train?", "one of train, eval"),
    ("mode: inference", "mode: unknown mode 'inference', did you mean eval?", "one of train, eval"),
    ("precision: fp16", "precision: unknown precision 'fp16', did you mean amp-fp16?", "fp32, tf32"),
    ("precision: bfloat16", "precision: unknown precision 'bfloat16', did you mean bf16?", "amp-bf16"),
    ("precision: 16", "precision: expected one of fp32, tf32, amp-bf16, amp-fp16, bf16, got 16", ""),
    ("train: {batch_size: 0}", "train.batch_size: must be at least 1, got 0", ""),
    ("train: {batch_size: true}", "train.batch_size: expected a whole number, got true", ""),
    ("train: {batch_size: 1e3}", "train.batch_size: expected a whole number, got 1000.0", ""),
    ("train: {batch_size: 99999999999999999999}", "train.batch_size: must be at most 9223372036854775807", ""),
    ("train: {learning_rate: yes}", "train.learning_rate: expected a number, got 'yes'", ""),
    ("train: {learning_rate: true}", "train.learning_rate: expected a number, got true", ""),
    ("train: {learning_rate: NaN}", "train.learning_rate: expected a number, got 'NaN'", ""),
    ("train: {learning_rate: .nan}", "train.learning_rate: expected a finite number, got nan", ""),
    ("train: {learning_rate: -.inf}", "train.learning_rate: expected a finite number, got -inf", ""),
    ("train: {learning_rate: 0}", "train.learning_rate: must be above 0, got 0", ""),
    ("search: {steps: 1}", "search.steps: must be at least 2, got 1", ""),
    ("search: {limit_to_dataset: no}", "search.limit_to_dataset: expected true or false, got 'no'", ""),
    ("search: {limit_to_dataset: 3}", "search.limit_to_dataset: expected true or false, got 3", ""),
    ("search: {margin: 5}", "search.margin: expected a fraction below 1, got 5", "write 5 % or 0.05"),
    ("search: {margin: 100 %}", "search.margin: expected a fraction below 1, got '100 %'", "write 5 %"),
    ("search: {margin: true}", "search.margin: expected a number, got true", ""),
    ("search: {tolerance: -0.1}", "search.tolerance: must be at least 0, got -0.1", ""),
    ("search: {time_limit: 0}", "search.time_limit: must be above 0, got 0", ""),
    ("search: {trial_timeout: 1e300}", "search.trial_timeout: must be at most 4000000, got 1e+300", ""),
    (
        "search: [steps]",
        "search: expected a section with keys, got ['steps']",
        "steps, limit_to_dataset, max_batch_size",
    ),
    ("device: gpu", "device.name: unknown device 'gpu', did you mean cuda?", "a ROCm GPU is cuda"),
    ("device: {name: 'cuda:one'}", "device.name: unknown device 'cuda:one', did you mean cuda:0?", "cuda:N"),
    ("device: {memory_limit: 8GB}", "device.memory_limit: '8GB': 'GB' is not a unit", "write 8GiB"),
    ("device: {memory_limit: -1}", "device.memory_limit: '-1' is not a size", "such as 8GiB"),
    ("device: {memory_limit: 1.5}", "device.memory_limit: expected a size such as 8GiB, got 1.5", ""),
]


@pytest.mark.parametrize(("line", "message", "hint"), VALUES)
def test_invalid_values_name_line_and_expectation(line: str, message: str, hint: str) -> None:
    section = line.partition(":")[0]
    others = [other for other in GOOD.splitlines() if not other.startswith(f"{section}:")]
    error = refused_text("\n".join([*others, "", line]))
    assert error.message.startswith(f"my.yaml:{len(others) + 2}: {message}")
    assert hint in error.hint


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "  shape: [3, 224]\n  classes: 2\n",
            "my.yaml:5: data.shape: expected [channels, height, width], got [3, 224]",
        ),
        ("  shape: 3x224\n  classes: 2\n", "my.yaml:5: data.shape: expected [channels, height, width], got '3x224'"),
        ("  classes: 2\n  shape: [3, 8, 0]\n", "my.yaml:6: data.shape[2]: must be at least 1, got 0"),
        ("  classes: 2\n  shape:\n  - 3\n  - x\n  - 8\n", "my.yaml:8: data.shape[1]: expected a whole number, got 'x'"),
        ("  shape: [3, 8, 8]\n", "my.yaml:3: data.classes: is missing: synthetic data has no shape of its own"),
        ("  shape: [3, 8, 8]\n  classes: 2\n  source: files\n", "my.yaml:7: data.source: synthetic data has no files"),
    ],
)
def test_synthetic_data_errors_name_their_line(lines: str, message: str) -> None:
    assert refused_text(SYNTHETIC + lines).message == message


@pytest.mark.parametrize("missing", ["model", "data", "optimizer"])
def test_required_sections(missing: str) -> None:
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith(missing))
    assert refused_text(text).message == f"my.yaml: {missing}: is missing"


OVERRIDES = [
    ("optimizer.nmae=adam", "command line: unknown key optimizer.nmae, did you mean optimizer.name?"),
    ("optimzer.name=adam", "command line: unknown key optimzer, did you mean optimizer?"),
    ("lr=0.1", "command line: unknown key lr, did you mean train.learning_rate?"),
    ("precision.name=bf16", "command line: unknown key precision.name"),
    ("data.shape.0=3", "command line: unknown key data.shape.0"),
    ("optimizer.name", "command line: expected section.key=value, got 'optimizer.name'"),
    ("=adam", "command line: expected section.key=value, got '=adam'"),
    ("", "command line: expected section.key=value, got ''"),
    ("search.steps=1", "command line: search.steps: must be at least 2, got 1"),
    ("model.name=", "command line: model.name: the value is empty"),
    ("model=resnet18", "command line: model: expected a section with keys, got 'resnet18'"),
    ("data.root=!!python/name:os.mkdir", "command line: data.root: the tag '!!python/name:os.mkdir' is not allowed"),
    ("data.shape=[1", "command line: data.shape: not valid YAML: "),
    ("optimizer={nmae: adam}", "command line: unknown key optimizer.nmae, did you mean optimizer.name?"),
    ("data.name=synthetic", "mlp_mnist.yaml:5: data.shape: is missing"),
]


@pytest.mark.parametrize(("override", "message"), OVERRIDES)
def test_invalid_overrides_name_the_command_line(override: str, message: str) -> None:
    assert refused(None, (override,)).message.startswith(message)


def test_missing_file_names_the_folder(here: Path) -> None:
    error = refused("mlp_mnits.yaml")
    assert error.message == (
        f"mlp_mnits.yaml: no such config in {here} or among the bundled configs, did you mean mlp_mnist.yaml?"
    )
    assert "cnn_cifar10.yaml, cnn_mnist.yaml, mlp_cifar10.yaml, mlp_mnist.yaml" in error.hint
    assert refused("runs/mlp_mnist.yaml").message == "runs/mlp_mnist.yaml: no such file"


def test_unreadable_files(here: Path) -> None:
    (here / "folder").mkdir()
    (here / "loop.yaml").symlink_to("loop.yaml")
    assert refused("folder").message == "folder: is a folder, not a YAML file"
    assert refused("./folder").message == "folder: is a folder, not a YAML file"
    assert refused("").message == ".: is a folder, not a YAML file"
    assert refused(here / "loop.yaml").message.startswith(f"{here / 'loop.yaml'}: cannot be read")
    assert "no such config" in refused("x" * 300).message
    assert "cannot be read" in refused("folder/" + "x" * 300).message


def problem_of(text: str) -> str:
    try:
        parse_document(text, "my.yaml")
    except ConfigError as error:
        return error.message
    return "my.yaml is a mapping"


@given(st.text(max_size=200) | st.text("[]{}:,-?&*!|>'\"%@# \n\tab1", max_size=60))
def test_any_text_is_a_mapping_or_a_config_error(text: str) -> None:
    problem = problem_of(text)
    assert problem.startswith("my.yaml")
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("word", "options", "meant"),
    [
        ("RESNET18", ["resnet18", "resnet50"], "resnet18"),
        ("rtx3090", ["RTX 3090", "A100"], "RTX 3090"),
        ("lr", ["batch_size", "learning_rate"], "learning_rate"),
        ("fp16", ["fp32", "bf16"], "bf16"),
        ("vit", ["mlp", "cnn"], None),
        ("", ["mlp"], None),
    ],
)
def test_nearest(word: str, options: list[str], meant: str | None) -> None:
    assert nearest(word, options) == meant
