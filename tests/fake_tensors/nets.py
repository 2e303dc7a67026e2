"""A small ConvNet, a tiny transformer and custom steps, which test configs name as users name their own code."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(self.norm1(self.conv1(images)), inplace=True)
        return functional.relu(images + self.drop(self.norm2(self.conv2(hidden))))


class ConvNet(nn.Module):
    def __init__(self, channels: int = 8, blocks: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(channels, dropout) for _ in range(blocks)))
        self.head = nn.Linear(channels, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


class Layer(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, words: torch.Tensor, *, causal: bool = False) -> torch.Tensor:
        n, length, width = words.shape
        qkv = self.qkv(self.norm1(words)).view(n, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*qkv, is_causal=causal)
        words = words + self.drop(self.out(attended.transpose(1, 2).reshape(n, length, width)))
        return words + self.drop(self.mlp(self.norm2(words)))


class Transformer(nn.Module):
    """Predicts the next word; its head shares the embedding's weight."""

    def __init__(self, vocabulary: int = 50, width: int = 16, layers: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, dropout) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, words: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.embed(words)
        for layer in self.layers:
            hidden = layer(hidden, causal=True)
        scores = self.head(self.norm(hidden))
        return {"loss": functional.cross_entropy(scores.flatten(0, 1), labels.flatten()), "scores": scores}


def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Two backward passes, the second with half the loss; gradients are clipped."""
    optimizer.zero_grad()
    for share in (1.0, 0.5):
        if isinstance(batch, tuple):
            loss = functional.cross_entropy(model(batch[0]), batch[1])
        else:
            loss = model(**batch)["loss"]
        (share * loss).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


def scaled_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Mixed precision as in PyTorch's examples."""
    images, targets = batch
    scaler = torch.amp.GradScaler(images.device.type, init_scale=1.0)
    optimizer.zero_grad()
    with torch.autocast(images.device.type, dtype=torch.float16):
        loss = functional.cross_entropy(model(images), targets)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    return loss


def logging_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Reads its loss after the optimizer step."""
    loss = step(model, batch, optimizer)
    assert loss.item() > 0
    return loss
