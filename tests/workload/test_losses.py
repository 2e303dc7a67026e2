"""Calling a model, and its loss: all supported forms, and errors that name their key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.workload.configs import HERE, config
from vram_cli.errors import ConfigError
from vram_cli.records import Phase
from vram_cli.workload import build_workload, config_key_of, open_data, supervised, train_step
from vram_cli.workload.losses import ModelLoss, call, criterion_of, loss_of

CPU = torch.device("cpu")
X, Y = torch.ones(2, 3), torch.zeros(2, 3)


class Called(nn.Module):
    """Notes what it is called with."""

    def note(self, *arguments: Any, **named: Any) -> torch.Tensor:
        self.seen: Any = arguments, named
        return torch.zeros(())


class ByName(Called):
    def forward(self, pixels: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.note(pixels=pixels, mask=mask)


class Anything(Called):
    def forward(self, **named: Any) -> torch.Tensor:
        return self.note(**named)


class InOrder(Called):
    def forward(self, *tensors: Any) -> torch.Tensor:
        return self.note(*tensors)


@pytest.mark.parametrize(
    ("model", "inputs", "seen"),
    [
        (ByName(), {"mask": Y, "pixels": X}, ((), {"pixels": X, "mask": Y})),
        (ByName(), {"pixels": X}, ((), {"pixels": X, "mask": None})),
        (ByName(), {"image": X, "other": Y}, ((), {"pixels": X, "mask": Y})),  # none of its names: in order
        (ByName(), (X, Y), ((), {"pixels": X, "mask": Y})),
        (ByName(), X, ((), {"pixels": X, "mask": None})),
        (Anything(), {"a": X, "b": Y}, ((), {"a": X, "b": Y})),
        (InOrder(), {"a": X, "b": Y}, ((X, Y), {})),
        (InOrder(), [X, Y], (([X, Y],), {})),  # a list of samples is one argument
    ],
)
def test_call_by_name_or_position(model: Called, inputs: Any, seen: Any) -> None:
    call(model, inputs, "data.inputs")
    assert model.seen == seen  # the very tensors: == of others would be ambiguous


class Compiled(nn.Module):
    """As torch.compile makes it: takes anything, and has the model within."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model

    def forward(self, *arguments: Any, **named: Any) -> Any:
        return self._orig_mod(*arguments, **named)


def test_call_compiled_model_by_name() -> None:
    model = ByName()
    call(Compiled(model), {"image": X}, "data.inputs")
    assert model.seen[1]["pixels"] is X
    with pytest.raises(ConfigError, match="the model takes no masks"):
        call(Compiled(model), {"pixels": X, "masks": Y}, "data.inputs")


def test_unknown_input_names() -> None:
    with pytest.raises(ConfigError, match=r"data\.inputs: the model takes no masks") as caught:
        call(ByName(), {"pixels": X, "masks": Y}, "data.inputs")
    assert caught.value.hint == "it takes pixels, mask"


def test_model_errors_name_the_inputs() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught:
        call(nn.Linear(5, 2), X, "data.inputs")
    assert config_key_of(caught.value) == "data.inputs, as the model is called with it"


class Output:
    loss = torch.tensor(3.0)


class Lossless:
    logits = X


class Returns(nn.Module):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_: Any) -> Any:
        return self.output


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        (torch.tensor(3.0), 3.0),
        (torch.tensor([3.0]), 3.0),
        (Output(), 3.0),
        ({"loss": torch.tensor(3.0), "logits": X}, 3.0),
        ({"boxes": torch.tensor(1.0), "classes": torch.tensor(2.0)}, 3.0),
    ],
)
def test_model_loss(output: Any, loss: float) -> None:
    assert ModelLoss("data.inputs")(Returns(output), X).item() == loss


TRAINED, ONE_ROW = torch.tensor(3.0, requires_grad=True), torch.ones(1, 1, requires_grad=True)


