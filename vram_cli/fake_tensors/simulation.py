"""Run a training on fake tensors of a GPU and return the trace of its allocations."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.accounting.storage_labels import label_gradients, label_storages
from vram_cli.allocator.allocation_trace import AllocationTrace, trace_from
from vram_cli.allocator.growth import STEPS_TO_TELL
from vram_cli.fake_tensors.attention import Attention
from vram_cli.fake_tensors.autograd_engine import Engine
from vram_cli.fake_tensors.cuda_workspaces import Workspaces, no_workspaces
from vram_cli.fake_tensors.errors import translate_fake_errors, unsupported
from vram_cli.fake_tensors.hooks import refuse_module_hooks
from vram_cli.fake_tensors.patches import simulated_cuda
from vram_cli.fake_tensors.recorder import Recorder, WorkspaceRule
from vram_cli.fake_tensors.simulated_training import SimulatedTraining
from vram_cli.hardware.calibration import NO_ALLOWANCES, Allowances
from vram_cli.hardware.gpus import Gpu
from vram_cli.records import Phase
from vram_cli.workload import Workload, data_dtype, tensors_of
from vram_cli.workload.model_without_memory import ModelWithoutValues, build_without_memory

CUDA = torch.device("cuda:0")
STEPS = 2
"""The first step creates the optimizer state; the second is like all later ones, unless memory grows."""
USUAL_STEPS = 3
"""Steps of a trial by default."""


class Simulation:
    """Runs a training on fake tensors of a GPU.

    Args:
        training: the model, its data and its step.
        gpu: the GPU, which decides the kernels that run and the workspaces that they allocate.
        torch_version: the PyTorch version whose workspace rules apply; by default, the installed one.
        tf32: whether float32 convolutions may run as TensorFloat-32.
        cudnn_benchmark: whether cuDNN tries its plans before it chooses one.
        fused_attention: whether the fused attention kernels may be selected.
        allowances: a calibration's allowances for workspaces beyond the known ones.
        device: the device of the fake tensors; "cpu" runs the CPU operations, for comparison with real steps.
        steps: steps of a trial. More than usual are all simulated: something may happen in a later one alone.
    """

    def __init__(
        self,
        training: SimulatedTraining,
        gpu: Gpu,
        *,
        torch_version: tuple[int, int] | None = None,
        tf32: bool = False,
        cudnn_benchmark: bool = False,
        fused_attention: bool = True,
        allowances: Allowances = NO_ALLOWANCES,
        device: torch.device = CUDA,
        steps: int = USUAL_STEPS,
    ) -> None:
        self._training, self._gpu, self._device, self._steps = training, gpu, device, steps
        self.flops: dict[int, int] = {}
        """Floating-point operations of one step, by batch size."""
        self.notes: tuple[str, ...] = ()
        """Remarks on the training, once a step has run."""
        self._rules: dict[str, Any] = {"tf32": tf32, "cudnn_benchmark": cudnn_benchmark, "allowances": allowances}
        self._version = torch_version or running_version()
        self._attention = Attention(gpu.compute_capability) if fused_attention and gpu.compute_capability else None
        self.model = build_without_memory(training.build_model)
        self._fake_model = ModelWithoutValues(self.model)

    def trace(self, n: int) -> AllocationTrace:
        """Simulate building the model, a batch of `n` samples and `STEPS` steps; more if memory may grow.

        Raises:
            UnsupportedError: the step reads a value, which fake tensors do not have, has backward hooks on a module or
                a node, or does something else that cannot be predicted.
            Exception: whatever the model itself raises.
        """
        trace = self._trace(n, STEPS if self._steps <= USUAL_STEPS else self._steps)
        return trace if trace.repeats else self._trace(n, max(self._steps, STEPS_TO_TELL))

    def _trace(self, n: int, steps: int) -> AllocationTrace:
        recorder = self.run(n, steps)
        self.flops[n] = recorder.flops
        return trace_from(recorder.records, recorder.markers)

    def run(self, n: int, steps: int = STEPS) -> Recorder:
        """Run a simulation and return its storage tracker."""
        engine = Engine(adds_in_place=self._version >= (2, 0))
        workspaces: WorkspaceRule = no_workspaces
        if self._device.type == "cuda":
            workspaces = Workspaces(self._gpu, self._version, lambda: engine.running > 0, **self._rules)
        with translate_fake_errors(), simulated_cuda(engine, self._attention, self._gpu.compute_capability or (0, 0)):
            modules = ModuleTracker(self.model)
            recorder = Recorder(self._device, modules, workspaces)
            recorder.attention = self._attention
            with modules.tracking(), recorder.tracking_optimizers(), recorder:
                self._train(recorder, n, steps)
        return recorder

    def _train(self, recorder: Recorder, n: int, steps: int) -> None:
        training = self._training
        recorder.enter_phase(Phase.BUILD)
        if self._device.type == "cuda":
            _refuse_recurrent_layers(self.model)
        self._fake_model.to(self._device, training.dtype)
        work = training.workload(self.model, self._device)
        refuse_module_hooks(self.model)
        recorder.enter_phase(Phase.BATCH)
        batch = training.make_batch(n, self._device, data_dtype(self.model))
        for _ in range(steps):
            label_storages(recorder, work, batch)
            recorder.mark_step()
            recorder.reset_peak()
            recorder.flops = 0
            work.step(work, batch, lambda phase: _enter_phase(recorder, work, phase))
            for optimizer in work.optimizers:
                _refuse_special_state(optimizer)
        label_storages(recorder, work, batch)
        recorder.mark_step()
        self.notes = work.notes


def running_version() -> tuple[int, int]:
    """Return the major and minor version of the installed PyTorch."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _refuse_recurrent_layers(model: nn.Module) -> None:
    """Refuse layers whose reserve size cuDNN reports only on the GPU itself (cudnnGetRNNTempSpaceSizes).

    PyTorch's own shapes for `_cudnn_rnn` say 0 bytes, which is wrong (torch/_meta_registrations.py).
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase):
            raise unsupported(f"nn.{type(module).__name__}, whose memory cuDNN reports only on the GPU itself,", name)


def _refuse_special_state(optimizer: Any) -> None:
    """Refuse optimizers whose state is in tensor subclasses, such as quantized ones, whose storages fakes lack."""
    for state in optimizer.state.values():
        for tensor in tensors_of(state):
            if type(tensor) not in (FakeTensor, torch.Tensor, nn.Parameter):
                name, kind = type(optimizer).__name__, type(tensor).__name__
                raise unsupported(f"optimizer {name}, whose state holds tensors of class {kind},")


def _enter_phase(recorder: Recorder, work: Workload, phase: Phase) -> None:
    if phase is Phase.OPTIMIZER:
        label_gradients(recorder, work)
    recorder.enter_phase(phase)
