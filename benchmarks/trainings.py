"""Trainings whose memory is compared between a GPU, the virtual GPU and fake tensors.

    python -m benchmarks.trainings OUT.json [--gpu NAME] [--only WORD] [--jobs J] [--no-search]

Each training runs three steps in a process of its own, on the GPU of this machine, or predicted with `--gpu`. For some
the largest batch is searched as well, under a memory limit. OUT.json holds the peaks of each phase and the answers.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vram_cli.commands.find_batch import find_batch
from vram_cli.config import Config
from vram_cli.probe import open_probe
from vram_cli.records import Measurement
from vram_cli.units import GIB

SEARCH_SECONDS = 60.0


@dataclass(frozen=True)
class Training:
    """A training, the batch size of its three steps, and the memory limit of its search."""

    name: str
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    batch_size: int
    optimizer: str = "sgd, momentum: 0.9"
    precision: str = "fp32"
    more: Mapping[str, Any] = field(default_factory=dict)
    search_limit: int | None = None

    def config(self, device: Mapping[str, Any]) -> Config:
        """Return the config of the training on a device."""
        name, *rest = self.optimizer.split(", ")
        settings = dict(pair.split(": ") for pair in rest)
        optimizer = {"name": name, **{key: float(v) if "." in v else v == "true" for key, v in settings.items()}}
        sections = {key: dict(value) if isinstance(value, Mapping) else value for key, value in self.more.items()}
        sections["device"] = {**sections.get("device", {}), **device}
        sections["search"] = {"limit_to_dataset": False, "margin": 0.0, "multiple_of": 1, "time_limit": SEARCH_SECONDS}
        fields = {"model": dict(self.model), "data": dict(self.data), "optimizer": optimizer}
        return Config.model_validate({**fields, "precision": self.precision, **sections})


def vision(name: str) -> dict[str, Any]:
    """Return a model of torchvision."""
    return {"factory": f"torchvision:{name}"}


def timm(name: str) -> dict[str, Any]:
    """Return a model of timm."""
    return {"factory": f"timm:{name}", "kwargs": {"num_classes": 1000}}


def ours(name: str, **kwargs: Any) -> dict[str, Any]:
    """Return a model of `models.py`."""
    return {"factory": f"benchmarks.models:{name}", "kwargs": kwargs}


def images(side: int, classes: int = 1000) -> dict[str, Any]:
    """Return synthetic images."""
    return {"name": "synthetic", "shape": [3, side, side], "classes": classes}


def tokens(length: int, *, high: int = 30_000, labels: bool = True) -> dict[str, Any]:
    """Return sequences of tokens, with the same as labels."""
    one = {"shape": [length], "dtype": "int64", "high": high}
    return {"inputs": {"input_ids": one, "labels": one} if labels else {"input_ids": one}}


def classified(shape: list[int], classes: int, **kind: Any) -> dict[str, Any]:
    """Return inputs of any shape with a class each."""
    return {"inputs": {"x": {"shape": shape, **kind}}, "targets": {"shape": [], "dtype": "int64", "high": classes}}


WORDS = {"dtype": "int64", "high": 20_000}
HIDDEN = {"inputs": {"hidden": {"shape": [1024, 1024]}}, "targets": {"shape": [1]}}
SQUARES = {"loss": {"factory": "benchmarks.models:squares"}}
GPT2 = {"factory": "transformers:gpt2", "kwargs": {"n_layer": 4}}
BERT = {"factory": "transformers:BertForMaskedLM", "kwargs": {"num_hidden_layers": 4}}
LLAMA = {
    "factory": "transformers:LlamaForCausalLM",
    "kwargs": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 4,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
    },
}
T5 = {"factory": "transformers:T5ForConditionalGeneration", "kwargs": {"num_layers": 3, "decoder_start_token_id": 0}}
MNIST = {"name": "mnist", "source": "synthetic"}
CIFAR10 = {"name": "cifar10", "source": "synthetic"}

TRAININGS = (
    Training("mlp", {"name": "mlp"}, MNIST, 60_000),
    Training("mlp, wide, adam", {"name": "mlp", "hidden": 8192}, CIFAR10, 8192, "adam", search_limit=3 * GIB),
    Training("mlp, amp-bf16", {"name": "mlp", "hidden": 8192}, CIFAR10, 8192, "adam", "amp-bf16"),
    Training(
        "mlp, bf16, fused", {"name": "mlp", "hidden": 8192}, CIFAR10, 8192, "adamw, fused: true", "bf16",
        search_limit=3 * GIB,
    ),
    Training("cnn, adam", {"name": "cnn"}, CIFAR10, 2048, "adam", search_limit=3 * GIB),
    Training("cnn, amp-fp16", {"name": "cnn"}, CIFAR10, 2048, "rmsprop", "amp-fp16"),
    Training("cnn, tf32", {"name": "cnn"}, CIFAR10, 2048, "sgd", "tf32"),
    Training("resnet18", {"name": "resnet18"}, CIFAR10, 512, search_limit=6 * GIB),
    Training("resnet18, 128", {"name": "resnet18"}, images(128, 100), 128),
    Training("resnet18, amp-bf16", {"name": "resnet18"}, images(128, 100), 256, "adamw", "amp-bf16",
             search_limit=6 * GIB),
    Training("resnet18, bf16, adagrad", {"name": "resnet18"}, images(128, 100), 128, "adagrad", "bf16"),
    Training("resnet18, cudnn.benchmark", {"name": "resnet18"}, images(128, 100), 128,
             more={"device": {"cudnn_benchmark": True}}),
    Training("resnet50", {"name": "resnet50"}, images(224), 64, search_limit=12 * GIB),
    Training("resnet50, tf32, adamw", {"name": "resnet50"}, images(224), 64, "adamw", "tf32"),
    Training("resnet50, amp-fp16", {"name": "resnet50"}, images(224), 128, precision="amp-fp16",
             search_limit=12 * GIB),
    Training("resnet50, channels_last", {"name": "resnet50"}, images(224), 128, "adam, fused: true", "amp-bf16",
             {"train": {"channels_last": True}}, search_limit=12 * GIB),
    Training("resnet50, expandable", {"name": "resnet50"}, images(224), 64,
             more={"device": {"expandable_segments": True}}),
    Training("resnet50, checkpointing", {"name": "resnet50"}, images(224), 64,
             more={"train": {"activation_checkpointing": "full"}}),
    Training("resnet50, accumulation", {"name": "resnet50"}, images(224), 64, precision="amp-fp16",
             more={"train": {"gradient_accumulation_steps": 4}}),
    Training("resnet50, frozen", {"name": "resnet50"}, images(224), 64,
             more={"train": {"freeze": ["conv1*", "bn1*", "layer1*"]}}),
    Training("resnet50, ema, clipping", {"name": "resnet50"}, images(224), 64, "adamw",
             more={"train": {"ema": True, "clip_grad_norm": 1.0}}),
    Training("resnet50, in backward", {"name": "resnet50"}, images(224), 64, "adamw",
             more={"train": {"optimizer_in_backward": True}}),
    Training("resnet50, eval", {"name": "resnet50"}, images(224), 256, more={"mode": "eval"}),
    Training("efficientnet_b0", vision("efficientnet_b0"), images(224), 64, "rmsprop", search_limit=6 * GIB),
    Training("mobilenet_v3_large", vision("mobilenet_v3_large"), images(224), 128, "adam", "amp-fp16"),
    Training("mnasnet1_0", vision("mnasnet1_0"), images(224), 64),
    Training("regnet_y_400mf", vision("regnet_y_400mf"), images(224), 128),
    Training("regnet_y_8gf", vision("regnet_y_8gf"), images(224), 32, "adamw", "amp-bf16"),
    Training("convnext_tiny", vision("convnext_tiny"), images(224), 64, "adamw", "amp-bf16", search_limit=12 * GIB),
    Training("densenet121", vision("densenet121"), images(224), 64, precision="amp-fp16"),
    Training("vgg16", vision("vgg16"), images(224), 64, search_limit=12 * GIB),
    Training("alexnet", vision("alexnet"), images(224), 256),
    Training("shufflenet_v2_x1_0", vision("shufflenet_v2_x1_0"), images(224), 128),
    Training("squeezenet1_1", vision("squeezenet1_1"), images(224), 128),
    Training("swin_t", vision("swin_t"), images(224), 64, "adamw", "amp-bf16"),
    Training("vit_b_16", vision("vit_b_16"), images(224), 64, "adamw", "amp-bf16", search_limit=12 * GIB),
    Training("vit_b_16, fp32", vision("vit_b_16"), images(224), 32, "sgd, momentum: 0.9"),
    Training("vit_b_16, bf16", vision("vit_b_16"), images(224), 64, "adam, fused: true", "bf16"),
    Training("maxvit_t", vision("maxvit_t"), images(224), 32, "adamw", "amp-bf16"),
    Training("timm vit_small", timm("vit_small_patch16_224"), images(224), 64, "adamw"),
    Training("timm vit_small, amp", timm("vit_small_patch16_224"), images(224), 128, "adamw", "amp-fp16",
             search_limit=6 * GIB),
    Training("timm efficientnetv2_rw_t", timm("efficientnetv2_rw_t"), images(224), 64, "adamw", "amp-bf16"),
    Training("timm resnext50_32x4d", timm("resnext50_32x4d"), images(224), 64, precision="amp-fp16"),
    Training("timm mixer_b16_224", timm("mixer_b16_224"), images(224), 64, "adamw", "amp-bf16"),
    Training("timm convnextv2_nano", timm("convnextv2_nano"), images(224), 64, "adamw", "bf16"),
    Training("timm deit3, channels_last", timm("deit3_small_patch16_224"), images(224), 64, "adamw", "amp-bf16",
             {"train": {"channels_last": True}}),
    Training("timm nfnet_f0", timm("nfnet_f0"), images(224), 32, precision="amp-bf16"),
    Training("gpt2, fp32", GPT2, tokens(512), 8, "adamw", search_limit=12 * GIB),
    Training("gpt2, amp-bf16", GPT2, tokens(1024), 8, "adamw", "amp-bf16", search_limit=12 * GIB),
    Training("gpt2, amp-fp16, clipping", GPT2, tokens(512), 8, "adamw", "amp-fp16",
             {"train": {"clip_grad_norm": 1.0}}),
    Training("gpt2, bf16, checkpointing", GPT2, tokens(1024), 8, "adamw, fused: true", "bf16",
             {"train": {"activation_checkpointing": "full"}}),
    Training("bert", BERT, tokens(128), 64, "adamw, foreach: true", search_limit=6 * GIB),
    Training("bert, amp-bf16, foreach off", BERT, tokens(256), 32, "adamw, foreach: false", "amp-bf16"),
    Training("llama, bf16", LLAMA, tokens(2048), 4, "adamw", "bf16", search_limit=12 * GIB),
    Training("llama, amp-bf16, checkpointing", LLAMA, tokens(2048), 4, "adamw", "amp-bf16",
             {"train": {"activation_checkpointing": "full"}}),
    Training("llama, lora", ours("lora_llama"), tokens(1024), 4, "adamw", "bf16"),
    Training("t5", T5, tokens(256), 16, "adamw", "amp-bf16"),
    Training("lstm", ours("Recurrent", kind="lstm"), classified([200], 10, **WORDS), 128, "adam",
             search_limit=6 * GIB),
    Training("lstm, amp-fp16", ours("Recurrent", kind="lstm"), classified([200], 10, **WORDS), 128, "adam", "amp-fp16"),
    Training("gru", ours("Recurrent", kind="gru"), classified([200], 10, **WORDS), 128, "adam"),
    Training("gru, bf16, one way", ours("Recurrent", kind="gru", both_ways=False), classified([100], 10, **WORDS), 256,
             "adam", "bf16"),
    Training("rnn", ours("Recurrent", kind="rnn"), classified([100], 10, **WORDS), 128, "adam"),
    Training("volumes", ours("Volumes"), {"inputs": {"volume": {"shape": [1, 64, 64, 64]}},
             "targets": {"shape": [64, 64, 64], "dtype": "int64", "high": 4}}, 4, "adam", search_limit=6 * GIB),
    Training("volumes, amp-fp16", ours("Volumes"), {"inputs": {"volume": {"shape": [1, 64, 64, 64]}},
             "targets": {"shape": [64, 64, 64], "dtype": "int64", "high": 4}}, 4, "adam", "amp-fp16"),
    Training("waves", ours("Waves"), classified([1, 16000], 35), 32, "adam"),
    Training("waves, amp-bf16", ours("Waves"), classified([1, 16000], 35), 32, "adam", "amp-bf16"),
    Training("encoder", ours("Encoder"), classified([128], 10, **WORDS), 64, "adamw", search_limit=6 * GIB),
    Training("encoder, amp-fp16", ours("Encoder"), classified([256], 10, **WORDS), 64, "adamw", "amp-fp16"),
    Training("recommender", ours("Recommender"), classified([50], 2, dtype="int64", high=1_000_000), 4096, "adam"),
    Training("attention, fp32", ours("Attention"), HIDDEN, 8, "adamw", more=SQUARES),
    Training("attention, causal, bf16", ours("Attention"), HIDDEN, 16, "adamw", "bf16", SQUARES),
    Training("attention, amp-fp16", ours("Attention", causal=False), HIDDEN, 16, "adamw", "amp-fp16", SQUARES),
    Training("attention, heads of 128", ours("Attention", heads=8), HIDDEN, 16, "adamw", "bf16", SQUARES),
    Training("attention, heads of 256", ours("Attention", heads=4), HIDDEN, 16, "adamw", "bf16", SQUARES),
    Training("resnet18, compiled", {"name": "resnet18"}, images(128, 100), 128, precision="amp-bf16",
             more={"train": {"compile": True}}),
    Training("encoder, compiled", ours("Encoder"), classified([128], 10, **WORDS), 64, "adamw", "amp-bf16",
             {"train": {"compile": True}}),
)  # fmt: skip


def main() -> None:
    """Measure the trainings and write the file after each of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT.json")
    parser.add_argument("--gpu", help="predict for this GPU instead of measuring")
    parser.add_argument("--only", default="", help="only trainings whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--no-search", action="store_true", help="no search for the largest batch")
    parser.add_argument("--seconds", type=float, default=3600.0, help="begin no training after this time")
    options = parser.parse_args()
    device = {"gpu": options.gpu} if options.gpu else {"name": "cuda"}
    chosen = [training for training in TRAININGS if options.only in training.name]
    end = time.monotonic() + options.seconds
    results: dict[str, Any] = {}

    def run(training: Training) -> None:
        for key, value in answers(training, device, end, search=not options.no_search):
            results.setdefault(training.name, {})[key] = value
            options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            print(f"{training.name}, {key}: {json.dumps(value)[:150]}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, chosen))


def answers(training: Training, device: Mapping[str, Any], end: float, *, search: bool) -> Iterator[tuple[str, Any]]:
    """Yield the peaks of the training's batch size, then its largest batch."""
    began = time.monotonic()
    if began > end:
        return
    try:
        with open_probe(training.config(device)) as probe:
            yield "device", {"capacity": probe.info.device.capacity_bytes, "versions": probe.info.versions}
            yield "peaks", peaks(probe.measure(training.batch_size)) | {"seconds": time.monotonic() - began}
    except Exception as error:  # noqa: BLE001 - the failure is the result
        yield "error", f"{type(error).__name__}: {error}"[:500]
        return
    if not search or training.search_limit is None or time.monotonic() > end:
        return
    began = time.monotonic()
    try:
        result = find_batch(training.config({**device, "memory_limit": training.search_limit}))
    except Exception as error:  # noqa: BLE001 - the failure is the result
        yield "search_error", f"{type(error).__name__}: {error}"[:500]
        return
    yield (
        "search",
        {
            "limit": training.search_limit,
            "allocator_bytes": result.run.device.allocator_bytes,
            "largest": result.max_batch_size,
            "limited_by": result.limited_by and result.limited_by.value,
            "trials": [peaks(trial) for trial in result.trials],
            "seconds": time.monotonic() - began,
        },
    )


def peaks(trial: Measurement) -> dict[str, Any]:
    """Return what a trial counted, in bytes."""
    return {
        "batch_size": trial.batch_size,
        "outcome": trial.outcome.value,
        "allocated": trial.peak_allocated_bytes,
        "reserved": trial.peak_reserved_bytes,
        "retries": trial.allocator_retries,
        "message": trial.message[:300] if trial.message else None,
        "phases": {peak.phase.value: [peak.allocated_bytes, peak.reserved_bytes] for peak in trial.peaks},
    }


if __name__ == "__main__":
    main()
