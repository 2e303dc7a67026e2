"""Train with few labelled and many unlabelled images: each step takes a batch of both (FixMatch)."""

import argparse
from itertools import cycle

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=8)
parser.add_argument("--mu", type=int, default=4, help="unlabelled images per labelled one")
parser.add_argument("--threshold", type=float, default=0.3)
args = parser.parse_args()

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
labelled = TensorDataset(torch.randn(256, 3, 32, 32), torch.randint(0, 10, (256,)))
unlabelled = TensorDataset(torch.randn(1024, 3, 32, 32))
labelled_loader = DataLoader(labelled, sampler=RandomSampler(labelled), batch_size=args.batch_size, drop_last=True)
unlabelled_loader = DataLoader(unlabelled, shuffle=True, batch_size=args.batch_size * args.mu, drop_last=True)
test_loader = DataLoader(labelled, batch_size=128)

model = nn.Sequential(
    nn.Conv2d(3, 32, 3, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1),
    nn.BatchNorm2d(64),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(2),
    nn.Flatten(),
    nn.Linear(256, 10),
).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, nesterov=True)

for step, ((x, y), (u,)) in enumerate(zip(cycle(labelled_loader), unlabelled_loader)):
    x, y, u = x.to(device), y.to(device), u.to(device)
    strong = u.flip(-1) + 0.1 * torch.randn_like(u)
    logits, weak, strong = model(torch.cat([x, u, strong])).split([len(x), len(u), len(u)])
    confidence, guess = weak.detach().softmax(dim=-1).max(dim=-1)
    loss = F.cross_entropy(logits, y)
    loss = loss + (F.cross_entropy(strong, guess, reduction="none") * (confidence > args.threshold)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 8 == 0:
        print(f"step {step}: loss {loss.item():.3f}")

model.eval()
with torch.no_grad():
    print(sum((model(x.to(device)).argmax(1).cpu() == y).sum().item() for x, y in test_loader), "of", len(labelled))
