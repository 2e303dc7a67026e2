"""Train a digit classifier on several GPUs, started by torchrun: DDP or FSDP2, and the mean loss of all ranks."""

import argparse
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler


class Digits(Dataset):
    def __init__(self, length, seed):
        generator = torch.Generator().manual_seed(seed)
        self.length = length
        self.images = torch.randn(512, 1, 28, 28, generator=generator)
        self.labels = torch.randint(0, 10, (512,), generator=generator).tolist()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.images[index % 512], self.labels[index % 512]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.conv2 = nn.Conv2d(16, 32, 3)
        self.dropout = nn.Dropout(0.25)
        self.fc1 = nn.Linear(32 * 12 * 12, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(self.dropout(torch.flatten(x, 1))))
        return self.fc2(x)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--strategy", default="ddp")
    parser.add_argument("--samples", type=int, default=4096)
    args = parser.parse_args()

    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
        device = torch.device("cuda", local_rank)
        dist.init_process_group("cpu:gloo,cuda:nccl", device_id=device)
    else:
        device = torch.device("cpu")
        dist.init_process_group("gloo")
    torch.manual_seed(rank)

    digits = Digits(args.samples, seed=0)
    sampler = DistributedSampler(digits)
    loader = DataLoader(digits, batch_size=args.batch_size, sampler=sampler)
    model = Net()
    if args.strategy == "fsdp2":
        fully_shard(model, mesh=dist.init_device_mesh(device.type, (dist.get_world_size(),)))
    else:
        model = DistributedDataParallel(model.to(device))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

    for epoch in range(2):
        sampler.set_epoch(epoch)
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        dist.all_reduce(loss)
        seen = [None] * dist.get_world_size()
        dist.all_gather_object(seen, len(sampler))
        dist.barrier()
        if rank == 0:
            print(f"epoch {epoch}: loss {loss.item() / len(seen):.3f} of {sum(seen)} samples")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
