"""Train a small GPT on a stream of bytes, in the style of nanoGPT: globals, get_batch, no DataLoader.

Run it with other settings as `python nanogpt.py --batch_size=32 --max_iters=100`.
"""

import math
import sys
from ast import literal_eval
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

batch_size = 12
block_size = 64
gradient_accumulation_steps = 2
n_layer, n_head, n_embd = 2, 4, 64
learning_rate, weight_decay, grad_clip = 1e-3, 0.1, 1.0
warmup_iters, max_iters = 2, 6
eval_interval, eval_iters = 5, 2
device = "cuda" if torch.cuda.is_available() else "cpu"
for argument in sys.argv[1:]:
    key, value = argument.removeprefix("--").split("=")
    globals()[key] = type(globals()[key])(value) if isinstance(globals()[key], str) else literal_eval(value)

torch.manual_seed(1337)
context = torch.autocast("cuda", dtype=torch.bfloat16) if device == "cuda" else nullcontext()
data = {split: np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint16) for split in ("train", "val")}


def get_batch(split):
    starts = torch.randint(len(data[split]) - block_size, (batch_size,))
    x = torch.stack([torch.from_numpy(data[split][i : i + block_size].astype(np.int64)) for i in starts])
    y = torch.stack([torch.from_numpy(data[split][i + 1 : i + 1 + block_size].astype(np.int64)) for i in starts])
    if device == "cuda":
        return x.pin_memory().to(device, non_blocking=True), y.pin_memory().to(device, non_blocking=True)
    return x, y


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.qkv, self.proj = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(b, t, 3, n_head, c // n_head).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c)
        x = x + self.proj(y)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(256, n_embd), nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList(Block() for _ in range(n_layer))
        self.ln_f, self.head = nn.LayerNorm(n_embd), nn.Linear(n_embd, 256, bias=False)
        self.wte.weight = self.head.weight

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.ln_f(x))
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


@torch.no_grad()
def estimate_loss(model):
    model.eval()
    with context:
        means = {s: sum(model(*get_batch(s))[1].item() for _ in range(eval_iters)) / eval_iters for s in data}
    model.train()
    return means


model = GPT().to(device)
decayed = [p for p in model.parameters() if p.dim() >= 2]
others = [p for p in model.parameters() if p.dim() < 2]
groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=device == "cuda")
x, y = get_batch("train")
best = math.inf
for iteration in range(max_iters + 1):
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * min(1.0, (iteration + 1) / warmup_iters)
    if iteration % eval_interval == 0:
        losses = estimate_loss(model)
        print(f"step {iteration}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
        if iteration > 0 and losses["val"] < best:
            best = losses["val"]
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "ckpt.pt")
    for _ in range(gradient_accumulation_steps):
        with context:
            _, loss = model(x, y)
            loss = loss / gradient_accumulation_steps
        x, y = get_batch("train")
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
print(f"last loss {loss.item() * gradient_accumulation_steps:.4f}")
