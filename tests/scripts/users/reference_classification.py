"""Train ResNet-18 as torchvision's reference scripts do: metric logger, warm-up, EMA, top-k, checkpoints."""

import argparse
import time
from collections import defaultdict, deque
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torchvision.datasets import FakeData
from torchvision.models import resnet18
from torchvision.transforms import v2


class SmoothedValue:
    """Track the values of a metric; show the median of a window and the mean of all."""

    def __init__(self, window=20):
        self.window, self.total, self.count = deque(maxlen=window), 0.0, 0

    def update(self, value, n=1):
        self.window.append(value)
        self.count += n
        self.total += value * n

    def __str__(self):
        return f"{torch.tensor(list(self.window)).median().item():.4f} ({self.total / self.count:.4f})"


class MetricLogger:
    def __init__(self):
        self.meters = defaultdict(SmoothedValue)

    def log_every(self, batches, frequency, header):
        start = time.time()
        for i, batch in enumerate(batches):
            yield batch
            if i % frequency == 0:
                meters = "  ".join(f"{name}: {meter}" for name, meter in self.meters.items())
                memory = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0
                print(f"{header} [{i}/{len(batches)}]  {meters}  {time.time() - start:.1f} s  max mem: {memory:.0f}")


def accuracy(output, target, top):
    with torch.inference_mode():
        _, guesses = output.topk(max(top), dim=1)
        correct = guesses.t().eq(target[None])
        return [correct[:k].flatten().sum(dtype=torch.float32) * (100.0 / len(target)) for k in top]


def train_one_epoch(model, ema, criterion, optimizer, loader, device, epoch):
    model.train()
    logger = MetricLogger()
    for image, target in logger.log_every(loader, 4, f"Epoch: [{epoch}]"):
        image, target = image.to(device), target.to(device)
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update_parameters(model)
        acc1, acc5 = accuracy(output, target, (1, 5))
        logger.meters["loss"].update(loss.item())
        logger.meters["acc1"].update(acc1.item(), n=len(image))
        logger.meters["acc5"].update(acc5.item(), n=len(image))


def evaluate(model, criterion, loader, device, header="Test:"):
    model.eval()
    logger = MetricLogger()
    with torch.inference_mode():
        for image, target in logger.log_every(loader, 4, header):
            image, target = image.to(device, non_blocking=True), target.to(device, non_blocking=True)
            output = model(image)
            logger.meters["loss"].update(criterion(output, target).item())
            logger.meters["acc1"].update(accuracy(output, target, (1,))[0].item(), n=len(image))
    print(f"{header} Acc@1 {logger.meters['acc1']}")


def main(args):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    transform = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])
    train_set = FakeData(args.samples, (3, 64, 64), 100, transform)
    test_set = FakeData(32, (3, 64, 64), 100, transform)
    train_loader = DataLoader(train_set, args.batch_size, sampler=RandomSampler(train_set), pin_memory=True)
    test_loader = DataLoader(test_set, args.batch_size, sampler=SequentialSampler(test_set), pin_memory=True)
    model = resnet18(num_classes=100).to(device)
    ema = AveragedModel(model, avg_fn=lambda mean, new, _: 0.99 * mean + 0.01 * new, use_buffers=True)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    schedulers = [LinearLR(optimizer, 0.01, total_iters=1), CosineAnnealingLR(optimizer, T_max=args.epochs)]
    scheduler = SequentialLR(optimizer, schedulers, milestones=[1])
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    for epoch in range(args.epochs):
        train_one_epoch(model, ema, criterion, optimizer, train_loader, device, epoch)
        scheduler.step()
        evaluate(model, criterion, test_loader, device)
        evaluate(ema, criterion, test_loader, device, header="Test: EMA")
        torch.save({"model": model.state_dict(), "epoch": epoch}, Path(args.output_dir) / f"model_{epoch}.pth")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("-b", "--batch-size", default=8, type=int)
    parser.add_argument("--epochs", default=1, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--samples", default=64, type=int)
    parser.add_argument("--output-dir", default="checkpoints")
    main(parser.parse_args())
