"""The command line: flags in, exit codes out. One short file per command."""

from __future__ import annotations

from vram_cli.cli.advise import advise
from vram_cli.cli.app import VramCommand, app, run_command
from vram_cli.cli.breakdown import breakdown
from vram_cli.cli.calibrate import calibrate
from vram_cli.cli.check import check
from vram_cli.cli.compare import compare
from vram_cli.cli.find_batch import find_batch
from vram_cli.cli.gpus import gpus
from vram_cli.cli.init import init
from vram_cli.cli.inspect import inspect
from vram_cli.cli.schema import schema
from vram_cli.cli.show import show

__all__ = ["app", "run_command"]

for command, example in (
    (find_batch, "vram find-batch --config mlp_mnist.yaml"),
    (breakdown, "vram breakdown --config resnet18_cifar10.yaml --batch-size 256"),
    (advise, "vram advise --config resnet50_imagenet.yaml --gpu rtx-4090 --fit-batch 512"),
    (compare, "vram compare --config mlp_mnist.yaml --batch-sizes 1,32,256,full --download --plot sizes.png"),
    (check, "vram check --config train.yaml --gpu t4 --max-memory 8GiB --baseline vram-baseline.json"),
    (inspect, "vram inspect --config cnn_cifar10.yaml --download --save samples.png"),
    (show, "vram find-batch --save run.json && vram show run.json"),
    (gpus, "vram gpus ada 24gb"),
    (calibrate, "vram calibrate && vram calibrate --export my-gpu.json"),
    (init, "vram init my.yaml && vram find-batch --config my.yaml"),
    (schema, "vram schema > vram.schema.json"),
):
    app.command(cls=VramCommand, epilog=f"Example: {example}")(command)
