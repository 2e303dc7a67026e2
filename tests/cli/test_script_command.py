"""`vram COMMAND -- python train.py`: what the command line takes, and what it refuses before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import vram_here

PROGRAM = ["--", "python3", "train.py", "{n}"]


@pytest.mark.parametrize("command", ["find-batch", "breakdown", "check", "advise"])
def test_help_shows_the_command(command: str, tmp_path: Path) -> None:
    assert "[-- COMMAND]" in vram_here(command, "--help", folder=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["find-batch", "mlp_mnist.yaml"],
            "takes options only hint: a config is named with --config: vram find-batch --config mlp_mnist.yaml",
        ),
        (["breakdown", "python3", "train.py"], "comes last, after --: vram breakdown -- python3 train.py"),
        (["check", "python3", "--", "train.py"], "python3: vram check takes options only"),
        (["find-batch", "python3", "train.py", "--epochs", "3"], "options of a training script come after --"),
        (["find-batch", "--", "pythn", "train.py"], "there is no program 'pythn'"),
        (["find-batch", "--config", "mlp_mnist.yaml", *PROGRAM], "mlp_mnist.yaml:2: model: is decided by the training"),
        (["find-batch", "--mode", "eval", *PROGRAM], "command line: mode: is decided by the training script"),
        (["find-batch", "--with-eval", *PROGRAM], "--with-eval: a script's own validation"),
        (["find-batch", "--objective", "throughput", *PROGRAM], "search.objective: the throughput of a script"),
        (["breakdown", *PROGRAM], "the command has {n}, and no batch size is given hint: give one with -n N"),
        (["breakdown", "-n", "4", "--snapshot", "a.pickle", *PROGRAM], "--snapshot: a snapshot is not written"),
        (["check", "--max-memory", "1GiB", *PROGRAM], "the command has {n}"),
        (["advise", "--effective-batch", "64", *PROGRAM], "--effective-batch: a script accumulates"),
    ],
)
def test_refusals_name_the_option_and_exit_with_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    answer = vram_here(*arguments, folder=tmp_path)
    assert words in " ".join(answer.stderr.split())
    assert (answer.code, answer.stdout) == (2, "")
