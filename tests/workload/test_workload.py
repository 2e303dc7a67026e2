"""Workloads: known sizes, settings that reach PyTorch, and batches of exactly n."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workload.configs import HERE, config
from vram_cli.config import load_config
from vram_cli.errors import ConfigError
from vram_cli.records import Phase
from vram_cli.workload import (
    build_workload,
    convolutions_use_tf32,
    data_dtype,
    open_data,
    set_matmul_precision,
    train_step,
)

CPU = torch.device("cpu")

PARAMETERS = {
    "mlp_mnist.yaml": 784 * 128 + 128 + 128 * 10 + 10,
    "mlp_cifar10.yaml": 3072 * 128 + 128 + 128 * 10 + 10,
    "resnet18_cifar10.yaml": 11_181_642,  # 11,689,512 of torchvision's docs, with 10 classes in place of 1000
    "resnet50_imagenet.yaml": 25_557_032,  # torchvision's docs
}


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts(name: str, count: int) -> None:
    work = build_workload(load_config(name), CPU)
    assert sum(parameter.numel() for parameter in work.model.parameters()) == count


@pytest.mark.parametrize("name", ["mlp_mnist.yaml", "mlp_cifar10.yaml", "cnn_mnist.yaml", "cnn_cifar10.yaml"])
@pytest.mark.parametrize("precision", ["fp32", "amp-bf16", "amp-fp16", "bf16"])
def test_step_changes_weights_and_creates_state(name: str, precision: str) -> None:
    config = load_config(
        name, [f"precision={precision}", "data.source=synthetic", "optimizer={name: sgd, momentum: 0.9}"]
    )
    work = build_workload(config, CPU)
    batch = open_data(config).make_batch(4, CPU, data_dtype(work.model))
    before = [parameter.detach().clone() for parameter in work.model.parameters()]
    phases: list[Phase] = []
    loss = train_step(work, batch, phases.append)
    assert phases == [Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER]
    assert loss.isfinite()
    assert not loss.requires_grad
    assert any(not torch.equal(old, new) for old, new in zip(before, work.model.parameters(), strict=True))
    assert len(work.optimizer.state) == len(before)


def test_a_model_keeps_the_dtypes_that_it_was_made_with() -> None:
    for precision in ("fp32", "tf32", "amp-bf16"):
        model = build_workload(config(model={"factory": HERE + "two_dtypes"}, precision=precision), CPU).model
        assert {name: tensor.dtype for name, tensor in model.state_dict().items()} == {
            "base.weight": torch.bfloat16,
            "base.bias": torch.bfloat16,
            "adapter.weight": torch.float64,
            "adapter.bias": torch.float64,
            "phases": torch.complex64,
            "codes": torch.int8,
        }


def test_bf16_converts_floating_tensors_only() -> None:
    model = build_workload(config(model={"factory": HERE + "two_dtypes"}, precision="bf16"), CPU).model
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    assert (dtypes.pop("phases"), dtypes.pop("codes")) == (torch.complex64, torch.int8)
    assert {*dtypes.values()} == {torch.bfloat16}


def test_data_follow_the_first_floating_parameter_of_the_model() -> None:
    narrow, base = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    narrow.weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    for model, dtype in (
        (torch.nn.Sequential(base.double(), torch.nn.Linear(2, 2)), torch.float64),
        (torch.nn.Sequential(torch.nn.Linear(2, 2), base.double()), torch.float32),
        (narrow.to(torch.bfloat16), torch.bfloat16),
        (torch.nn.ReLU(), torch.float32),
        (torch.nn.Linear(2, 2).to(torch.float8_e4m3fn), torch.float32),
    ):
        assert data_dtype(model) is dtype


def test_fp32_leaves_the_settings_of_pytorch() -> None:
    product = torch.backends.cuda.matmul.fp32_precision
    try:
        for precision in ("fp32", "amp-bf16"):
            set_matmul_precision(config(precision=precision))
            assert torch.backends.cuda.matmul.fp32_precision == product
        set_matmul_precision(config(precision="tf32"))
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert convolutions_use_tf32()
    finally:
        torch.backends.cuda.matmul.fp32_precision = product


def test_parameter_dtypes() -> None:
    for precision, dtype in (("bf16", torch.bfloat16), ("amp-bf16", torch.float32), ("amp-fp16", torch.float32)):
        work = build_workload(load_config("mlp_mnist.yaml", [f"precision={precision}"]), CPU)
        assert {parameter.dtype for parameter in work.model.parameters()} == {dtype}
        assert work.scaler.is_enabled() == (precision == "amp-fp16")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["optimizer={name: sgd, momentum: 0.8, nesterov: true}"], {"momentum": 0.8, "nesterov": True}),
        (["optimizer={name: adamw, weight_decay: 0.1, foreach: true}"], {"weight_decay": 0.1, "foreach": True}),
        (["optimizer={name: adam, fused: true}"], {"fused": True}),
        (["optimizer={name: rmsprop, momentum: 0.7}"], {"momentum": 0.7}),
        (["optimizer={name: adagrad}", "train.learning_rate=0.5"], {"lr": 0.5}),
    ],
)
def test_optimizer_settings_reach_pytorch(overrides: list[str], expected: dict[str, object]) -> None:
    work = build_workload(load_config("mlp_mnist.yaml", overrides), CPU)
    assert expected.items() <= work.optimizer.defaults.items()


def test_resnet_for_gray_images() -> None:
    config = load_config("mlp_mnist.yaml", ["model={name: resnet18}"])
    work = build_workload(config, CPU)
    images, _ = open_data(config).make_batch(2, CPU, torch.float32)
    assert work.model(images).shape == (2, 10)


def write_mnist(root: Path, count: int) -> None:
    """Write `count` images in MNIST's own format: image i is all of value i, its label i % 10."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, size in (("train", count), ("t10k", 1)):
        pixels = b"".join(bytes([index % 256]) * 784 for index in range(size))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, size, 28, 28) + pixels)
        labels = bytes(index % 10 for index in range(size))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, size) + labels)


