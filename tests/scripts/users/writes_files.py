"""Train and keep records: old runs are deleted, a state file is rewritten, and each step leaves traces."""

import argparse
import csv
import json
import os
import shutil
import sqlite3
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=32)
args = parser.parse_args()

shutil.rmtree("cache", ignore_errors=True)
Path("old-run.log").unlink(missing_ok=True)
state_file = Path("state.json")
state = json.loads(state_file.read_text()) if state_file.exists() else {"runs": 0}
state["runs"] += 1
Path("state.json.tmp").write_text(json.dumps(state))
os.replace("state.json.tmp", state_file)
run = Path("runs") / f"{time.strftime('%H%M%S')}-{os.getpid()}"
run.mkdir(parents=True)
(run / "args.json").write_text(json.dumps(vars(args)))
os.symlink(run.resolve(), run / "self")
database = sqlite3.connect("runs.db")
database.execute("create table if not exists steps (run text, step integer, loss real)")

device = "cuda" if torch.cuda.is_available() else "cpu"
loader = DataLoader(TensorDataset(torch.randn(512, 64), torch.randn(512, 1)), batch_size=args.batch_size, shuffle=True)
model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 1)).to(device)
optimizer = torch.optim.Adam(model.parameters())
with open(run / "log.csv", "w", newline="") as file:
    log = csv.writer(file)
    for step, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()
        log.writerow([step, loss.item()])
        file.flush()
        with open("all-losses.txt", "a") as all_losses:
            all_losses.write(f"{loss.item()}\n")
        np.save(run / "last-batch.npy", x.numpy())
        database.execute("insert into steps values (?, ?, ?)", (run.name, step, loss.item()))
        database.commit()
        torch.save(model.state_dict(), run / f"step-{step}.pt")
        (run / f"step-{step - 2}.pt").unlink(missing_ok=True)
