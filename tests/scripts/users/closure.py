"""Fit a physics-informed network with LBFGS, whose steps evaluate the loss several times."""

import argparse

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--points", type=int, default=256)
parser.add_argument("--steps", type=int, default=5)
args = parser.parse_args()

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
model = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)).to(device)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe")
points = torch.linspace(0, 3, args.points, device=device).unsqueeze(1)
targets = torch.exp(-points) * torch.cos(4 * points)


def closure():
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(points), targets)
    loss.backward()
    return loss


for step in range(args.steps):
    loss = optimizer.step(closure)
    print(f"step {step}: {loss.item():.5f}")
