"""The data sets that a YAML file may name: what a batch of them looks like, without a download."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataPreset:
    """What is known of a data set before any file of it is read."""

    shape: tuple[int, int, int]
    """Channels, height and width of one image."""
    classes: int
    mean: tuple[float, ...]
    """Per channel, of pixels in 0..1; images are normalised with it."""
    std: tuple[float, ...]
    """Per channel, as `mean`."""
    num_samples: int
    """Length of the training set."""

    @property
    def mode(self) -> str:
        """ "gray" or "colour"."""
        return "gray" if self.shape[0] == 1 else "colour"


# MNIST's mean and deviation are those of PyTorch's own MNIST example, Fashion-MNIST's are taken over its training set
# in the same way; 0.5 and 0.5 for CIFAR-10 bring pixels to -1..1, as in PyTorch's CIFAR-10 tutorial.
DATA_PRESETS: dict[str, DataPreset] = {
    "mnist": DataPreset(shape=(1, 28, 28), classes=10, mean=(0.1307,), std=(0.3081,), num_samples=60_000),
    "fashion_mnist": DataPreset(shape=(1, 28, 28), classes=10, mean=(0.2860,), std=(0.3530,), num_samples=60_000),
    "cifar10": DataPreset(shape=(3, 32, 32), classes=10, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), num_samples=50_000),
}
