"""Commands that start several processes: how many, and the command of the first."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from vram_cli.errors import ConfigError
from vram_cli.probe.scripts.ranks import check_one_machine, first_of, ranks_of, variables_of_rank


@pytest.mark.parametrize(
    ("line", "ranks"),
    [
        ("torchrun --nproc-per-node 2 train.py", (2, 2)),
        ("torchrun --nproc_per_node=4 --nnodes=1:2 train.py --nproc-per-node 9", (8, 4)),
        ("torchrun --standalone --rdzv-endpoint localhost:0 --nproc-per-node 8 -m train", (8, 8)),
        ("python -m torch.distributed.run --nnodes 2 train.py", (2, 1)),
        ("env A=1 accelerate launch --num_processes 8 --num_machines 2 train.py", (8, 4)),
        ("accelerate launch --multi_gpu --mixed_precision fp16 --num_processes=2 train.py --num_processes 4", (2, 2)),
        ("python -m accelerate.commands.launch --num_processes 2 train.py", (2, 2)),
        ("torchrun --nproc-per-node 1 train.py --num-processes 8", (1, 1)),
        ("torchrun --standalone --nproc-per-node gpu train.py", (1, 1)),
        ("torchrun", (1, 1)),
        ("deepspeed train.py", (1, 1)),
        ("bash run.sh --nproc-per-node 2", (1, 1)),
        ("python train.py torchrun --nproc-per-node 2 other.py", (1, 1)),
    ],
)
def test_the_launcher_says_how_many_ranks_there_are(line: str, ranks: tuple[int, int]) -> None:
    assert ranks_of(shlex.split(line)) == ranks


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("python3 -u -m torch.distributed.run --nproc-per-node 8 train.py --n 4", "python3 -u train.py --n 4"),
        ("python -m torch.distributed.run --nproc-per-node 8 -m pack.train --n 4", "python -m pack.train --n 4"),
        ("python -m torch.distributed.launch --nproc-per-node 8 train.py 4", "python train.py --local-rank=0 4"),
        ("python -m torch.distributed.launch --use-env --nproc-per-node 8 train.py 4", "python train.py 4"),
        ("env A=1 torchrun --no-python --nproc-per-node 8 ./train.sh 4", "env A=1 ./train.sh 4"),
        (
            "accelerate launch --multi_gpu --num_processes 8 --mixed_precision bf16 train.py --num_processes 4",
            "accelerate launch --num_processes=1 --mixed_precision=bf16 train.py --num_processes 4",
        ),
        ("accelerate launch --quiet train.py 4", "accelerate launch --quiet train.py 4"),
        ("bash run.sh 4", "bash run.sh 4"),
    ],
)
def test_the_command_of_the_first_rank(line: str, first: str) -> None:
    assert shlex.join(first_of(shlex.split(line))) == first


def test_torchrun_starts_the_python_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    python, *rest = first_of(["torchrun", "--nproc-per-node", "8", "train.py"])
    assert (python, rest) == (str(Path(sys.executable).with_name("python")), ["train.py"])


@pytest.mark.parametrize(
    ("function", "line", "message"),
    [
        (
            first_of,
            "torchrun --nproc-per-node gpu train.py",
            "--nproc-per-node gpu: the processes depend",
        ),
        (
            ranks_of,
            "deepspeed --num_gpus 2 train.py",
            "deepspeed --num_gpus 2 starts processes",
        ),
        (
            check_one_machine,
            "torchrun --nnodes 2 train.py",
            "the command trains on 2 machines",
        ),
    ],
)
def test_refusals_name_the_option(function: object, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        function(shlex.split(line))  # type: ignore[operator]
    assert caught.value.hint


def test_variables_of_a_rank() -> None:
    variables = variables_of_rank(16, 8, rank=9)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
    assert [variables[name] for name in names] == ["9", "1", "16", "8", "1", "2"]
