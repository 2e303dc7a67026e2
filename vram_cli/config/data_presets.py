"""The named data sets: the shape of their batches, known without a download."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataPreset:
    """The facts about a data set that need none of its files."""

    shape: tuple[int, int, int]
    """Channels, height and width of one image."""
    classes: int
    """Number of classes."""
    mean: tuple[float, ...]
    """Mean per channel, of pixels in 0..1; images are normalized with it."""
    std: tuple[float, ...]
    """Standard deviation per channel, as `mean`."""
    num_samples: int
    """Length of the training set."""
    names: tuple[str, ...]
    """Names of the classes, in the order of their labels."""

    @property
    def mode(self) -> str:
        """ "gray" or "colour"."""
        return "gray" if self.shape[0] == 1 else "colour"


# MNIST's mean and standard deviation are those of PyTorch's own MNIST example; Fashion-MNIST's are computed over its
# training set in the same way; 0.5 and 0.5 for CIFAR-10 bring pixels to -1..1, as in PyTorch's CIFAR-10 tutorial.
# Names of classes are those of the data sets' own pages (github.com/zalandoresearch/fashion-mnist,
# cs.toronto.edu/~kriz/cifar.html).
_GRAY = (1, 28, 28)
_HALF = (0.5, 0.5, 0.5)
_FASHION_MNIST = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

DATA_PRESETS: dict[str, DataPreset] = {
    "mnist": DataPreset(
        shape=_GRAY, classes=10, mean=(0.1307,), std=(0.3081,), num_samples=60_000, names=tuple("0123456789")
    ),
    "fashion_mnist": DataPreset(
        shape=_GRAY, classes=10, mean=(0.2860,), std=(0.3530,), num_samples=60_000, names=_FASHION_MNIST
    ),
    "cifar10": DataPreset(shape=(3, 32, 32), classes=10, mean=_HALF, std=_HALF, num_samples=50_000, names=_CIFAR10),
}
