"""A small transformer that tags each word of a sentence."""

import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self, vocabulary: int, width: int, tags: int):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width, padding_idx=0)
        self.mix = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True)
        self.head = nn.Linear(width, tags)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(self.embed(words)))
