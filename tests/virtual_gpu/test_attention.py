"""cuDNN's attention on the virtual GPU: PyTorch allocates what it did on a real H200."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from vram_cli.hardware.gpus import find_gpu
from vram_cli.virtual_gpu import environment, obstacle

pytestmark = pytest.mark.skipif(bool(obstacle()), reason=obstacle())

SCRIPT = """
import ctypes, json, os, sys
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

def trace():
    return [e["size"] for e in torch.cuda.memory._snapshot()["device_traces"][0] if e["action"] == "alloc"]

def sizes(dtype, batch, heads, keys, length, width, **options):
    tensors = [
        torch.empty(batch, length, n, width, dtype=getattr(torch, dtype), device="cuda").transpose(1, 2)
        for n in (heads, keys, keys)
    ]
    for tensor in tensors:
        tensor.requires_grad_()
    gradient = torch.empty(batch, length, heads, width, dtype=getattr(torch, dtype), device="cuda").transpose(1, 2)
    torch.cuda.memory._record_memory_history(stacks="python")
    output = scaled_dot_product_attention(*tensors, enable_gqa=heads != keys, **options)
    forward = trace()
    output.backward(gradient)
    both = trace()
    torch.cuda.memory._record_memory_history(enabled=None)
    return {"node": type(output.grad_fn).__name__, "forward": forward, "backward": both[len(forward):]}

backends, cases = json.loads(sys.argv[1])
with sdpa_kernel([getattr(SDPBackend, name) for name in backends], set_priority=True):
    answers = [sizes(*shape, **options) for shape, options in cases]
library = ctypes.CDLL(None)
library.vgpu_refusals.restype = ctypes.c_char_p
print(json.dumps([answers, library.vgpu_refusals().decode().split()]), flush=True)
os._exit(0)  # a process that ends right after a backward pass may abort as PyTorch 2.14 takes its threads down
"""


def attention(gpu: str, *cases: tuple[list[Any], dict[str, Any]], backends: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the sizes that PyTorch allocates in the forward and backward pass of each case; nothing may refuse."""
    found = find_gpu(gpu)
    card = environment(found, memory_bytes=found.memory_bytes, context_bytes=found.context_bytes)
    command = [sys.executable, "-c", SCRIPT, json.dumps([backends, cases])]
    done = subprocess.run(command, env={**os.environ, **card}, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[dict[str, Any]]
    answers, refusals = json.loads(done.stdout.splitlines()[-1])
    assert refusals == []
    return answers


def test_h200_allocates_what_was_measured() -> None:
    """Sizes of ViT-B/16 and GPT-2 in the snapshots of an H200, and of heads that share keys, which are modelled."""
    vit, gpt2, shared = attention(
        "h200",
        (["bfloat16", 64, 12, 12, 197, 64], {}),
        (["float16", 4, 12, 12, 512, 64], {"is_causal": True}),
        (["bfloat16", 2, 8, 2, 128, 64], {}),
        backends=("CUDNN_ATTENTION",),
    )
    assert vit["node"] == "ScaledDotProductCudnnAttentionBackward0"
    assert vit["forward"] == [8, 8, 19_365_888, 605_184, 256]
    assert vit["backward"][:3] == [19_365_888] * 3
    # cudnn-frontend pads keys whose length is no multiple of 128 if cuDNN is older than 9.15: two integers a sequence.
    assert vit["backward"][3:] in ([39_337_216], [39_337_216 + 64 * 2 * 4])
    assert gpt2["forward"] == [8, 8, 3_145_728, 98_304, 256]
    assert gpt2["backward"] == [*[3_145_728] * 3, 6_390_016]
    output, sums = 2 * 8 * 128 * 64 * 2, 2 * 8 * 128 * 4
    assert shared["backward"] == [output, output // 4, output // 4, 2 * output + sums + 256 + 2 * output]


def test_b200_with_a_config_that_pytorch_makes_itself() -> None:
    """cudnn-frontend names an engine for heads of 256 on Blackwell (torch 2.14), and takes flash attention before."""
    (answer,) = attention(
        "b200", (["bfloat16", 2, 8, 8, 128, 256], {}), backends=("CUDNN_ATTENTION", "FLASH_ATTENTION")
    )
    assert len(answer["backward"]) >= len(("query", "key", "value", "workspace"))
