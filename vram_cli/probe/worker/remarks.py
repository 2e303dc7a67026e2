"""Remarks on predictions, which an answer shows before its figures."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from vram_cli import virtual_gpu
from vram_cli.config import Config
from vram_cli.hardware.gpus import DEFAULT_GPU, Gpu
from vram_cli.workload import convolutions_use_tf32, parameter_dtype

NO_GPU = (
    f"This machine has no GPU: this is a prediction for a {DEFAULT_GPU.upper()}. For another GPU, add --gpu "
    "NAME (`vram gpus` lists them). For real steps on this computer, add --device cpu."
)
_UNKNOWN_PLANS = (
    "cudnn.benchmark is on: the kernels that cuDNN selects are known only on the GPU itself. The prediction leaves out "
    "their workspaces, and the memory that the first step briefly uses to try them."
)
LARGE_WORKSPACES = (
    "Convolutions in float32 without TensorFloat-32 may take up to 37 % more memory on the GPU: cuDNN lists its "
    "largest workspaces only there."
)
_TF32_SINCE = (8, 0)
"""Compute capability of Ampere (CUDA C++ Programming Guide, "Arithmetic Instructions")."""


def remark_on(config: Config, gpu: Gpu, model: nn.Module, *, is_virtual: bool) -> str:
    """Return what to know about a prediction before its figures; "" for nothing.

    Args:
        config: the training.
        gpu: the GPU to predict for.
        model: the model, before its parameters are converted.
        is_virtual: whether PyTorch's own CUDA code predicts, and not fake tensors.
    """
    device = config.device
    remarks = [
        "" if device.gpu else NO_GPU,
        "" if is_virtual or device.engine else _reason_for_fakes(gpu),
        _UNKNOWN_PLANS if device.cudnn_benchmark and not is_virtual else "",
        LARGE_WORKSPACES if _convolves_in_float32(config, gpu, model) else "",
    ]
    return " ".join(filter(None, remarks))


def _reason_for_fakes(gpu: Gpu) -> str:
    """Return why fake tensors predict, if PyTorch's own code cannot."""
    reason = virtual_gpu.obstacle(gpu)
    return f"Predicted with fake tensors, not by PyTorch's CUDA code: {reason}." if reason else ""


def _convolves_in_float32(config: Config, gpu: Gpu, model: nn.Module) -> bool:
    if (has_tf32(gpu) and convolutions_use_tf32()) or config.precision.startswith("amp") or parameter_dtype(config):
        return False
    return has_float32_convolutions(model)


def has_tf32(gpu: Gpu) -> bool:
    """Return whether a GPU has TensorFloat-32, as far as known."""
    return gpu.compute_capability is None or gpu.compute_capability >= _TF32_SINCE


def has_float32_convolutions(model: nn.Module) -> bool:
    """Return whether a model has convolutions with weights in float32."""
    layers = (layer for layer in model.modules() if isinstance(layer, _ConvNd))
    weights = (tensor for layer in layers for tensor in layer.parameters())  # whatever a parametrization calls them
    return any(weight.dtype is torch.float32 for weight in weights)
