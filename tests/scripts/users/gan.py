"""Train a small GAN: two networks, two optimizers, and three backward passes per step."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--latent", type=int, default=32)
parser.add_argument("--samples", type=int, default=512)
args = parser.parse_args()

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
images = TensorDataset(torch.rand(args.samples, 1, 28, 28) * 2 - 1)
loader = DataLoader(images, batch_size=args.batch_size, shuffle=True, drop_last=True)

generator = nn.Sequential(
    nn.ConvTranspose2d(args.latent, 64, 7),
    nn.BatchNorm2d(64),
    nn.ReLU(True),
    nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(True),
    nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),
    nn.Tanh(),
).to(device)
discriminator = nn.Sequential(
    nn.Conv2d(1, 32, 4, stride=2, padding=1),
    nn.LeakyReLU(0.2, inplace=True),
    nn.Conv2d(32, 64, 4, stride=2, padding=1),
    nn.LeakyReLU(0.2, inplace=True),
    nn.Flatten(),
    nn.Linear(64 * 7 * 7, 1),
).to(device)

criterion = nn.BCEWithLogitsLoss()
optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
fixed_noise = torch.randn(16, args.latent, 1, 1, device=device)

for i, (real,) in enumerate(loader):
    real = real.to(device)
    ones = torch.ones(len(real), 1, device=device)
    zeros = torch.zeros(len(real), 1, device=device)

    discriminator.zero_grad()
    loss_real = criterion(discriminator(real), ones)
    loss_real.backward()
    fake = generator(torch.randn(len(real), args.latent, 1, 1, device=device))
    loss_fake = criterion(discriminator(fake.detach()), zeros)
    loss_fake.backward()
    optimizer_d.step()

    generator.zero_grad()
    loss_g = criterion(discriminator(fake), ones)
    loss_g.backward()
    optimizer_g.step()
    if i % 5 == 0:
        print(f"{i}: loss D {loss_real.item() + loss_fake.item():.3f}, loss G {loss_g.item():.3f}")

with torch.no_grad():
    torch.save(generator(fixed_noise).cpu(), "samples.pt")