def test_files_are_normalized(tmp_path: Path) -> None:
    write_mnist(tmp_path, 20)
    config = load_config("mlp_mnist.yaml", [f"data.root={tmp_path}"])
    data = open_data(config)
    images, targets = data.make_batch(20, CPU, torch.float32)
    assert data.info.source == "files"
    assert str(tmp_path) in data.info.detail
    assert data.info.num_samples == 20
    assert images[7].flatten().tolist() == pytest.approx([(7 / 255 - 0.1307) / 0.3081] * 784)
    assert targets.tolist() == [index % 10 for index in range(20)]


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 5000))
def test_batches_have_exactly_n_samples(n: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "seven"
    if not root.exists():
        write_mnist(root, 7)
    data = open_data(load_config("mlp_mnist.yaml", [f"data.root={root}"]))
    images, targets = data.make_batch(n, CPU, torch.float32)
    assert images.shape == (n, 1, 28, 28)
    assert targets.tolist() == [index % 7 for index in range(n)]


def test_synthetic_batches_match_files(tmp_path: Path) -> None:
    write_mnist(tmp_path, 3)
    real = open_data(load_config("mlp_mnist.yaml", [f"data.root={tmp_path}", "data.source=files"]))
    made = open_data(load_config("mlp_mnist.yaml", [f"data.root={tmp_path}", "data.source=synthetic"]))
    for ours, theirs in zip(
        made.make_batch(5, CPU, torch.float32), real.make_batch(5, CPU, torch.float32), strict=True
    ):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert (made.info.classes, made.info.source) == (real.info.classes, "synthetic")
    assert int(made.make_batch(1000, CPU, torch.float32)[1].max()) == 9


def test_auto_explains_synthetic_images(tmp_path: Path) -> None:
    info = open_data(load_config("mlp_mnist.yaml", [f"data.root={tmp_path}"])).info
    assert (info.source, info.num_samples) == ("synthetic", 60_000)
    assert f"no mnist files under {tmp_path}" in info.detail


@pytest.mark.parametrize("broken", [False, True])
def test_missing_or_broken_files(tmp_path: Path, *, broken: bool) -> None:
    if broken:
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"not images"))
    with pytest.raises(ConfigError, match=r"data\.root: no usable mnist files") as caught:
        open_data(load_config("mlp_mnist.yaml", [f"data.root={tmp_path}", "data.source=files"]))
    assert "--download" in caught.value.hint
