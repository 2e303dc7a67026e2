"""Models and steps of `trainings.py` that no library has under one name."""

from __future__ import annotations

import torch
from torch import nn


class Recurrent(nn.Module):
    """An embedding, a recurrent network of PyTorch's, and a classifier of its last output."""

    def __init__(self, kind: str, width: int = 512, layers: int = 2, *, both_ways: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20_000, width)
        made = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind]
        self.recurrent = made(width, width, layers, batch_first=True, dropout=0.2, bidirectional=both_ways)
        self.classifier = nn.Linear(width * (2 if both_ways else 1), 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (N, 10) logits of (N, L) tokens."""
        output, _ = self.recurrent(self.embedding(tokens))
        logits: torch.Tensor = self.classifier(output[:, -1])
        return logits


class Volumes(nn.Module):
    """A small U-Net of volumes: strided and transposed convolutions of three dimensions, with instance norm."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.top = self._block(1, width)
        self.down = nn.Conv3d(width, 2 * width, 2, stride=2)
        self.bottom = self._block(2 * width, 2 * width)
        self.up = nn.ConvTranspose3d(2 * width, width, 2, stride=2)
        self.out = nn.Conv3d(2 * width, 4, 1)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Return (N, 4, D, H, W) logits of a (N, 1, D, H, W) volume."""
        top = self.top(volume)
        up = self.up(self.bottom(self.down(top)))
        logits: torch.Tensor = self.out(torch.cat([top, up], dim=1))
        return logits

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, padding=1),
            nn.InstanceNorm3d(outputs, affine=True),
            nn.LeakyReLU(),
            nn.Conv3d(outputs, outputs, 3, padding=1),
            nn.InstanceNorm3d(outputs, affine=True),
            nn.LeakyReLU(),
        )


class Waves(nn.Module):
    """Dilated convolutions of one dimension, with group norm."""

    def __init__(self, width: int = 128, layers: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, width, 9, padding=4)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv1d(width, width, 3, padding=2**i, dilation=2**i), nn.GroupNorm(8, width), nn.GELU())
            for i in range(layers)
        )
        self.classifier = nn.Linear(width, 35)

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        """Return (N, 35) logits of (N, 1, T) waves."""
        hidden = self.first(waves)
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        logits: torch.Tensor = self.classifier(hidden.mean(dim=2))
        return logits


class Encoder(nn.Module):
    """PyTorch's own transformer encoder."""

    def __init__(self, width: int = 512, layers: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20_000, width)
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.classifier = nn.Linear(width, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (N, 10) logits of (N, L) tokens."""
        logits: torch.Tensor = self.classifier(self.encoder(self.embedding(tokens)).mean(dim=1))
        return logits


class Attention(nn.Module):
    """Layers of nothing but projections and `scaled_dot_product_attention`."""

    def __init__(self, width: int = 1024, heads: int = 16, layers: int = 4, *, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.inputs = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.outputs = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return (N, L, width) for (N, L, width)."""
        n, length, width = hidden.shape
        for inputs, outputs in zip(self.inputs, self.outputs, strict=True):
            parts = inputs(hidden).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=self.causal)
            hidden = hidden + outputs(mixed.transpose(1, 2).reshape(n, length, width))
        return hidden


class Recommender(nn.Module):
    """Bags of embeddings, as in models of recommendation."""

    def __init__(self, rows: int = 1_000_000, width: int = 64) -> None:
        super().__init__()
        self.bags = nn.EmbeddingBag(rows, width, mode="mean")
        self.layers = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 2))

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Return (N, 2) logits of (N, L) items."""
        logits: torch.Tensor = self.layers(self.bags(items))
        return logits


def squares(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean of the squares of an output; the target is not read."""
    del target
    return output.float().pow(2).mean()


def lora_llama(layers: int = 4, width: int = 1024) -> nn.Module:
    """Return a Llama-like model in bfloat16 with peft's LoRA on all its projections."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 128,
        vocab_size=32_000,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    adapters = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted: nn.Module = get_peft_model(model, adapters)
    return adapted
