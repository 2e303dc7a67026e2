"""Select the CUDA kernel for scaled dot product attention, and call its operator.

The rules are those of aten/src/ATen/native/transformers/cuda/sdp_utils.cpp and ../attention.cpp in pytorch/pytorch;
brackets name the function. Without a GPU, PyTorch would always use the math formula, which saves a matrix of (batch,
heads, queries, keys).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.backends import cuda
from torch.nn import functional

_HALF = (torch.float16, torch.bfloat16)
_OPERATOR = torch.ops.aten.scaled_dot_product_attention.default
_ENABLED: dict[str, Callable[[], bool]] = {
    "cudnn": cuda.cudnn_sdp_enabled,
    "flash": cuda.flash_sdp_enabled,
    "efficient": cuda.mem_efficient_sdp_enabled,
}


@dataclass(frozen=True)
class Attention:
    """Kernel selection for a compute capability (check_prefer_cudnn_attention, priority_order)."""

    capability: tuple[int, int]

    def choose(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> str:
        """Return "cudnn", "flash", "efficient" or "math" (select_sdp_backend).

        Raises:
            RuntimeError: no enabled kernel (torch.nn.attention.sdpa_kernel) supports the call; PyTorch's message.
        """
        if query.dim() == key.dim() == value.dim() == 4:
            call = _Call(query, key, value, self.capability, **options)
            prefers_cudnn = self.capability[0] in (9, 10)
            order = ("cudnn", "flash", "efficient") if prefers_cudnn else ("flash", "efficient", "cudnn")
            usable = {"cudnn": call.cudnn, "flash": call.flash, "efficient": call.efficient}
            for name in order:
                if _ENABLED[name]() and usable[name]():
                    return name
        if not cuda.math_sdp_enabled():
            raise RuntimeError("No available kernel. Aborting execution.")
        return "math"

    def __call__(  # noqa: PLR0917 - the signature is PyTorch's
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        """Stand for the operator `aten::scaled_dot_product_attention`, after autocast has cast its arguments."""
        kernel = self.choose(query, key, value, mask=attn_mask, dropout=dropout_p, causal=is_causal, gqa=enable_gqa)
        if kernel == "math":
            result: torch.Tensor = _OPERATOR.decompose(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
            return result
        if kernel == "flash":
            return _flash((query, key, value), dropout_p, is_causal, scale)
        bias = _bias(attn_mask, query, key)
        saves_statistics = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
        operation: Callable[..., Any] = (
            torch.ops.aten._scaled_dot_product_cudnn_attention
            if kernel == "cudnn"
            else torch.ops.aten._scaled_dot_product_efficient_attention
        )
        tensors = (query, *(_repeat(tensor, query) for tensor in (key, value)))
        output: torch.Tensor = operation(*tensors, bias, saves_statistics, dropout_p, is_causal, scale=scale)[0]
        return output


@dataclass(frozen=True)
class _Call:
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    capability: tuple[int, int]
    mask: torch.Tensor | None = None
    dropout: float = 0.0
    causal: bool = False
    gqa: bool = False

    def flash(self) -> bool:
        """can_use_flash_attention."""
        width = self.query.shape[-1]
        return (
            self.mask is None
            and self.capability >= (8, 0)
            and self.query.dtype in _HALF
            and self._same_heads()
            and width == self.key.shape[-1] == self.value.shape[-1]
            and width <= 256
            and not (self.causal and self.query.shape[-2] != self.key.shape[-2])
            and self._flash_trains(width)
            and self._dense(ignore_single=True)
        )

    def efficient(self) -> bool:
        """can_use_mem_efficient_attention."""
        if self.query.dtype not in (torch.float16, torch.float32) and not (
            self.query.dtype is torch.bfloat16 and self.capability >= (8, 0)
        ):
            return False
        alignment = self._gemm_alignment()
        widths = (self.query.shape[-1], self.value.shape[-1])
        return (
            self.query.shape[-1] == self.key.shape[-1]
            and all(width % alignment == 0 for width in widths)
            and self._same_heads()
            and self._dense(ignore_single=False)
        )

    def cudnn(self) -> bool:
        """can_use_cudnn_attention."""
        half = _HALF if self.capability >= (8, 0) else (torch.float16,)
        widths = (self.query.shape[-1], self.value.shape[-1])
        return (
            self.capability >= (8, 0)
            and self.query.dtype in half
            and max(widths) <= 128
            and all(width % 8 == 0 for width in widths)
            and self.dropout * 16 == int(self.dropout * 16)
            and self.key.shape[-2] != 1
            and max(self.query.shape[:2]) <= 65535
            and self._same_heads()
            and self._dense(ignore_single=True)
        )

    def _same_heads(self) -> bool:
        q, k, v = (tensor.shape for tensor in (self.query, self.key, self.value))
        if not q[0] == k[0] == v[0]:
            return False
        return k[1] == v[1] and q[1] % k[1] == 0 if self.gqa else q[1] == k[1] == v[1]

    def _dense(self, *, ignore_single: bool) -> bool:
        tensors = [self.query, self.key, self.value]
        if any(tensor.shape[-2] == 0 for tensor in tensors):
            return False
        mask_ok = self.mask is None or self.mask.stride(-1) == 1
        return mask_ok and all(
            tensor.stride(-1) == 1 or (ignore_single and tensor.shape[-1] == 1) for tensor in tensors
        )

    def _flash_trains(self, width: int) -> bool:
        """check_requires_grad_and_head_dim_gt192_constraints_on_sm86_89_or_120."""
        if self.capability not in ((8, 6), (8, 7), (8, 8), (8, 9), (12, 0), (12, 1)):
            return True
        if not any(tensor.requires_grad for tensor in (self.query, self.key, self.value)):
            return True
        return width <= 192 or (self.dropout == 0 and width > 224)

    def _gemm_alignment(self) -> int:
        """minimum_gemm_alignment."""
        half = self.query.dtype in _HALF
        tensor_cores = self.capability >= (8, 0) or (self.capability >= (7, 0) and half)
        smallest = 4 if self.capability >= (8, 0) else 1
        return max(smallest, 128 // (16 if half else 32)) if tensor_cores else smallest


def _flash(tensors: tuple[torch.Tensor, ...], dropout: float, causal: bool, scale: float | None) -> torch.Tensor:
    """Pad heads to a multiple of 8, as the kernel requires, and slice the result (pad_last_dim)."""
    width = tensors[0].shape[-1]
    scale = width**-0.5 if scale is None else scale
    if width % 8:
        tensors = tuple(functional.pad(tensor, (0, 8 - width % 8)) for tensor in tensors)
    flash = torch.ops.aten._scaled_dot_product_flash_attention
    output: torch.Tensor = flash(*tensors, dropout, causal, False, scale=scale)[0]
    return output[..., :width]


def _bias(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor | None:
    """Turn a mask into an additive bias, with rows padded to a multiple of 16 (preprocess_mask)."""
    if mask is None:
        return None
    if mask.dtype is torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask.logical_not(), float("-inf"))
    length = mask.shape[-1]
    if length % 16:
        mask = functional.pad(mask, (0, 16 - length % 16))[..., :length]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


def _repeat(tensor: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Repeat keys or values that several query heads share (enable_gqa)."""
    times = query.shape[1] // tensor.shape[1]
    return tensor if times == 1 else tensor.repeat_interleave(times, dim=1)
