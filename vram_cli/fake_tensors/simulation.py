"""From a subject and a batch size to the tape of its training on a card."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.accounting.storage_labels import label, label_gradients
from vram_cli.allocator.allocation_trace import AllocationTrace, record
from vram_cli.fake_tensors.attention import Attention
from vram_cli.fake_tensors.autograd_engine import Engine
from vram_cli.fake_tensors.cuda_workspaces import Workspaces, no_workspaces
from vram_cli.fake_tensors.errors import refusing, unsupported
from vram_cli.fake_tensors.fake_model import FakeModel, build_without_memory
from vram_cli.fake_tensors.hooks import refuse_module_hooks
from vram_cli.fake_tensors.patches import simulated_cuda
from vram_cli.fake_tensors.recorder import Recorder, WorkspaceRule
from vram_cli.fake_tensors.simulated_training import SimulatedTraining
from vram_cli.hardware.calibration import NO_ALLOWANCES, Allowances
from vram_cli.hardware.gpus import Gpu
from vram_cli.records import Phase
from vram_cli.workload import Workload, tensors_of

CUDA = torch.device("cuda:0")
STEPS = 2
"""The first step makes the optimizer's state; the second is like all that follow."""


class Simulation:
    """Runs a subject's training on fake tensors of a card.

    Args:
        subject: what is trained.
        gpu: decides which kernels run and what they take for themselves.
        torch_version: whose rules for workspaces hold; by default, those of the torch that runs.
        tf32: whether convolutions of float32 may run as TensorFloat-32.
        cudnn_benchmark: whether cuDNN's plans are searched by trying them.
        fused_attention: whether the fused kernels of attention may be chosen.
        allowances: what a calibration allows for beyond the workspaces that are known.
        device: where the fakes claim to lie; "cpu" takes the CPU's operations, to be compared with real steps.
    """

    def __init__(
        self,
        subject: SimulatedTraining,
        gpu: Gpu,
        *,
        torch_version: tuple[int, int] | None = None,
        tf32: bool = False,
        cudnn_benchmark: bool = False,
        fused_attention: bool = True,
        allowances: Allowances = NO_ALLOWANCES,
        device: torch.device = CUDA,
    ) -> None:
        self._subject, self._gpu, self._device = subject, gpu, device
        self.flops: dict[int, int] = {}
        """Floating-point operations of one step at each size that was run."""
        self._rules: dict[str, Any] = {"tf32": tf32, "cudnn_benchmark": cudnn_benchmark, "allowances": allowances}
        self._version = torch_version or running_version()
        self._attention = Attention(gpu.compute_capability) if fused_attention and gpu.compute_capability else None
        self._model = build_without_memory(subject.build_model)
        self._placed = FakeModel(self._model)

    def tape(self, n: int) -> AllocationTrace:
        """Run building, batch and steps at a batch size.

        Raises:
            UnsupportedError: the step asks for a value, which fakes do not have, a module or a node has hooks on its
                backward pass, or something else beyond prediction.
            Exception: whatever the model itself raises.
        """
        recorder = self.record(n)
        self.flops[n] = recorder.flops
        return record(recorder.lives, recorder.marks)

    def record(self, n: int) -> Recorder:
        """Run the same and return the ledger that watched it."""
        engine = Engine(adds_in_place=self._version >= (2, 0))
        workspaces: WorkspaceRule = no_workspaces
        if self._device.type == "cuda":
            workspaces = Workspaces(self._gpu, self._version, lambda: engine.running > 0, **self._rules)
        with refusing(), simulated_cuda(engine, self._attention):
            modules = ModuleTracker(self._model)
            recorder = Recorder(self._device, modules, workspaces)
            recorder.attention = self._attention
            with modules.followed(), recorder.optimizers_followed(), recorder:
                self._run(recorder, n)
        return recorder

    def _run(self, recorder: Recorder, n: int) -> None:
        subject = self._subject
        recorder.enter(Phase.BUILD)
        if self._device.type == "cuda":
            _refuse_recurrent_layers(self._model)
        self._placed.place(self._device, subject.dtype)
        work = subject.workload(self._model, self._device)
        refuse_module_hooks(self._model)
        recorder.enter(Phase.BATCH)
        batch = subject.make_batch(n, self._device)
        for _ in range(STEPS):
            label(recorder, work, batch)
            recorder.mark_step()
            recorder.reset_peak()
            recorder.flops = 0
            work.step(work, batch, lambda phase: _enter(recorder, work, phase))
            _refuse_special_state(work.optimizer)
        label(recorder, work, batch)
        recorder.mark_step()


def running_version() -> tuple[int, int]:
    """Return major and minor of the torch that runs."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _refuse_recurrent_layers(model: nn.Module) -> None:
    """Refuse what cuDNN runs with a reserve whose size it tells on the card alone (cudnnGetRNNTempSpaceSizes).

    PyTorch's own shapes for `_cudnn_rnn` say 0 bytes, which is wrong (torch/_meta_registrations.py).
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase):
            raise unsupported(f"nn.{type(module).__name__}, whose memory only cuDNN on the card can tell,", name)


def _refuse_special_state(optimizer: Any) -> None:
    """Refuse optimizers whose state is in tensor subclasses, such as quantized ones, whose storages fakes lack."""
    for state in {} if optimizer is None else optimizer.state.values():
        for tensor in tensors_of(state):
            if type(tensor) not in (FakeTensor, torch.Tensor, nn.Parameter):
                name, kind = type(optimizer).__name__, type(tensor).__name__
                raise unsupported(f"optimizer {name}, whose state holds tensors of class {kind},")


def _enter(recorder: Recorder, work: Workload, phase: Phase) -> None:
    if phase is Phase.OPTIMIZER:
        label_gradients(recorder, work)
    recorder.enter(phase)
