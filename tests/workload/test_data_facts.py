"""Facts about data: measured in files, computed without them, and in bytes for all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.real_data import mnist_root
from tests.workload.test_workload import write_mnist
from vram_cli.config import DATA_PRESETS, Config, load_config
from vram_cli.probe.worker.inspect_workload import inspect_workload
from vram_cli.records import DataFacts
from vram_cli.workload import open_data

CPU = torch.device("cpu")


def facts(config: Config) -> DataFacts:
    return open_data(config).facts(config.train.batch_size)


def test_real_mnist_is_counted_and_measured() -> None:
    found = facts(load_config("mlp_mnist.yaml", [f"data.root={mnist_root()}", "data.source=files"]))
    # The counts of MNIST's training set (LeCun et al.), as many tutorials print them.
    assert [known.count for known in found.classes] == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert [known.name for known in found.classes] == list("0123456789")
    assert found.mode == "gray"
    assert found.stored is not None
    assert (found.stored.low, found.stored.high, found.stored.measured) == (0, 255, True)
    assert (found.stored.dtype, found.stored.sample_bytes) == ("uint8", 784)


def test_ranges_match_batches(tmp_path: Path) -> None:
    write_mnist(tmp_path, 20)  # pixels 0 to 19
    config = load_config("mlp_mnist.yaml", [f"data.root={tmp_path}"])
    source = open_data(config)
    found, (images, _) = facts(config), source.make_batch(20, CPU, torch.float32)
    assert found.stored is not None
    assert (found.stored.low, found.stored.high) == (0, 19)
    assert found.stored.trained_low == pytest.approx(float(images.min()))
    assert found.stored.trained_high == pytest.approx(float(images.max()))
    assert [known.count for known in found.classes] == [2] * 10


@pytest.mark.parametrize("name", DATA_PRESETS)
def test_ranges_without_files(name: str) -> None:
    found = facts(load_config("cnn_mnist.yaml", [f"data={{name: {name}, root: /nowhere}}"]))
    preset = DATA_PRESETS[name]
    assert found.info.source == "synthetic"
    assert found.stored is not None
    assert not found.stored.measured
    assert found.stored.trained_low == pytest.approx(-preset.mean[0] / preset.std[0])
    assert found.stored.trained_high == pytest.approx((1 - preset.mean[0]) / preset.std[0])
    assert found.mode == preset.mode
    assert {known.count for known in found.classes} == {None}
    assert len({known.name for known in found.classes}) == preset.classes


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("amp-bf16", 4), ("bf16", 2)])
def test_bytes_match_a_real_batch(precision: str, size: int) -> None:
    config = load_config("cnn_cifar10.yaml", [f"precision={precision}", "train.batch_size=6", "data.source=synthetic"])
    found = inspect_workload(config, download=False, samples=0).data
    images, targets = found.tensors
    assert images.sample_bytes == 3 * 32 * 32 * size
    dtype = torch.bfloat16 if size == 2 else torch.float32
    assert (images.batch_bytes, targets.batch_bytes) == tuple(
        tensor.nbytes for tensor in open_data(config).make_batch(6, CPU, dtype)
    )
    assert found.batch_bytes == 6 * found.sample_bytes


def test_synthetic_images_have_no_stored_form() -> None:
    overrides = ["data={name: synthetic, shape: [4, 8, 8], classes: 7}"]
    found = facts(load_config("cnn_mnist.yaml", overrides))
    assert (found.mode, found.stored, found.classes, found.info.classes) == ("4 channels", None, (), 7)


def test_declared_tensors() -> None:
    config = Config.model_validate(
        {
            "model": {"factory": "torch.nn:Identity"},
            "data": {
                "inputs": {
                    "ids": {"shape": [16], "dtype": "int64", "high": 9},
                    "mask": {"shape": [16], "dtype": "bool"},
                },
                "targets": {"shape": [], "dtype": "float32"},
            },
            "optimizer": {"name": "sgd"},
            "train": {"batch_size": 5},
        }
    )
    found = facts(config)
    assert [(t.info.name, t.sample_bytes, t.batch_bytes) for t in found.tensors] == [
        ("ids", 128, 640),
        ("mask", 16, 80),
        ("targets", 4, 20),
    ]
    assert (found.mode, found.stored, found.classes) == ("", None, ())
    assert open_data(config).samples(3) == ()


def test_first_samples_of_each_class(tmp_path: Path) -> None:
    write_mnist(tmp_path, 25)  # image i is all of value i, of class i % 10
    samples = open_data(load_config("mlp_mnist.yaml", [f"data.root={tmp_path}"])).samples(2)
    assert [(sample.label, sample.pixels[0]) for sample in samples[:4]] == [(0, 0), (0, 10), (1, 1), (1, 11)]
    assert len(samples) == 20
    assert samples[3].shape == (28, 28, 1)
    assert set(samples[3].pixels) == {11}
    assert open_data(load_config("mlp_mnist.yaml", [f"data.root={tmp_path}"])).samples(0) == ()
