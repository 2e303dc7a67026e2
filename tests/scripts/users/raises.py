"""Train with a check of the labels, which the second batch does not pass."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def check(labels, classes):
    if int(labels.max()) >= classes:
        raise ValueError(f"label {int(labels.max())} of a data set with {classes} classes")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    labels = torch.randint(0, 10, (1024,))
    labels[args.batch_size : 2 * args.batch_size] = 255  # "ignore", from a segmentation data set
    loader = DataLoader(TensorDataset(torch.randn(1024, 64), labels), batch_size=args.batch_size)
    model = nn.Linear(64, 10).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        check(y, classes=10)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x.to(device)), y.to(device)).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
