"""User code that the configs of tests name: models, losses, data, steps and optimizers."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

NUMBER = 3


def linear(width: int = 4) -> nn.Module:
    return nn.Linear(width, 2)


def no_model() -> str:
    return "a model"


def raises(**_: Any) -> nn.Module:
    raise ValueError("no such width: 3")


def leaves() -> nn.Module:
    sys.exit("bye")


class SlottedError(Exception):
    __slots__ = ()
    vram_key = property(lambda self: "")


def raises_what_cannot_be_marked() -> nn.Module:
    raise SlottedError("slots")


class ReadsValues(nn.Module):
    """Reads tensor values in its constructor, as many models do for rates that rise from layer to layer."""

    def __init__(self) -> None:
        super().__init__()
        widths = [*torch.linspace(4, 6, 3).int().tolist(), 2]
        rates = torch.linspace(0, 0.5, 3).numpy()
        layers = zip(widths, widths[1:], rates, strict=False)
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.Dropout(float(rate))) for a, b, rate in layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class WantsChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for tensor in (images, self.layer.weight):
            if not tensor.is_contiguous(memory_format=torch.channels_last):
                raise ValueError("channels come first")
        return self.layer(images).mean((2, 3))


class Detector(nn.Module):
    """Returns losses in training and boxes in evaluation, as torchvision's detection models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        boxes = self.layer(x)
        return {"loss": boxes.mean()} if self.training else {"boxes": boxes}


# Losses


