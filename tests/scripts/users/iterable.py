"""Train from a stream of samples that has no length, read by two workers, each with its share."""

import argparse
import itertools

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Stream(IterableDataset):
    def __iter__(self):
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for i in itertools.count(first, step):
            generator = torch.Generator().manual_seed(i)
            yield torch.randn(128, generator=generator), i % 10


parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--steps", type=int, default=20)
args = parser.parse_args()

device = "cuda" if torch.cuda.is_available() else "cpu"
loader = DataLoader(Stream(), batch_size=args.batch_size, num_workers=2)
model = nn.Sequential(nn.Linear(128, 1024), nn.ReLU(), nn.Linear(1024, 10)).to(device)
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
for step, (x, y) in enumerate(itertools.islice(loader, args.steps)):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
    loss.backward()
    optimizer.step()
    if step % 5 == 0:
        print(f"step {step}: loss {loss.item():.3f}")
