"""The loss in what a model or a step returns: a number, or an output of which a part is the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vram_cli.errors import ConfigError
from vram_cli.workload.batches import parts_of

_MEAN = "take its mean, for example"
_NO_LOSS = "give it its targets too (such as labels among data.inputs), or name a loss.factory"
_ONE = "return it alone, or as `loss` of a dict"


def loss_in(output: Any, key: str, hint: str = "") -> tuple[torch.Tensor, str]:
    """Return the loss in an output, and a sentence on the part of it that was taken; "" if there is no choice.

    It is the output itself; its `loss`; the sum of its numbers, if it has nothing else or their names say "loss", as
    those of detection models; or the one number in it that needs a gradient, as in (logits, loss).

    Raises:
        ConfigError: none of these is a single number; `key` names the code that returned it.
    """
    if _is_number(output):
        return torch.as_tensor(output), ""
    parts = _parts(output)
    for name in ("loss", "losses"):
        if name in parts:
            return loss_in(parts[name], key, hint)
    numbers = _candidates(parts)
    if len(numbers) == 1:
        ((name, number),) = numbers.items()
        needs = " that needs a gradient" if number.requires_grad else ""
        return number, f"the loss is {name}, the only number{needs}" if len(parts) > 1 else ""
    if numbers and (len(numbers) == len(parts) or all("loss" in name for name in numbers)):
        return torch.as_tensor(sum(numbers.values())), f"the loss is the sum of {', '.join(numbers)}"
    raise _no_loss(output, parts, numbers, key, hint)


def _parts(output: Any) -> dict[str, Any]:
    """Return the parts of an output by name, without those that are None; {} if it has none."""
    if (loss := getattr(output, "loss", None)) is not None:
        return {"loss": loss}
    parts = (parts_of(output) or {}).items()
    return {f"output[{key}]" if isinstance(key, int) else str(key): part for key, part in parts if part is not None}


def _candidates(parts: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the numbers that may be a loss: those that need a gradient, if any do, and of these those without sizes.

    A batch of one sample has outputs of one element too.
    """
    numbers = {name: torch.as_tensor(part) for name, part in parts.items() if _is_number(part)}
    numbers = {name: number for name, number in numbers.items() if number.requires_grad} or numbers
    return {name: number for name, number in numbers.items() if not number.dim()} or numbers


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and value.is_floating_point()
    return isinstance(value, float)


def _no_loss(
    output: Any, parts: dict[str, Any], numbers: Mapping[str, torch.Tensor], key: str, hint: str
) -> ConfigError:
    if numbers:
        return ConfigError(f"{key}: any of {', '.join(numbers)} may be the loss", hint or _ONE)
    if parts:
        name, part = next(iter(parts.items()))
        return ConfigError(f"{key}: it returns no loss, but {name}, {_summarize(part)}", hint or _NO_LOSS)
    return ConfigError(f"{key}: the loss is {_summarize(output)}, and must be one number", hint or _MEAN)


def _summarize(value: Any) -> str:
    return f"a tensor of {list(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
