"""Two searches of one process, before and after it uses the GPU: printed as JSON by `test_live.py`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tests.probe.live.trainings import batch, net, sgd, take_step
from vram_cli import find_batch
from vram_cli.records import Category

LASTING = (Category.PARAMETERS, Category.GRADIENTS, Category.OPTIMIZER_STATE, Category.ACTIVATIONS)


def on_the_gpu(n: int) -> Iterator[None]:
    model, (images, labels) = net().cuda(), (tensor.cuda() for tensor in batch(n))
    optimizer = sgd(model)
    while True:
        take_step(model, optimizer, images, labels)
        yield


def answer(make_training: Callable[[int], Any]) -> dict[str, Any]:
    state = torch.get_rng_state()
    result = find_batch(make_training, memory_limit="1GiB", overrides=["search.max_batch_size=64"])
    assert result.breakdown is not None
    return {
        "largest": result.max_batch_size,
        "device": result.run.device.type,
        "remark": result.run.remark,
        "rows": [result.breakdown.bytes_of(category) for category in LASTING],
        "uses_gpu": torch.cuda.is_initialized(),
        "keeps_random_state": torch.equal(state, torch.get_rng_state()),
    }


def live() -> Callable[[int], Callable[[], None]]:
    model = net().cuda()
    optimizer = sgd(model)
    return lambda n: lambda: take_step(model, optimizer, *(tensor.cuda() for tensor in batch(n)))


sys.stdout.write(json.dumps([answer(on_the_gpu), answer(live())]))
