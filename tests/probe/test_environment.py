"""The environment of a worker that predicts one of several ranks."""

from __future__ import annotations

import pytest

from vram_cli import virtual_gpu
from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError, MachineError
from vram_cli.hardware.nccl import nccl_bytes
from vram_cli.probe.environment import communication_bytes, environment_of

MIB = 1024**2
needs_virtual_gpu = pytest.mark.skipif(bool(virtual_gpu.obstacle()), reason="no virtual GPU here")


def ranks(*overrides: str, parallel: str = "ranks: 8") -> Config:
    return load_config("mlp_mnist.yaml", ["device.gpu=a100-80gb", f"parallel={{{parallel}}}", *overrides])


def context_of(config: Config) -> int:
    facts = environment_of(config, calibrated=False)[virtual_gpu.VARIABLE]
    return int(next(line for line in facts.splitlines() if line.startswith("context=")).partition("=")[2])


@needs_virtual_gpu
def test_nccl_lies_outside_the_allocator() -> None:
    alone = context_of(load_config("mlp_mnist.yaml", ["device.gpu=a100-80gb"]))
    assert context_of(ranks()) == alone + nccl_bytes(8)
    assert context_of(ranks(parallel="ranks: 8, nccl: 3GiB")) == alone + 3 * 1024 * MIB
    assert context_of(ranks("device.overhead=1GiB")) == 1024 * MIB + nccl_bytes(8)


def test_the_allowance_is_for_each_group() -> None:
    assert communication_bytes(load_config("mlp_mnist.yaml")) == 0
    assert [communication_bytes(ranks(parallel=f"ranks: {n}")) // MIB for n in (1, 2, 3, 1024)] == [556, 544, 688, 688]
    replicated = ranks(parallel="strategy: fsdp2, ranks: 16, replicas: 2")
    assert communication_bytes(replicated) == nccl_bytes(8) + nccl_bytes(2)
    assert communication_bytes(ranks(parallel="strategy: fsdp2, ranks: 1")) == nccl_bytes(1) > 500 * MIB


def test_fake_tensors_refuse_ranks_by_name() -> None:
    with pytest.raises(MachineError, match="parallel: a rank is predicted by PyTorch") as caught:
        environment_of(ranks("device.engine=fake-tensors"), calibrated=False)
    assert "Linux with a CUDA build of PyTorch" in caught.value.hint


def test_a_machine_without_the_virtual_gpu_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_gpu, "obstacle", lambda _=None: "PyTorch was built without CUDA")
    with pytest.raises(MachineError, match="PyTorch was built without CUDA"):
        environment_of(ranks(), calibrated=False)


@pytest.mark.parametrize("name", ["cuda:1", "mps"])
def test_one_device_cannot_be_shared_by_ranks(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device.name: {name} is one device") as caught:
        environment_of(ranks(f"device={{name: '{name}'}}"), calibrated=False)
    assert "name cuda" in caught.value.hint


def test_limits_of_single_ranks_are_not_for_predictions() -> None:
    with pytest.raises(ConfigError, match="ranks are predicted on GPUs that are alike"):
        environment_of(ranks(parallel="ranks: 2, memory_limits: [1GiB, 2GiB]"), calibrated=False)
