"""Small models that exercise the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import register_multi_grad_hook
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Encoder(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.embed(images.flatten(1, 2))).mean(1))


class UNet(nn.Module):
    """Skip connections joined by cat, transposed convolutions, interpolation, in-place ReLU, group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = self._block(3, 8)
        self.down2 = self._block(8, 16)
        self.middle = self._block(16, 32)
        self.up2 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.join2 = self._block(32, 16)
        self.join1 = self._block(24, 8)
        self.head = nn.Linear(8, 10)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU(inplace=True))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.down1(images)
        second = self.down2(functional.max_pool2d(first, 2))
        deep = self.middle(functional.max_pool2d(second, 2))
        joined = self.join2(torch.cat([self.up2(deep), second], 1))
        upped = functional.interpolate(joined, scale_factor=2, mode="bilinear")
        return self.head(self.join1(torch.cat([upped, first], 1)).mean((2, 3)))


class Shared(nn.Module):
    """One weight that two layers share, and that is also used in a plain matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(192, 192), nn.Linear(192, 192)
        self.second.weight = self.first.weight
        self.head = nn.Linear(192, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.second(torch.relu(self.first(images.flatten(1))))
        return self.head(hidden @ self.first.weight + hidden)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 16, 1), nn.Tanh()) for _ in range(3)
        )
        self.head = nn.Linear(16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.stem(images)
        for block in self.blocks:
            hidden = hidden + checkpoint(block, hidden, use_reentrant=self.reentrant)
        return self.head(hidden.mean((2, 3)))


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(192, 64), nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(Square.apply(self.layer(images.flatten(1))))


class InPlace(nn.Module):
    """In-place writes to views, broadcasting, and one value used many times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(192, 64), nn.Parameter(torch.ones(64))
        self.head = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.layer(images.flatten(1))
        hidden = hidden.clone()
        hidden[:, :32] *= 2
        hidden[:, 32:].add_(1)
        hidden = hidden * self.scale + hidden + hidden.sigmoid() + self.scale
        return self.head(functional.silu(hidden, inplace=True) + hidden)


class Hooked(nn.Module):
    """Hooks on the gradients of parameters, of non-leaf activations, and of several tensors together."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.middle, self.head = nn.Linear(192, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.layer.weight.register_hook(lambda grad: grad * 0.5)
        self.head.weight.register_hook(lambda _: None)
        self.middle.weight.register_post_accumulate_grad_hook(self._double)
        self.tensors: list[torch.Tensor] = []

    @staticmethod
    def _double(weight: torch.Tensor) -> None:
        weight.grad.mul_(2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.layer(images.flatten(1))
        second = self.middle(first.relu())
        first.register_hook(lambda grad: grad.clamp(-1, 1))
        second.register_hook(lambda grad: grad + 1).remove()
        second.retain_grad()
        self.tensors = [second]
        register_multi_grad_hook([first, second], lambda grads: self.tensors.append(grads[0]))
        return self.head(second + first)


def vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(8, 4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "encoder": Encoder,
    "vit": vit,
    "unet": UNet,
    "shared": Shared,
    "checkpoint": lambda: Checkpointed(reentrant=False),
    "reentrant": lambda: Checkpointed(reentrant=True),
    "custom": Custom,
    "in_place": InPlace,
    "hooked": Hooked,
}
