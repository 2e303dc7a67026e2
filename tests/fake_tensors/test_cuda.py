"""Memory of a step on a GPU, against sums computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from tests.fake_tensors.models import Encoder
from vram_cli.allocator.allocation_trace import AllocationTrace
from vram_cli.fake_tensors import SimulatedTraining, Simulation, UnsupportedError
from vram_cli.hardware.gpus import Gpu, find_gpu
from vram_cli.records import Category, Phase
from vram_cli.workload import Workload, supervised, train_step

T4, A100, H100 = find_gpu("t4"), find_gpu("a100-80gb"), find_gpu("h100")
WORKSPACE = (4096 * 2 + 16 * 8) * 1024  # ":4096:2:16:8", cuBLAS's default


def training(
    build: Callable[[], nn.Module],
    shape: tuple[int, ...],
    optimizer: Callable[[Any], torch.optim.Optimizer] = lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    precision: torch.dtype | None = None,
) -> SimulatedTraining:
    return SimulatedTraining(
        build_model=build,
        workload=lambda model, device: Workload(
            model=model,
            loss=supervised(nn.CrossEntropyLoss()),
            optimizer=optimizer(model.parameters()),
            scaler=torch.amp.GradScaler(device.type, init_scale=1.0, enabled=precision is torch.float16),
            device=device,
            autocast_dtype=precision,
            step=train_step,
        ),
        make_batch=lambda n, device, _: (
            torch.zeros(n, *shape, device=device),
            torch.zeros(n, device=device, dtype=torch.int64),
        ),
    )


def trace_of(simulated: SimulatedTraining, n: int, gpu: Gpu = T4, **options: Any) -> AllocationTrace:
    return Simulation(simulated, gpu, **options).trace(n)


def allocated_by(trace: AllocationTrace, op: str) -> list[int]:
    """Return the sizes that an operation allocated in the last step, in order."""
    return [
        trace.storages[action].bytes
        for action in trace.steps[-1]
        if not isinstance(action, Phase) and action >= 0 and trace.storages[action].op == op
    ]


def peak_bytes(trace: AllocationTrace, phase: Phase) -> int:
    """Return the peak of a phase of the last step, including persistent workspaces."""
    alive: set[int] = set()
    current, peak = Phase.BUILD, 0
    for part in (trace.setup, *trace.steps):
        for action in part:
            if isinstance(action, Phase):
                current = action
            elif action >= 0:
                alive.add(action)
            else:
                alive.discard(~action)
            if part is trace.steps[-1] and current is phase:
                peak = max(peak, sum(trace.storages[i].bytes for i in alive))
    return peak


def test_linear_layer_by_hand() -> None:
    """400 x 10 weights and 10 biases; 1000 samples; the workspaces of two threads."""
    trace = trace_of(training(lambda: nn.Linear(400, 10), (400,)), 1000, torch_version=(2, 14))
    weights, batch = 4 * (400 * 10 + 10), 4 * 1000 * 400 + 8 * 1000
    logits = 4 * 1000 * 10
    # The logits, which the loss references; their log_softmax; the loss and its total weight, 4 bytes each.
    assert peak_bytes(trace, Phase.FORWARD) == weights + batch + 2 * logits + 2 * 4 + 2 * WORKSPACE
    # log_softmax, its gradient and that of the logits; the loss and its gradient, 4 bytes each.
    assert peak_bytes(trace, Phase.BACKWARD) == weights + batch + 3 * logits + 2 * 4 + 2 * WORKSPACE
    # The loss is alive until the end of the step.
    assert peak_bytes(trace, Phase.OPTIMIZER) == 2 * weights + batch + 4 + 2 * WORKSPACE


@pytest.mark.parametrize(("version", "persistent"), [((2, 14), 1), ((2, 15), 0)])
def test_workspaces_persist_before_torch_2_15(version: tuple[int, int], persistent: int) -> None:
    trace = trace_of(training(lambda: nn.Linear(400, 10, bias=False), (400,)), 8, torch_version=version)
    freed = {~action for part in trace.steps for action in part if not isinstance(action, Phase) and action < 0}
    left = [i for i, storage in enumerate(trace.storages) if storage.bytes == WORKSPACE and i not in freed]
    assert len(left) == 2 * persistent  # one each for the threads of the forward and the backward pass
    assert allocated_by(trace, "aten.mm").count(WORKSPACE) == (0 if persistent else 2)


def test_hopper_has_larger_workspaces() -> None:
    trace = trace_of(training(lambda: nn.Linear(400, 10), (400,)), 8, H100, torch_version=(2, 14))
    assert sum(storage.bytes == 32 * 1024**2 for storage in trace.storages) == 2


def test_dropout_saves_a_byte_per_element() -> None:
    model = lambda: nn.Sequential(nn.Dropout(0.1), nn.Linear(400, 10))  # noqa: E731
    assert allocated_by(trace_of(training(model, (400,)), 100), "aten.native_dropout") == [4 * 100 * 400, 100 * 400]


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_autocast_halves_outputs_and_casts_weights_once(precision: torch.dtype) -> None:
    trace = trace_of(training(lambda: nn.Linear(400, 10), (400,), precision=precision), 100)
    logits, casts = allocated_by(trace, "aten.addmm")[0], allocated_by(trace, "aten._to_copy")
    assert logits == 2 * 100 * 10
    # Input, weight and bias to half; the loss runs in float32; the gradients are cast to float32.
    assert {2 * 100 * 400, 2 * 400 * 10, 2 * 10, 4 * 100 * 10, 4 * 400 * 10, 4 * 10} <= set(casts)


def test_foreach_optimizer_copies_the_parameters() -> None:
    def optimizer_peak(**options: Any) -> int:
        adam = lambda parameters: torch.optim.Adam(parameters, **options)  # noqa: E731
        layers = lambda: nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(8)))  # noqa: E731
        return peak_bytes(trace_of(training(layers, (256,), adam), 1), Phase.OPTIMIZER)

    size = 4 * 256 * 256
    assert optimizer_peak() == optimizer_peak(foreach=True)
    assert optimizer_peak() - optimizer_peak(fused=True) >= 8 * size - 100
    # The for-loop takes three: the root, the quotient, and the quotient of the previous parameter.
    assert optimizer_peak() - optimizer_peak(foreach=False) == (8 - 3) * size


def attention(gpu: Gpu, dtype: torch.dtype, **options: Any) -> str:
    """Return the attention kernel that a simulation runs."""

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            q = self.head.weight.new_zeros(len(images), 4, 32, options.get("width", 64)).to(dtype).requires_grad_()
            mask = torch.zeros(32, 32, device=q.device, dtype=dtype) if options.get("mask") else None
            output = functional.scaled_dot_product_attention(
                q, q, q, mask, options.get("dropout", 0.0), options.get("causal", False)
            )
            return self.head(images) + output.float().mean()

    trace = trace_of(training(Attend, (64,)), 8, gpu)
    kernels = {storage.op for storage in trace.storages if "attention" in storage.op and "backward" not in storage.op}
    return kernels.pop().removeprefix("aten._scaled_dot_product_").removesuffix("_attention") if kernels else "math"


@pytest.mark.parametrize(
    ("gpu", "dtype", "options", "expected"),
    [
        (T4, torch.float32, {}, "efficient"),
        (T4, torch.float16, {}, "efficient"),
        (T4, torch.bfloat16, {}, "math"),
        (T4, torch.float16, {"width": 12}, "math"),
        (A100, torch.float32, {}, "efficient"),
        (A100, torch.bfloat16, {}, "flash"),
        (A100, torch.bfloat16, {"causal": True}, "flash"),
        (A100, torch.bfloat16, {"mask": True}, "efficient"),
        (A100, torch.bfloat16, {"width": 512}, "efficient"),
        (A100, torch.bfloat16, {"width": 60}, "flash"),
        (H100, torch.bfloat16, {}, "cudnn"),
        (H100, torch.bfloat16, {"dropout": 0.1}, "flash"),
        (H100, torch.float32, {}, "efficient"),
    ],
)
def test_attention_kernel_of_the_gpu(gpu: Gpu, dtype: torch.dtype, options: dict[str, Any], expected: str) -> None:
    assert attention(gpu, dtype, **options) == expected


def test_fused_attention_saves_no_score_matrix() -> None:
    encoder = training(Encoder, (3, 8, 8))
    plain = trace_of(encoder, 16, fused_attention=False)
    fused = trace_of(encoder, 16)
    scores = 4 * 16 * 4 * 24 * 24  # float32, 16 samples, 4 heads, 24 tokens
    assert allocated_by(plain, "aten._safe_softmax") == [scores] * 2
    assert allocated_by(fused, "aten._safe_softmax") == []
    assert peak_bytes(fused, Phase.FORWARD) < peak_bytes(plain, Phase.FORWARD)


class ReadsValue(nn.Linear):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = super().forward(images)
        return hidden * 2 if hidden.sum().item() > 0 else hidden


class Nonzero(nn.Linear):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images[images[:, 0].nonzero().squeeze(1)])


@pytest.mark.parametrize(
    ("model", "operation"),
    [(ReadsValue, "aten._local_scalar_dense"), (Nonzero, "aten.nonzero")],
    ids=["item", "nonzero"],
)
def test_value_dependent_operation_is_refused(model: type[nn.Linear], operation: str) -> None:
    with pytest.raises(UnsupportedError, match=operation) as error:
        trace_of(training(lambda: model(400, 10), (400,)), 8)
    assert "--device cpu" in error.value.hint


def test_patches_of_pytorch_are_undone() -> None:
    def patched() -> list[Any]:
        return [
            torch.autograd.backward,
            torch.autograd.grad,
            torch._C._current_graph_task_id,
            torch._C._will_engine_execute_node,
            torch.Tensor.register_hook,
            vars(torch.Tensor).get("retain_grad"),
            vars(torch.autograd.function._HookMixin)["_register_hook"],
            dict(_global_optimizer_pre_hooks),
            dict(_global_optimizer_post_hooks),
            torch.autograd.function.FunctionCtx.set_materialize_grads,
            torch.cuda.amp.common.amp_definitely_not_available,
            torch.cuda.is_bf16_supported,
            functional.scaled_dot_product_attention,
            torch._C._nn.scaled_dot_product_attention,
            list(torch.optim.Optimizer.__init__.__globals__["_foreach_supported_types"]),
            dict(torch.nn.modules.module._global_forward_hooks),
            dict(torch.nn.modules.module._global_forward_pre_hooks),
            torch.nn.init.kaiming_uniform_,
        ]

    trace_of(training(lambda: nn.Linear(400, 10), (400,)), 8)  # PyTorch registers DTensor on first use
    before = patched()
    trace_of(training(lambda: nn.Linear(400, 10), (400,), precision=torch.float16), 8)
    with pytest.raises(UnsupportedError):
        trace_of(training(lambda: ReadsValue(400, 10), (400,)), 8)
    assert patched() == before
    assert type(torch.zeros(1)) is torch.Tensor
    weight = torch.ones(2, requires_grad=True)
    (weight * 3).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [3, 3]


def test_categories_by_hand() -> None:
    trace = trace_of(training(lambda: nn.Linear(400, 10), (400,), torch.optim.Adam), 8)

    def total(category: Category) -> int:
        return sum(storage.bytes for storage in trace.storages if storage.category is category)

    weights = 4 * (400 * 10 + 10)
    assert total(Category.PARAMETERS) == weights
    assert total(Category.OPTIMIZER_STATE) == 2 * weights  # Adam's step counters are on the CPU
    assert total(Category.BATCH_DATA) == 8 * (4 * 400 + 8)
    assert total(Category.GRADIENTS) == 2 * weights  # in each of the two steps