def squares(output: torch.Tensor, targets: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
    return weight * (output - functional.one_hot(targets, 2)).square().mean()


def no_number(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return output.sum(1)


def raises_in_loss(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    raise KeyError("aux")


class Perceptual(nn.Module):
    """Compares by the features of a frozen network."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.look = nn.Linear(2, width).requires_grad_(False)
        self.register_buffer("scale", torch.ones(width))

    def forward(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        wanted = functional.one_hot(targets, 2).to(output.dtype)
        return ((self.look(output) - self.look(wanted)) * self.scale).square().mean()


class Logits(nn.Module):
    """A user's criterion that takes the whole output."""

    def forward(self, output: Any, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(output["out"], targets) + functional.cross_entropy(output["aux"], targets)


# Data


def batch(n: int, width: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(n, width), torch.zeros(n, dtype=torch.int64)


def batch_from_a_loader(batch_size: int) -> list[torch.Tensor]:
    return list(batch(batch_size))


def too_few(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return batch(min(n, 4))


def no_tensors(n: int) -> list[str]:
    return ["text"] * n


def of_random_length(n: int) -> torch.Tensor:
    return torch.zeros(n, {1: 3, 2: 17, 3: 23}.get(n, 11))


def ragged(n: int) -> list[torch.Tensor]:
    return [torch.zeros(i + 1, 4) for i in range(n)]


def pairs_only(batch_size: int) -> torch.Tensor:
    if batch_size % 2:
        raise ValueError("these are pairs")
    return torch.zeros(batch_size, 4)


def two_views(n: int) -> torch.Tensor:
    return torch.zeros(2 * n, 4)


def words_first(n: int) -> torch.Tensor:
    return torch.zeros(7, n, 4)


def graphs(n: int) -> dict[str, torch.Tensor]:
    """Graph i has i + 1 nodes; they are concatenated, and indexed."""
    index = torch.arange(n).repeat_interleave(torch.arange(n) + 1)
    return {"x": torch.zeros(len(index), 4), "batch": index}


def on_meta(n: int) -> torch.Tensor:
    return torch.zeros(n, 4, device="meta")


def on_gpu(n: int) -> torch.Tensor:
    return torch.zeros(n, 4, device="cuda")


def pinned(n: int) -> torch.Tensor:
    return torch.zeros(n, 4).pin_memory()


def splits() -> dict[str, Dataset[Any]]:
    return {"train": dataset(), "test": dataset()}


def records() -> list[dict[str, Any]]:
    return [{"x": torch.zeros(2), "names": f"name {i}"} for i in range(5)]


def raises_in_data(n: int) -> torch.Tensor:
    raise OSError("no such file: images.tar")


def whole_set(size: int = 10) -> tuple[torch.Tensor, ...]:
    return torch.zeros(size, 4), torch.zeros(size, dtype=torch.int64)


def dataset(length: int = 10) -> Dataset[Any]:
    return TensorDataset(*whole_set(length))


class Sentences(Dataset[Any]):
    """Sample i has i % 7 + 1 words, but the longest sample is in the middle."""

    def __init__(self, length: int = 20, longest: int = 50) -> None:
        self.lengths = [i % 7 + 1 for i in range(length)]
        if length:
            self.lengths[length // 2] = longest

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> list[int]:
        return [1] * self.lengths[i]


def padded(samples: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, samples))
    return {"words": torch.tensor([sample + [0] * (longest - len(sample)) for sample in samples])}


class Broken(Sentences):
    def __getitem__(self, i: int) -> list[int]:
        raise LookupError(f"no file for sample {i}")


class WithNone(Sentences):
    def __getitem__(self, i: int) -> Any:
        return torch.zeros(4), None


class Ragged(Sentences):
    """Only the longest sample differs."""

    def __getitem__(self, i: int) -> Any:
        return torch.zeros(2 if i == len(self) // 2 else 1, 4)


class Nested(Dataset[Any]):
    """Two inputs, a target and a name per sample."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Any:
        return (torch.zeros(3), torch.zeros(5)), torch.tensor(0), f"name {i}"


class Texts(Dataset[Any]):
    """Texts of different lengths, each with its label; or images of one size, each with its name."""

    def __init__(self, *, images: bool = False) -> None:
        self.images = images

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> Any:
        return ("x" * (i + 1), torch.zeros(4) if self.images else torch.tensor(0))


def longest(samples: list[Any]) -> torch.Tensor:
    return torch.zeros(len(samples), max(len(text) for text, _ in samples))


DATASET = dataset(7)

# Steps


def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    inputs, targets = batch
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.step()
    return loss


def step_without_loss(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> None:
    step(model, batch, optimizer)


def step_that_raises(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    raise RuntimeError("the step is broken")


class Point(nn.Module):
    """One point in space: its loss is half its mean squared distance from samples."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.place - x).square().sum(1).mean() / 2


def point(width: int) -> nn.Module:
    return Point(width)


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


class Blobs(torch.utils.data.Dataset[Any]):
    """Two separable classes."""

    def __len__(self) -> int:
        return 200

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        noise = torch.randn(4, generator=torch.Generator().manual_seed(i))
        return noise + (2.0 if i % 2 else -2.0), i % 2


class Line(Blobs):
    """Numbers to regress on others."""

    def __getitem__(self, i: int) -> tuple[torch.Tensor, Any]:
        features, _ = super().__getitem__(i)
        return features, features[:2] * 0.5


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 32), nn.Dropout(0.5), nn.Linear(32, 2))


def deep() -> nn.Module:
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(6)), nn.Linear(4, 2))


def chain(layers: int = 8, width: int = 1000) -> nn.Module:
    return nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))


def encoder_layer(width: int = 16) -> nn.Module:
    return nn.TransformerEncoderLayer(width, 2, 4 * width, batch_first=True)


def over_words(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(output.flatten(0, 1), targets.flatten())


def of_m_samples(m: int) -> torch.Tensor:
    return torch.zeros(m, 4)


# Optimizers


class SignDescent(torch.optim.Optimizer):
    """Steps by the sign of a momentum; one tensor of state per parameter."""

    def __init__(self, params: Any, lr: float = 1.0, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["momentum"])
                parameter.sub_(average.sign(), alpha=group["lr"])


class ModalSignDescent(SignDescent):
    """Refuses to step outside train mode, as schedule-free optimizers do."""

    is_training = False

    def train(self) -> None:
        self.is_training = True

    def step(self, closure: Any = None) -> None:
        if not self.is_training:
            raise RuntimeError("not in train mode")
        super().step()


def sign_descent_without_lr(parameters: Any) -> torch.optim.Optimizer:
    return SignDescent(parameters, lr=0.5)


def no_optimizer(parameters: Any, lr: float) -> str:
    return "an optimizer"


class BrokenStep(SignDescent):
    def step(self, closure: Any = None) -> None:
        raise RuntimeError("no kernel for this step")


class Quantized(torch.Tensor):
    """A tensor subclass around another tensor, as quantized optimizer states are."""

    @staticmethod
    def __new__(cls, codes: torch.Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32, device=codes.device)

    def __init__(self, codes: torch.Tensor) -> None:
        self.codes = codes

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["codes"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], *_: Any) -> Quantized:
        return Quantized(inner["codes"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError(func)


class SubclassState(SignDescent):
    """Keeps a copy of its state in 8 bits, made by a compiled function."""

    def step(self, closure: Any = None) -> None:
        super().step()
        for state in self.state.values():
            state.setdefault("codes", Quantized(torch.compile(to_int8, fullgraph=True)(state["average"])))


def to_int8(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.int8)


def two_dtypes() -> nn.Module:
    """A base in bfloat16, an adapter in float32, a complex buffer and one of int8, as a factory may make them."""
    model = nn.ModuleDict({"base": nn.Linear(4, 4, dtype=torch.bfloat16), "adapter": nn.Linear(4, 2).double()})
    model.register_buffer("phases", torch.ones(2, dtype=torch.complex64))
    model.register_buffer("codes", torch.ones(2, dtype=torch.int8))
    return model
