"""Train beside three helpers: a forked heartbeat, a command, and a spawned process that takes the losses."""

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def heartbeat():
    """Fork a child that lives until its parent ends it, and return its id."""
    pid = os.fork()
    if pid == 0:
        while os.getppid() != 1:
            time.sleep(0.2)
        os._exit(0)
    return pid


def collect(queue):
    """Take losses from the queue until None comes."""
    losses = list(iter(queue.get, None))
    print(f"the collector has seen {len(losses)} losses", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    pid = heartbeat()
    version = subprocess.run([sys.executable, "--version"], capture_output=True, text=True, check=True).stdout
    print(f"trained by {version.strip()}")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    collector = context.Process(target=collect, args=(queue,))
    collector.start()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = TensorDataset(torch.randn(512, 128), torch.randint(0, 10, (512,)))
    loader = DataLoader(data, batch_size=args.batch_size, shuffle=True)
    model = nn.Sequential(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 10)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()
        queue.put(loss.item())

    queue.put(None)
    collector.join()
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
