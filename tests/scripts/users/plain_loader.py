"""Train a classifier at module level, with the batch size written where the loader is made."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"

images = torch.randn(4096, 1, 28, 28)
labels = torch.randint(0, 10, (4096,))
train_set = TensorDataset(images[:3584], labels[:3584])
valid_set = TensorDataset(images[3584:], labels[3584:])

train_loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)
valid_loader = DataLoader(valid_set, batch_size=256)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(4),
    nn.Flatten(),
    nn.Linear(512, 10),
).to(device)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=len(train_loader))

running_loss = 0.0
for i, (x, y) in enumerate(train_loader, start=1):
    x, y = x.to(device), y.to(device)
    optimizer.zero_grad()
    output = model(x)
    loss = criterion(output, y)
    loss.backward()
    optimizer.step()
    scheduler.step()
    running_loss += loss.item()
    if i % 14 == 0:
        print(f"step {i} of {len(train_loader)}: {running_loss / i:.3f}")

model.eval()
with torch.inference_mode():
    hits = sum((model(x.to(device)).argmax(1).cpu() == y).sum().item() for x, y in valid_loader)
print(f"accuracy {hits / len(valid_set):.1%}")
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "checkpoint.pth")
