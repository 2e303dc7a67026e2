"""Train a package's model: `python -m module_run --batch-size 32`."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from .model import make_model


def main():
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}")
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = TensorDataset(torch.randn(1024, 64), torch.randint(0, 8, (1024,)))
    model = make_model().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in DataLoader(data, batch_size=args.batch_size, shuffle=True):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
