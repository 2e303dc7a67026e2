"""Train one step, then wait for another process that never comes."""

import argparse
import time
from pathlib import Path

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=32)
args = parser.parse_args()

device = "cuda" if torch.cuda.is_available() else "cpu"
model = nn.Linear(64, 1).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(10):
    while step == 1 and not Path("the-other-process-is-ready").exists():
        time.sleep(0.5)
    optimizer.zero_grad()
    model(torch.randn(args.batch_size, 64, device=device)).pow(2).mean().backward()
    optimizer.step()
    print(f"step {step}", flush=True)
