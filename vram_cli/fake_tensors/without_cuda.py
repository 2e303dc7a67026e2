"""What PyTorch decides by whether it was built with CUDA and cuDNN, decided as if it had been.

The training that is predicted runs in a PyTorch that has them, whatever the one that predicts. Brackets name the rule's
function in aten/src/ATen/native of pytorch/pytorch.
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
"""Operators that CUDA has kernels for, and that are made of others where there is none: with temporaries between them.
They are all such in native_functions.yaml: CompositeImplicitAutograd beside CUDA."""

_RECURRENT = [f"{name}.{form}" for name in ("lstm", "gru", "rnn_tanh", "rnn_relu") for form in ("input", "data")]

_BATCH_NORM = torch.ops.aten._batch_norm_impl_index.default
_LARGEST = {True: 880_801, False: 65_535}
"""Samples that cuDNN's batch norm takes, in training and without."""
_MOST_ELEMENTS = 2**31 - 1

_CUDNN = object()
"""Stands for the backends Cudnn and CudnnTranspose, which lay out their results alike."""


def operators() -> list[tuple[str, str, Operator]]:
    """Return (operator, dispatch key, what stands there meanwhile)."""
    found: list[tuple[str, str, Operator]] = []
    if not torch.backends.cudnn.is_available():
        found.append(("_batch_norm_impl_index", "AutogradCUDA", _batch_norm))
        found += [(name, "AutogradCUDA", _refuse) for name in _RECURRENT]
    if not torch.backends.cuda.is_built():
        found += [(name, "CUDA", _never_run) for name in _OWN_KERNELS]
    return found


def _never_run(*_: Any, **__: Any) -> Any:
    """Be a kernel of CUDA, for the dispatcher to see that there is one: fakes run none."""
    raise RuntimeError("a kernel was run on a GPU that is not there")


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
    known = [tensor is not None for tensor in statistics]
    return (
        (images.dtype is not torch.float16 or weight.dtype is torch.float32)
        and (all(known) or (training and not any(known)))
        and images.dim() >= 3
        and images.shape[0] <= _LARGEST[training]
        and images.numel() < _MOST_ELEMENTS
    )


def replacements() -> list[tuple[Any, str, Any]]:
    """Return (owner, name, what stands there meanwhile): what programs ask for, and fakes of a convolution."""
    found: list[tuple[Any, str, Any]] = []
    if not torch.backends.cuda.is_built():
        found.append((torch.accelerator, "current_accelerator", _accelerator))
    return found if torch.backends.cudnn.is_available() else found + _of_convolutions()


def _accelerator(check_available: bool = False) -> torch.device | None:
    return None if check_available else torch.device("cuda")


def _of_convolutions() -> list[tuple[Any, str, Any]]:
    select, lay_out = torch._C._select_conv_backend, torch._C._conv_determine_backend_memory_format

    def select_backend(images: Tensor, weight: Tensor, *args: Any, **settings: Any) -> Any:
        backend = select(images, weight, *args, **settings)
        return _CUDNN if _convolves(images, weight, backend, settings) else backend

    def memory_format(images: Tensor, weight: Tensor, backend: Any) -> Any:
        return _suggested(images, weight) if backend is _CUDNN else lay_out(images, weight, backend)

    return [
        (torch._C, "_select_conv_backend", select_backend),
        (torch._C, "_conv_determine_backend_memory_format", memory_format),
    ]


def _convolves(images: Tensor, weight: Tensor, backend: Any, settings: dict[str, Any]) -> bool:
    """Whether cuDNN takes a convolution (use_cudnn and use_cudnn_depthwise in Convolution.cpp).

    Other kernels for depthwise ones take no channels last. A build with cuDNN asks the GPU whether it takes bfloat16,
    and says no where there is none: so it is here.
    """
    if images.device.type != "cuda" or not torch.backends.cudnn.enabled or "Empty" in str(backend):
        return False
    if "Depthwise" in str(backend):
        return True
    if torch.bfloat16 in (images.dtype, weight.dtype):
        return False
    padding, strides = settings["output_padding"], settings["stride"]
    return all(more < stride for more, stride in zip(padding, strides, strict=True))  # is_output_padding_big


def _suggested(images: Tensor, weight: Tensor) -> torch.memory_format:
    """Return how cuDNN lays out what it returns (cudnn_conv_suggest_memory_format in ConvUtils.h)."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(weight.dim())
    formats = [suggest_memory_format(tensor) for tensor in (images, weight)]
    if last in formats and torch.float64 not in (images.dtype, weight.dtype):
        return last
    return torch.contiguous_format
