"""Patches that make a PyTorch built without CUDA or cuDNN decide as one built with them.

The predicted training runs in a PyTorch with CUDA and cuDNN, even if the prediction does not. Parentheses name the
function of each rule in aten/src/ATen/native of pytorch/pytorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._prims_common import suggest_memory_format

from vram_cli.fake_tensors.errors import unsupported

Tensor = torch.Tensor
Operator = Callable[..., Any]

_OWN_KERNELS = ("silu_backward", "mish_backward", "_fused_rms_norm")
"""Operators with a CUDA kernel, which other builds compose of several operators, with temporaries in between: all that
are both CompositeImplicitAutograd and CUDA in native_functions.yaml."""

_RECURRENT = [f"{name}.{form}" for name in ("lstm", "gru", "rnn_tanh", "rnn_relu") for form in ("input", "data")]

_BATCH_NORM = torch.ops.aten._batch_norm_impl_index.default
_LARGEST = {True: 880_801, False: 65_535}
"""The largest batch of cuDNN's batch norm, in training (True) and in evaluation."""
_MOST_ELEMENTS = 2**31 - 1

_CUDNN = object()
"""Represents the backends Cudnn and CudnnTranspose, whose results have the same memory format."""


def operators() -> list[tuple[str, str, Operator]]:
    """Return (operator, dispatch key, replacement)."""
    entries: list[tuple[str, str, Operator]] = []
    if not torch.backends.cudnn.is_available():
        entries.append(("_batch_norm_impl_index", "AutogradCUDA", _batch_norm))
        entries += [(name, "AutogradCUDA", _refuse) for name in _RECURRENT]
    if not torch.backends.cuda.is_built():
        entries += [(name, "CUDA", _never_run) for name in _OWN_KERNELS]
    return entries


def _never_run(*_: Any, **__: Any) -> Any:
    """Register as a CUDA kernel with the dispatcher; fake tensors never run it."""
    raise RuntimeError("a kernel ran on an absent GPU")


def _refuse(*_: Any, **__: Any) -> Any:
    raise unsupported("a recurrent layer, whose memory cuDNN reports only on the GPU itself,")


def _batch_norm(  # noqa: PLR0917 - the signature is PyTorch's
    images: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Any:
    """Be the operator `aten::_batch_norm_impl_index`."""
    statistics = (mean, variance)
    if not (cudnn_enabled and _normalizes(images, weight, bias, statistics, training=training)):
        return _BATCH_NORM.decompose(images, weight, bias, mean, variance, training, momentum, eps, cudnn_enabled)
    laid_out = images.contiguous(memory_format=suggest_memory_format(images))
    rest = [tensor if tensor is None else tensor.contiguous() for tensor in (weight, bias, *statistics)]
    return *torch.ops.aten.cudnn_batch_norm.default(laid_out, *rest, training, momentum, eps), 1


def _normalizes(
    images: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: tuple[Tensor | None, Tensor | None],
    *,
    training: bool,
) -> bool:
    """Whether cuDNN's batch norm is taken (_select_batch_norm_backend in Normalization.cpp)."""
    if weight is None or bias is None or torch.bfloat16 in (images.dtype, weight.dtype):
        return False
    has_statistics = [tensor is not None for tensor in statistics]
    return (
        (images.dtype is not torch.float16 or weight.dtype is torch.float32)
        and (all(has_statistics) or (training and not any(has_statistics)))
        and images.dim() >= 3
        and images.shape[0] <= _LARGEST[training]
        and images.numel() < _MOST_ELEMENTS
    )


def replacements(*, bfloat16: bool) -> list[tuple[Any, str, Any]]:
    """Return (owner, name, replacement) for functions of torch.accelerator and of convolutions.

    Args:
        bfloat16: whether cuDNN runs convolutions in bfloat16 on the GPU, which it does since compute capability 8.0. A
            build with cuDNN asks the GPU, and assumes that it does not if there is none.
    """
    entries: list[tuple[Any, str, Any]] = []
    if not torch.backends.cuda.is_built():
        entries.append((torch.accelerator, "current_accelerator", _accelerator))
    return entries + _of_convolutions(bfloat16=bfloat16)


def _accelerator(check_available: bool = False) -> torch.device | None:
    return None if check_available else torch.device("cuda")


def _of_convolutions(*, bfloat16: bool) -> list[tuple[Any, str, Any]]:
    has_cudnn = torch.backends.cudnn.is_available()
    select, lay_out = torch._C._select_conv_backend, torch._C._conv_determine_backend_memory_format

    def select_backend(images: Tensor, weight: Tensor, *args: Any, **settings: Any) -> Any:
        backend = select(images, weight, *args, **settings)
        is_bfloat16 = torch.bfloat16 in (images.dtype, weight.dtype)
        is_answered = has_cudnn if not is_bfloat16 else not bfloat16
        return _CUDNN if not is_answered and _convolves(images, backend, settings) else backend

    def memory_format(images: Tensor, weight: Tensor, backend: Any) -> Any:
        return _suggested(images, weight) if backend is _CUDNN else lay_out(images, weight, backend)

    return [
        (torch._C, "_select_conv_backend", select_backend),
        (torch._C, "_conv_determine_backend_memory_format", memory_format),
    ]


def _convolves(images: Tensor, backend: Any, settings: dict[str, Any]) -> bool:
    """Return whether cuDNN runs a convolution (use_cudnn and use_cudnn_depthwise in Convolution.cpp).

    Other kernels for depthwise convolutions do not support channels last.
    """
    if images.device.type != "cuda" or not torch.backends.cudnn.enabled or "Empty" in str(backend):
        return False
    if "Depthwise" in str(backend):
        return True
    padding, strides = settings["output_padding"], settings["stride"]
    return all(more < stride for more, stride in zip(padding, strides, strict=True))  # is_output_padding_big


def _suggested(images: Tensor, weight: Tensor) -> torch.memory_format:
    """Return the memory format of cuDNN's results (cudnn_conv_suggest_memory_format in ConvUtils.h)."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(weight.dim())
    formats = [suggest_memory_format(tensor) for tensor in (images, weight)]
    if last in formats and torch.float64 not in (images.dtype, weight.dtype):
        return last
    return torch.contiguous_format
