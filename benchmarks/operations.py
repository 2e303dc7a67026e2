"""What single operations allocate, forward and backward: compared between a GPU and the virtual GPU.

    python -m benchmarks.operations OUT.json [GROUP...]

The file holds the sizes of all allocations and frees of each operation, in their order, as PyTorch's allocator records
them, or the error that it raised.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

Operation = Callable[[], Any]
MOST_EVENTS = 400
"""Events kept of one operation."""
HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32


def main() -> None:
    """Run every operation and write what it allocated."""
    results: dict[str, Any] = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(0)}
    groups = (attention, linear_algebra, sorting, convolutions, recurrences, losses_and_norms, transforms)
    chosen = [group for group in groups if group.__name__ in sys.argv[2:] or len(sys.argv) == 2]
    for name, operation in itertools.chain.from_iterable(group() for group in chosen):
        try:
            results[name] = allocations(operation)
        except Exception as error:  # noqa: BLE001 - the failure is the result
            results[name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        torch.cuda.empty_cache()
    Path(sys.argv[1]).write_text(json.dumps(results) + "\n", encoding="utf-8")


def allocations(operation: Operation) -> dict[str, Any]:
    """Run an operation twice; return the peak and the events of the second run."""
    operation()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.memory._record_memory_history(context=None, max_entries=100_000)
    operation()
    torch.cuda.synchronize()
    events = torch.cuda.memory._snapshot()["device_traces"][0]
    torch.cuda.memory._record_memory_history(enabled=None)
    kept = [[e["action"], e["size"]] for e in events if e["action"] in ("alloc", "free_requested")]
    sizes = [size if action == "alloc" else -size for action, size in kept]
    return {"peak": torch.cuda.max_memory_allocated() - before, "events": sizes[:MOST_EVENTS]}


def there_and_back(
    function: Callable[..., torch.Tensor], *shapes: tuple[int, ...], dtype: torch.dtype = SINGLE
) -> Operation:
    """Return an operation that makes inputs of the shapes, calls the function and goes back through it."""

    def run() -> None:
        inputs = [torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True) for shape in shapes]
        output = function(*inputs)
        output.backward(torch.ones_like(output))

    return run


def module(make: Callable[[], nn.Module], *shape: int, dtype: torch.dtype = SINGLE, last: bool = False) -> Operation:
    """Return an operation that goes through a module and back; `last`: in the channels-last memory format."""
    made: list[nn.Module] = []

    def run() -> None:
        if not made:
            made.append(make().to("cuda", dtype))
        layer = made[0]
        x = torch.randn(shape, device="cuda", dtype=dtype)
        if last:
            x = x.to(memory_format=torch.channels_last)
            layer.to(memory_format=torch.channels_last)
        x.requires_grad_()
        output = layer(x)
        output = output[0] if isinstance(output, tuple) else output
        output.backward(torch.ones_like(output))
        layer.zero_grad(set_to_none=True)

    return run


def attention() -> Iterator[tuple[str, Operation]]:
    """Yield attention by every backend, and by PyTorch's own choice."""
    backends = {
        "chosen": None,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "math": SDPBackend.MATH,
    }
    shapes = [
        (n, heads, length, width)
        for n, heads in ((2, 8), (3, 16), (16, 12))
        for length in (128, 500, 1024)
        for width in (32, 64, 80, 128, 256)
    ]

    def attend(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, backend: SDPBackend | None
    ) -> torch.Tensor:
        if backend is None:
            return functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        with sdpa_kernel(backend):
            return functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    for (label, backend), shape, dtype, causal in itertools.product(
        backends.items(), shapes, (HALF, BRAIN, SINGLE), (False, True)
    ):
        if label == "math" and shape[0] != 2:
            continue

        def run(
            q: torch.Tensor,
            k: torch.Tensor,
            v: torch.Tensor,
            *,
            causal: bool = causal,
            backend: SDPBackend | None = backend,
        ) -> torch.Tensor:
            return attend(q, k, v, causal, backend)

        kind = str(dtype).removeprefix("torch.")
        name = f"attention {label} {shape} {kind}{' causal' if causal else ''}"
        yield name, there_and_back(run, shape, shape, shape, dtype=dtype)

        def transposed(
            q: torch.Tensor,
            k: torch.Tensor,
            v: torch.Tensor,
            *,
            causal: bool = causal,
            backend: SDPBackend | None = backend,
        ) -> torch.Tensor:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            return attend(q, k, v, causal, backend)

        if label == "cudnn" and dtype is not SINGLE:
            other = (shape[0], shape[2], shape[1], shape[3])
            yield f"{name} transposed", there_and_back(transposed, other, other, other, dtype=dtype)
    for heads, dtype in itertools.product((1, 4), (HALF, BRAIN)):

        def grouped(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

        yield (
            f"attention grouped 16/{heads} {dtype}",
            there_and_back(grouped, (2, 16, 512, 64), (2, heads, 512, 64), (2, heads, 512, 64), dtype=dtype),
        )


def linear_algebra() -> Iterator[tuple[str, Operation]]:
    """Yield matrix products and decompositions."""
    for dtype in (SINGLE, HALF, BRAIN, torch.float64):
        yield f"linear {dtype}", module(lambda: nn.Linear(1000, 500), 640, 1000, dtype=dtype)
        yield f"linear, no bias {dtype}", module(lambda: nn.Linear(1024, 512, bias=False), 640, 1024, dtype=dtype)
        yield f"bmm {dtype}", there_and_back(torch.bmm, (32, 100, 200), (32, 200, 50), dtype=dtype)
    for n in (16, 200, 1000):
        yield f"svd {n}", lambda n=n: torch.linalg.svd(torch.randn(n, n, device="cuda"))
        yield f"cholesky {n}", lambda n=n: torch.linalg.cholesky(torch.eye(n, device="cuda") * 2)
        yield f"qr {n}", lambda n=n: torch.linalg.qr(torch.randn(n, n, device="cuda"))
        yield f"inv {n}", lambda n=n: torch.linalg.inv(torch.eye(n, device="cuda") * 2)
        yield f"solve {n}", lambda n=n: torch.linalg.solve(torch.eye(n, device="cuda"), torch.ones(n, 3, device="cuda"))
        yield f"eigh {n}", lambda n=n: torch.linalg.eigh(torch.eye(n, device="cuda"))
    yield (
        "sparse.mm",
        lambda: torch.sparse.mm(torch.eye(1000, device="cuda").to_sparse(), torch.ones(1000, 64, device="cuda")),
    )


def sorting() -> Iterator[tuple[str, Operation]]:
    """Yield sorts, selections, scans and scatters."""
    for n in (1000, 100_000, 10_000_000):
        x = torch.arange(n, dtype=SINGLE)
        i = torch.arange(n)

        def on(function: Callable[[torch.Tensor], Any], values: torch.Tensor) -> Operation:
            return lambda: function(values.cuda())

        yield f"sort {n}", on(torch.sort, x)
        yield f"argsort int64 {n}", on(torch.argsort, i)
        yield f"topk {n}", on(lambda v: torch.topk(v, 10), x)
        yield f"cumsum {n}", on(lambda v: torch.cumsum(v, 0), x)
        yield f"nonzero {n}", on(torch.nonzero, x)
        yield f"mask {n}", on(lambda v: v[v > 5], x)
        yield f"unique {n}", on(torch.unique, i % 100)
        yield f"bincount {n}", on(torch.bincount, i % 100)
        yield f"median {n}", on(torch.median, x)
        yield f"sum {n}", on(torch.sum, x)
        yield f"var {n}", on(torch.var, x)
        yield f"norm {n}", on(torch.linalg.norm, x)
        yield f"argmax {n}", on(torch.argmax, x)
        yield f"randperm {n}", lambda n=n: torch.randperm(n, device="cuda")
        yield f"index_put accumulate {n}", on(
            lambda v: torch.zeros(100, device="cuda").index_put_((v % 100,), torch.ones(len(v), device="cuda"), accumulate=True), i  # noqa: E501
        )  # fmt: skip
        yield (
            f"scatter_add {n}",
            on(
                lambda v: torch.zeros(100, device="cuda").scatter_add_(0, v % 100, torch.ones(len(v), device="cuda")), i
            ),
        )
    yield "multinomial", lambda: torch.multinomial(torch.ones(64, 1000, device="cuda"), 10)
    yield "sort rows", lambda: torch.sort(torch.randn(512, 1000, device="cuda"), dim=1)
    yield "topk rows", lambda: torch.topk(torch.randn(512, 50_000, device="cuda"), 50, dim=1)
    for sparse, rows in itertools.product((False, True), (1000, 100_000)):

        def embed(*, sparse: bool = sparse, rows: int = rows) -> None:
            layer = nn.Embedding(rows, 64, sparse=sparse, device="cuda")
            layer(torch.arange(8192, device="cuda") % rows).sum().backward()

        def bag(*, sparse: bool = sparse, rows: int = rows) -> None:
            layer = nn.EmbeddingBag(rows, 64, sparse=sparse, device="cuda")
            layer((torch.arange(8192, device="cuda") % rows).view(256, 32)).sum().backward()

        yield f"embedding {rows}{' sparse' if sparse else ''}", embed
        yield f"embedding bag {rows}{' sparse' if sparse else ''}", bag


def convolutions() -> Iterator[tuple[str, Operation]]:
    """Yield convolutions of one to three dimensions, plain, grouped, dilated and transposed."""
    kinds = {
        "3x3": (lambda: nn.Conv2d(64, 64, 3, padding=1), (32, 64, 56, 56)),
        "7x7 stride 2": (lambda: nn.Conv2d(3, 64, 7, 2, 3), (32, 3, 224, 224)),
        "1x1": (lambda: nn.Conv2d(256, 512, 1, bias=False), (32, 256, 28, 28)),
        "depthwise": (lambda: nn.Conv2d(96, 96, 7, padding=3, groups=96), (32, 96, 28, 28)),
        "groups": (lambda: nn.Conv2d(128, 128, 3, padding=1, groups=32), (32, 128, 28, 28)),
        "dilated": (lambda: nn.Conv2d(64, 64, 3, padding=4, dilation=4), (16, 64, 64, 64)),
        "patches": (lambda: nn.Conv2d(3, 768, 16, 16), (32, 3, 224, 224)),
        "transposed": (lambda: nn.ConvTranspose2d(128, 64, 4, 2, 1), (16, 128, 32, 32)),
        "1d": (lambda: nn.Conv1d(64, 128, 9, padding=4), (32, 64, 4000)),
        "3d": (lambda: nn.Conv3d(16, 32, 3, padding=1), (4, 16, 32, 32, 32)),
        "3d transposed": (lambda: nn.ConvTranspose3d(32, 16, 2, 2), (4, 32, 32, 32, 32)),
    }
    for (label, (make, shape)), dtype in itertools.product(kinds.items(), (SINGLE, HALF, BRAIN, torch.float64)):
        for last in (False, True) if len(shape) == 4 else (False,):
            yield f"conv {label} {dtype}{' last' if last else ''}", module(make, *shape, dtype=dtype, last=last)
    norms = {"batch": lambda: nn.BatchNorm2d(64), "group": lambda: nn.GroupNorm(8, 64)}
    norms |= {"instance": lambda: nn.InstanceNorm2d(64, affine=True), "sync": lambda: nn.SyncBatchNorm(64)}
    for (label, make), dtype, last in itertools.product(norms.items(), (SINGLE, HALF), (False, True)):
        yield f"{label} norm {dtype}{' last' if last else ''}", module(make, 32, 64, 56, 56, dtype=dtype, last=last)
    for label, make in {
        "max pool": lambda: nn.MaxPool2d(3, 2, 1), "average pool": lambda: nn.AdaptiveAvgPool2d(1),
        "adaptive max": lambda: nn.AdaptiveMaxPool2d(7),
        "upsample": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    }.items():  # fmt: skip
        yield label, module(make, 16, 64, 56, 56)


def recurrences() -> Iterator[tuple[str, Operation]]:
    """Yield recurrent networks of cuDNN."""
    made = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
    sizes = ((64, 1), (256, 2), (512, 3))
    for kind, (width, layers), both, dtype, dropout in itertools.product(
        made, sizes, (False, True), (SINGLE, HALF, BRAIN), (0.0, 0.2)
    ):

        def make(
            kind: str = kind,
            width: int = width,
            layers: int = layers,
            both: bool = both,
            dropout: float = dropout,
        ) -> nn.Module:
            drop = dropout if layers > 1 else 0.0
            return made[kind](width, width, layers, batch_first=True, bidirectional=both, dropout=drop)

        label = f"{kind} {width}x{layers}{' both ways' if both else ''} {dtype} dropout {dropout}"
        for n, length in ((32, 50), (100, 7)):
            yield f"{label} {n}x{length}", module(make, n, length, width, dtype=dtype)


def losses_and_norms() -> Iterator[tuple[str, Operation]]:
    """Yield losses, softmax, layer norm and dropout."""
    for dtype in (SINGLE, HALF, BRAIN):
        yield f"layer norm {dtype}", module(lambda: nn.LayerNorm(768), 64, 197, 768, dtype=dtype)
        yield f"rms norm {dtype}", module(lambda: nn.RMSNorm(768), 64, 197, 768, dtype=dtype)
        yield f"softmax {dtype}", module(lambda: nn.Softmax(-1), 64, 12, 197, 197, dtype=dtype)
        yield f"gelu {dtype}", module(nn.GELU, 64, 197, 768, dtype=dtype)
        yield f"dropout {dtype}", module(lambda: nn.Dropout(0.1), 64, 197, 768, dtype=dtype)

        def cross(logits: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device="cuda"))

        yield f"cross entropy {dtype}", there_and_back(cross, (4096, 30_000), dtype=dtype)

    def ctc(scores: torch.Tensor) -> torch.Tensor:
        targets = torch.ones(16, 20, dtype=torch.long, device="cuda")
        return functional.ctc_loss(scores.log_softmax(2), targets, torch.full((16,), 100), torch.full((16,), 20))

    yield "ctc", there_and_back(ctc, (100, 16, 40))
    yield (
        "grid sample",
        there_and_back(
            lambda x: functional.grid_sample(x, torch.zeros(8, 32, 32, 2, device="cuda"), align_corners=False),
            (8, 16, 32, 32),
        ),
    )


def transforms() -> Iterator[tuple[str, Operation]]:
    """Yield Fourier transforms."""
    for n in (64, 1000, 1021, 4096, 100_000):
        yield f"fft {n}", there_and_back(lambda x: torch.fft.rfft(x).abs(), (16, n))
        yield f"fft complex {n}", lambda n=n: torch.fft.fft(torch.ones(16, n, device="cuda", dtype=torch.complex64))
    yield "fft2", there_and_back(lambda x: torch.fft.rfft2(x).abs(), (8, 3, 224, 224))
    yield (
        "stft",
        there_and_back(
            lambda x: torch.stft(x, 400, 160, window=torch.hann_window(400, device="cuda"), return_complex=True).abs(),
            (8, 16_000),
        ),
    )


if __name__ == "__main__":
    main()
