"""A training step for tagging, with label smoothing and gradient clipping."""

import torch
from torch.nn import functional


def step(model, batch, optimizer):
    words, tags = batch
    optimizer.zero_grad()
    scores = model(words)
    loss = functional.cross_entropy(scores.flatten(0, 1), tags.flatten(), ignore_index=-100, label_smoothing=0.1)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss
