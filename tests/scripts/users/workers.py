"""Train from worker processes that stay between epochs, with a collate function and an init function of our own."""

import argparse
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info


class Crops(Dataset):
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        assert get_worker_info() is not None, "meant for worker processes"
        image = np.random.default_rng(index).random((3, 40, 40), dtype=np.float32)
        top, left = random.randrange(8), random.randrange(8)
        return {"image": image[:, top : top + 32, left : left + 32], "label": index % 10, "name": f"{index:06d}.jpg"}


def collate(samples):
    images = torch.from_numpy(np.stack([sample["image"] for sample in samples]))
    labels = torch.tensor([sample["label"] for sample in samples])
    return {"image": images, "label": labels, "names": [sample["name"] for sample in samples]}


def seed_worker(worker_id):
    random.seed(torch.initial_seed() % 2**32 + worker_id)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--samples", type=int, default=256)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loader = DataLoader(
        Crops(args.samples),
        batch_size=args.batch_size,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        prefetch_factor=2,
        collate_fn=collate,
        worker_init_fn=seed_worker,
        pin_memory=device.type == "cuda",
    )
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(128, 10),
    ).to(device)  # fmt: skip
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    for epoch in range(args.epochs):
        for batch in loader:
            images = batch["image"].to(device, non_blocking=True)
            labels = batch["label"].to(device, non_blocking=True)
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}, last file {batch['names'][-1]}")


if __name__ == "__main__":
    main()
