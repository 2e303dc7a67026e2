"""Sizes that kernels of the GPU refuse: fake tensors run no kernel, so the limits are listed, with their sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

_MOST_ELEMENTS = 2**31 - 1
"""canUse32BitIndexMath (ATen/native/CanUse32BitIndexMath.cpp)."""
_MOST_BLOCKS = 65_535
"""The largest y and z dimensions of a grid (technical specifications in the CUDA C++ Programming Guide)."""


class KernelLimitError(RuntimeError):
    """A kernel refuses the size."""


def check_kernel_limits(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Check the arguments of an operation.

    Raises:
        KernelLimitError: its kernel would refuse them; the message is PyTorch's.
    """
    if (check := _CHECKS.get(name)) is not None and (message := check(args, kwargs)):
        raise KernelLimitError(message)


def _efficient_attention(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the refusal of _scaled_dot_product_efficient_attention_cuda (transformers/cuda/attention.cu)."""
    dropout = args[5] if len(args) > 5 else kwargs.get("dropout_p", 0.0)
    if not dropout or args[0].shape[0] <= _MOST_BLOCKS:
        return ""
    text = "Efficient attention cannot produce valid seed and offset outputs when the batch size exceeds"
    return f"{text} ({_MOST_BLOCKS})."


def _padding(args: Sequence[Any], _: Mapping[str, Any]) -> str:
    """Return the refusal of reflection and replication padding (cuda/ReflectionPad.cu, cuda/ReplicationPadding.cu)."""
    sizes = [arg.numel() for arg in args if isinstance(arg, torch.Tensor)]
    return "input tensor must fit into 32-bit index math" if max(sizes) > _MOST_ELEMENTS else ""


def _fractional_pool(args: Sequence[Any], _: Mapping[str, Any]) -> str:
    """Return the refusal of a grid with a row of blocks for each sample (cuda/FractionalMaxPool2d.cu)."""
    images = args[0]
    too_many = images.dim() == 4 and images.shape[0] > _MOST_BLOCKS
    return "CUDA error: invalid configuration argument" if too_many else ""


_CHECKS: dict[str, Callable[[Sequence[Any], Mapping[str, Any]], str]] = {
    "aten._scaled_dot_product_efficient_attention": _efficient_attention,
    "aten.fractional_max_pool2d": _fractional_pool,
    **{
        f"aten.{mode}_pad{dims}d{suffix}": _padding
        for mode in ("reflection", "replication")
        for dims in (1, 2, 3)
        for suffix in ("", "_backward")
    },
}
