"""Train a digit classifier with Lightning: sanity check, logging, the best checkpoint."""

import argparse
import os

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def digits(length):
    generator = torch.Generator().manual_seed(length)
    images = torch.randn(length, 1, 28, 28, generator=generator)
    return TensorDataset(images, torch.randint(0, 10, (length,), generator=generator))


class DigitsData(L.LightningDataModule):
    def __init__(self, batch_size, samples):
        super().__init__()
        self.batch_size, self.samples = batch_size, samples

    def setup(self, stage):
        self.train_set, self.valid_set = digits(self.samples), digits(512)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.valid_set, batch_size=128)


class LitDigits(L.LightningModule):
    def __init__(self, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(512, 10),
        )

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.cross_entropy(logits, y))
        self.log("val_acc", (logits.argmax(1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--precision", default="32-true")
    args = parser.parse_args()
    L.seed_everything(1)
    trainer = L.Trainer(
        max_epochs=1,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        precision=args.precision,
        log_every_n_steps=4,
        gradient_clip_val=1.0,
        callbacks=[ModelCheckpoint(monitor="val_loss"), LearningRateMonitor()],
    )
    trainer.fit(LitDigits(), datamodule=DigitsData(args.batch_size, args.samples))


if __name__ == "__main__":
    main()
