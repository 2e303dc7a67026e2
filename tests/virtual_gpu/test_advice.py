"""Advice about several ranks, from a whole command with PyTorch's own DDP and FSDP2 on the virtual GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import vram
from vram_cli.virtual_gpu import obstacle

pytestmark = pytest.mark.skipif(bool(obstacle()), reason=f"no virtual GPU here: {obstacle()}")

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        blocks = (nn.Sequential(nn.Linear(1024, 1024), nn.GELU()) for _ in range(4))
        super().__init__(nn.Linear(64, 1024), *blocks, nn.Linear(1024, 10))
"""
CONFIG = """
model: {factory: "net:Net"}
data: {inputs: {x: {shape: [64]}}, targets: {shape: [], dtype: int64, high: 10}}
optimizer: {name: sgd, fused: true}
precision: bf16
parallel: {ranks: 2, gradient_as_bucket_view: true, nccl: 1MiB}
train: {activation_checkpointing: full, gradient_accumulation_steps: 2, batch_size: 128}
search: {tolerance: 0.1}
device: {gpu: a10, memory_limit: 200MiB, overhead: 50MiB, expandable_segments: true}
"""


def test_advice_about_ranks(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "net.yaml").write_text(CONFIG)
    answer = vram("advise", "--config", "net.yaml", "--fit-batch", "32768", "--json", "--quiet", folder=tmp_path)
    assert answer.code == 0, answer.stderr
    advice = json.loads(answer.stdout)
    fsdp2, ranks = advice["optimizations"]
    assert fsdp2["overrides"] == ["parallel.strategy=fsdp2", "optimizer.fused=null"]
    assert fsdp2["max_batch_size"] > 1000
    assert (ranks["name"], ranks["rank_ratio"], ranks["helps"]) == ("4 ranks", 2, True)
    for plan in advice["fewest_gpus"]:
        assert plan["ranks"] * plan["batch_size"] == 32_768
        assert plan["ranks"] in (8, 16), "a rank holds some 4,000"
    assert [plan["overrides"] for plan in advice["fewest_gpus"]] == [
        [f"parallel.ranks={advice['fewest_gpus'][0]['ranks']}"],
        ["parallel.strategy=fsdp2", "optimizer.fused=null", f"parallel.ranks={advice['fewest_gpus'][1]['ranks']}"],
    ]
    assert advice["learning_rate"]["batch_size"] == 65_536
    assert advice["learning_rate"]["from_batch_size"] == 512
