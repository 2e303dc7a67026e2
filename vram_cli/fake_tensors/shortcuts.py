"""The outputs of operations, where PyTorch's own for fake tensors take long, or other memory than those of its kernels.

PyTorch derives those of cuDNN's batch norm by two decompositions of some twenty operations
(torch/_decomp/decompositions.py), which take a quarter of the time of a simulated ResNet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor


def _forward(images: Tensor, weight: Tensor, *more: Any) -> Any:
    """Return output, mean, inverse deviation and reserve (cudnn/BatchNorm.cpp: cudnn_batch_norm).

    The reserve has no bytes here: cuDNN reports its size only on the GPU itself.
    """
    _bias, _mean, _variance, training, *_ = more
    if not training:
        return torch.ops.aten.cudnn_batch_norm.default(images, weight, *more)
    channels = images.shape[1]
    statistics = weight.new_empty(channels), weight.new_empty(channels)
    return torch.empty_like(images), *statistics, images.new_empty(0, dtype=torch.uint8)


def _backward(images: Tensor, grad: Tensor, weight: Tensor, *_: Any) -> Any:  # noqa: ARG001 - PyTorch's order
    """Return the gradients of input, weight and bias (cudnn/BatchNorm.cpp: cudnn_batch_norm_backward)."""
    return torch.empty_like(images), torch.empty_like(weight), torch.empty_like(weight)


def _native_backward(*args: Any) -> Any:
    """Return the gradients that the mask asks for (batch_norm_backward in Normalization.cu and Normalization.cpp).

    PyTorch's decomposition returns that of the input although it was not asked for, as in a first layer.
    """
    *_, mask = args
    results = torch.ops.aten.native_batch_norm_backward.default(*args)
    return tuple(result if wanted else None for result, wanted in zip(results, mask, strict=True))


def _reduced_loss(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the loss in a storage that has room for all elements.

    The kernel's output is first given the size of all elements, and then resized to none (TORCH_META_FUNC(mse_loss) in
    BinaryOps.cpp and TORCH_META_FUNC(smooth_l1_loss) in Loss.cpp).
    """

    def loss(output: Tensor, target: Tensor, reduction: int = 1, *more: Any) -> Tensor:
        if not reduction:
            return operation(output, target, reduction, *more)
        sizes = torch.broadcast_shapes(output.shape, target.shape)
        return output.new_empty(sizes, dtype=torch.result_type(output, target)).resize_(())

    return loss


SHORTCUTS: dict[str, Callable[..., Any]] = {
    "aten.cudnn_batch_norm": _forward,
    "aten.cudnn_batch_norm_backward": _backward,
    "aten.native_batch_norm_backward": _native_backward,
    "aten.mse_loss": _reduced_loss(torch.ops.aten.mse_loss.default),
    "aten.smooth_l1_loss": _reduced_loss(torch.ops.aten.smooth_l1_loss.default),
}
"""Operation -> a function that allocates the same outputs."""