@pytest.mark.parametrize(
    ("output", "note"),
    [
        ((X, TRAINED), "the loss is output[1], the only number that needs a gradient"),
        ([TRAINED, X, None, torch.tensor(5.0)], "the loss is output[0], the only number that needs a gradient"),
        (
            (ONE_ROW, TRAINED),
            "the loss is output[1], the only number that needs a gradient",
        ),  # one sample, one class
        ({"scores": X, "objective": TRAINED}, "the loss is objective, the only number that needs a gradient"),
        ([TRAINED - 1, torch.tensor(1.0, requires_grad=True)], "the loss is the sum of output[0], output[1]"),
        (
            {"loss_box": TRAINED - 2, "loss_class": TRAINED - 1, "boxes": X},
            "the loss is the sum of loss_box, loss_class",
        ),
        ({"loss": [TRAINED]}, ""),
        ({"losses": {"a": TRAINED - 2, "b": TRAINED - 1}, "logits": X}, "the loss is the sum of a, b"),
        (3.0, ""),
    ],
)
def test_loss_among_the_parts_of_an_output(output: Any, note: str) -> None:
    loss = ModelLoss("data.inputs")
    assert loss(Returns(output), X).item() == 3.0
    assert loss.note == note


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (X, r"loss: model: the loss is a tensor of \[2, 3\], and must be one number"),
        (None, "the loss is a NoneType"),
        (Lossless(), "the loss is a Lossless"),
        ({"loss": None}, "the loss is a dict"),
        ({"logits": X, "state": None}, r"it returns no loss, but logits, a tensor of \[2, 3\]"),
        ({"steps": 3}, "it returns no loss, but steps, a int"),
        ((TRAINED, TRAINED + 1, X), r"any of output\[0\], output\[1\] may be the loss"),
        ({}, "the loss is a dict"),
    ],
)
def test_output_without_a_loss(output: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ModelLoss("data.inputs")(Returns(output), X)


LABELS = torch.tensor([0, 1])
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
ENTROPY = functional.cross_entropy(LOGITS, LABELS).item()


class WithLogits:
    logits = LOGITS


@pytest.mark.parametrize(
    "output", [LOGITS, WithLogits(), {"out": LOGITS, "aux": X}, {"aux": X, "logits": LOGITS}, (LOGITS, X)]
)
@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), functional.cross_entropy])
def test_library_criterion_gets_the_logits(output: Any, criterion: Callable[..., torch.Tensor]) -> None:
    assert supervised(criterion)(Returns(output), (X, LABELS)).item() == pytest.approx(ENTROPY)


def test_user_criterion_gets_the_whole_output() -> None:
    criterion = criterion_of(config(loss={"factory": HERE + "Logits"}))
    assert criterion is not None
    loss = supervised(criterion)(Returns({"out": LOGITS, "aux": LOGITS}), (X, LABELS))
    assert loss.item() == pytest.approx(2 * ENTROPY)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (None, ENTROPY),
        ("cross_entropy", ENTROPY),
        ({"factory": "torch.nn:CrossEntropyLoss", "kwargs": {"reduction": "sum"}}, 2 * ENTROPY),
        ({"factory": "torch.nn.functional:cross_entropy", "kwargs": {"reduction": "sum"}}, 2 * ENTROPY),
        ({"factory": HERE + "squares"}, (LOGITS - functional.one_hot(LABELS)).square().mean().item()),
        ({"factory": HERE + "squares", "kwargs": {"weight": 0.0}}, 0.0),
    ],
)
def test_configured_loss(loss: Any, value: float) -> None:
    chosen = config(loss=loss)
    assert loss_of(chosen, criterion_of(chosen))(Returns(LOGITS), (X, LABELS)).item() == pytest.approx(value)


@pytest.mark.parametrize(
    ("loss", "targets", "is_own"), [(None, False, True), ("model", True, True), (None, True, False)]
)
def test_default_loss(loss: Any, targets: bool, is_own: bool) -> None:
    data = {"inputs": {"x": {"shape": [4]}}, **({"targets": {"shape": []}} if targets else {})}
    assert (criterion_of(config(data=data, loss=loss)) is None) == is_own


@pytest.mark.parametrize("batch", [X, {"x": X}, (X,), (X, X, X)])
def test_loss_needs_a_pair(batch: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.factory: a loss needs \(inputs, targets\)") as caught:
        supervised(nn.CrossEntropyLoss(), data="data.factory")(Returns(LOGITS), batch)
    assert "loss: model" in caught.value.hint


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no_number", r"loss\.factory \(.*:no_number\): the loss is a tensor of \[2\]"),
        ("NUMBER", r"loss\.factory: .*:NUMBER is a int, not callable"),
    ],
)
def test_invalid_losses(target: str, words: str) -> None:
    chosen = config(loss={"factory": HERE + target})
    with pytest.raises(ConfigError, match=words):
        loss_of(chosen, criterion_of(chosen))(Returns(LOGITS), (X, LABELS))


def test_loss_errors_name_their_key() -> None:
    chosen = config(loss={"factory": HERE + "raises_in_loss"})
    with pytest.raises(KeyError) as caught:
        loss_of(chosen, criterion_of(chosen))(Returns(LOGITS), (X, LABELS))
    assert config_key_of(caught.value) == f"loss.factory ({HERE}raises_in_loss)"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "amp-bf16"])
def test_criterion_with_tensors_is_moved_but_not_trained(precision: str) -> None:
    chosen = config(loss={"factory": HERE + "Perceptual"}, precision=precision)
    work = build_workload(chosen, torch.device("cpu"))
    assert work.criterion is not None
    before = [tensor.clone() for tensor in work.criterion.state_dict().values()]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    assert {tensor.dtype for tensor in before} == {dtype}
    phases: list[Phase] = []
    train_step(work, open_data(chosen).make_batch(3, CPU, dtype), phases.append)
    assert phases[-1] is Phase.OPTIMIZER
    assert all(map(torch.equal, before, work.criterion.state_dict().values()))
