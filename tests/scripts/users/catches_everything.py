"""Train on whatever happens: failed steps are skipped, and a file says how the run ended."""

import argparse
import atexit
import traceback
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=32)
args = parser.parse_args()

device = "cuda" if torch.cuda.is_available() else "cpu"
data = TensorDataset(torch.randn(2048, 256), torch.randint(0, 4, (2048,)))
loader = DataLoader(data, batch_size=args.batch_size, shuffle=True)
model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 4)).to(device)
optimizer = torch.optim.Adam(model.parameters())

status, failed = "interrupted", 0
atexit.register(lambda: Path("atexit.txt").write_text(f"{status}\n"))
try:
    for x, y in loader:
        try:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
            loss.backward()
            optimizer.step()
        except Exception:
            traceback.print_exc()
            failed += 1
            if device == "cuda":
                torch.cuda.empty_cache()
            continue
    status = "finished"
except BaseException as error:
    status = f"died of {type(error).__name__}"
    torch.save(model.state_dict(), "emergency.pt")
finally:
    Path("status.txt").write_text(f"{status}, {failed} failed steps\n")
    print(status)
