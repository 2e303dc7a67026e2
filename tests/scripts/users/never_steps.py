"""Compute the loss of a model over a data set; nothing is trained."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=64)
args = parser.parse_args()

device = "cuda" if torch.cuda.is_available() else "cpu"
data = TensorDataset(torch.randn(1024, 64), torch.randint(0, 10, (1024,)))
model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)).to(device)
total = 0.0
for x, y in DataLoader(data, batch_size=args.batch_size):
    loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
    loss.backward()
    total += loss.item() * len(x)
    model.zero_grad()
print(f"mean loss {total / len(data):.4f}")
