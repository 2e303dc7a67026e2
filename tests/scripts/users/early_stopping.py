"""Train until the loss no longer falls; the losses decide about the learning rate and the end."""

import argparse
import copy
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--patience", type=int, default=2)
parser.add_argument("--max-epochs", type=int, default=30)
args = parser.parse_args()

torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
x = torch.randn(1024, 32)
y = (x[:, :1] * 2 + 0.1 * torch.randn(1024, 1)).sign()
train_loader = DataLoader(TensorDataset(x[:768], y[:768]), batch_size=args.batch_size, shuffle=True)
valid_loader = DataLoader(TensorDataset(x[768:], y[768:]), batch_size=256)
model = nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 1)).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)

best, best_state, waited = math.inf, None, 0
for epoch in range(args.max_epochs):
    model.train()
    total = 0.0
    for inputs, targets in train_loader:
        loss = nn.functional.soft_margin_loss(model(inputs.to(device)), targets.to(device))
        if loss.item() > 1e4 or math.isnan(loss.item()):
            raise SystemExit(f"diverged in epoch {epoch}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        valid = sum(nn.functional.soft_margin_loss(model(a.to(device)), b.to(device)).item() for a, b in valid_loader)
    scheduler.step(valid)
    print(f"epoch {epoch}: {total / len(train_loader):.4f}, valid {valid:.4f}, lr {optimizer.param_groups[0]['lr']:g}")
    if valid < best - 1e-3:
        best, best_state, waited = valid, copy.deepcopy(model.state_dict()), 0
    else:
        waited += 1
        if waited > args.patience:
            print("no longer better")
            break
model.load_state_dict(best_state)
torch.save(best_state, "best.pt")
