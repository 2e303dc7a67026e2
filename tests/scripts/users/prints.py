"""Train and talk: a question, bars, tables, bytes, colours, warnings, a command's output, and long lines."""

import argparse
import logging
import os
import subprocess
import sys
import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=32)
args = parser.parse_args()

logging.basicConfig(stream=sys.stderr, level=logging.INFO)
print("Continue? [y/n] ", end="")
answer = sys.stdin.readline().strip()
if answer.lower() == "n":
    sys.exit("stopped by the user")
rest = sys.stdin.read()
print(f"answer {answer!r}, {len(rest)} more characters on stdin")

device = "cuda" if torch.cuda.is_available() else "cpu"
loader = DataLoader(TensorDataset(torch.randn(640, 64), torch.randn(640, 1)), batch_size=args.batch_size, shuffle=True)
model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 1)).to(device)
optimizer = torch.optim.Adam(model.parameters())
print(model)
os.write(1, b"straight to the descriptor\n")
sys.stdout.buffer.write(b"not UTF-8: \xff\xfe\n")
subprocess.run(["echo", "from a command"], check=False)
warnings.warn("this model is deprecated", stacklevel=1)
for step, (x, y) in enumerate(loader):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x.to(device)), y.to(device))
    loss.backward()
    optimizer.step()
    done = 30 * (step + 1) // len(loader)
    sys.stderr.write(f"\r\033[32m{'#' * done:<30}\033[0m loss {loss.item():.3f}")
    logging.info("step %d: loss %.3f", step, loss.item())
    print(f"step {step}: " + " ".join(f"{value:.5f}" for value in torch.randn(2000).tolist()))
sys.stderr.write("\n")
