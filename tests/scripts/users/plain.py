"""Train a digit classifier: two data loaders, one training loop, one test, one checkpoint per epoch."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Digits(Dataset):
    """Gray images of 28x28 with the statistics of MNIST; 512 different ones."""

    def __init__(self, length, seed):
        generator = torch.Generator().manual_seed(seed)
        self.length = length
        self.images = torch.randint(0, 256, (512, 28, 28), dtype=torch.uint8, generator=generator)
        self.labels = torch.randint(0, 10, (512,), generator=generator).tolist()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        image = self.images[index % 512].unsqueeze(0).float() / 255
        return (image - 0.1307) / 0.3081, self.labels[index % 512]


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


def train(model, loader, optimizer, device, args):
    model.train()
    for step, (images, labels) in enumerate(loader):
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        if not torch.isfinite(loss):
            raise SystemExit(f"loss is {loss.item()} at step {step}")
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % args.log_interval == 0:
            print(f"[{step * len(images)}/{len(loader.dataset)}] loss {loss.item():.4f}")


@torch.no_grad()
def test(model, loader, device):
    model.eval()
    loss, correct = 0.0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(dim=1) == labels).sum().item()
    print(f"test: loss {loss / len(loader.dataset):.4f}, {correct} of {len(loader.dataset)} correct")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--test-batch-size", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--log-interval", type=int, default=4)
    args = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_loader = DataLoader(Digits(args.samples, seed=0), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(Digits(2000, seed=1), batch_size=args.test_batch_size)
    model = Net().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    for _ in range(args.epochs):
        train(model, train_loader, optimizer, device, args)
        test(model, test_loader, device)
        torch.save(model.state_dict(), "digits.pt")


if __name__ == "__main__":
    main()
