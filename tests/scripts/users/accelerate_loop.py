"""Train with Accelerate: a plain loop, gradients of two batches per step, metrics gathered from all processes."""

import argparse

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def regression(length):
    x = torch.randn(length, 32)
    return TensorDataset(x, x.sum(dim=1, keepdim=True) + 0.1 * torch.randn(length, 1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--mixed-precision", default="no", choices=["no", "fp16", "bf16"])
    parser.add_argument("--samples", type=int, default=1024)
    args = parser.parse_args()

    accelerator = Accelerator(gradient_accumulation_steps=2, mixed_precision=args.mixed_precision)
    set_seed(42)
    train_loader = DataLoader(regression(args.samples), shuffle=True, batch_size=args.batch_size)
    eval_loader = DataLoader(regression(256), batch_size=64)
    model = nn.Sequential(nn.Linear(32, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=len(train_loader))
    model, optimizer, train_loader, eval_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, eval_loader, scheduler
    )

    model.train()
    for step, (x, y) in enumerate(train_loader):
        with accelerator.accumulate(model):
            loss = F.mse_loss(model(x), y)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if step % 10 == 0:
            accelerator.print(f"step {step}: loss {loss.item():.4f}")

    model.eval()
    errors = []
    for x, y in eval_loader:
        with torch.no_grad():
            prediction = model(x)
        prediction, y = accelerator.gather_for_metrics((prediction, y))
        errors.append((prediction - y).abs().mean().item())
    accelerator.print(f"mean error {sum(errors) / len(errors):.4f}")
    accelerator.wait_for_everyone()
    accelerator.save_state("accelerate-state")


if __name__ == "__main__":
    main()
