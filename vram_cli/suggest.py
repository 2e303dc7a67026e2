"""What somebody probably meant: the nearest of the words that would have been right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# Words that people use for the same thing, or nearly the same, and that look like another.
_ALSO_SAID = {
    "lr": "learning_rate",
    "accumulate": "gradient_accumulation_steps",
    "budget": "memory_limit",
    "cap": "limit_to_dataset",
    "capacity": "memory_limit",
    "checkpoint": "activation_checkpointing",
    "checkpointing": "activation_checkpointing",
    "collate": "collate_fn",
    "in_backward": "optimizer_in_backward",
    "max": "max_batch_size",
    "target": "factory",
    "zero_grad": "zero_grad_set_to_none",
    "gpu": "cuda",
    "rocm": "cuda",
    "fp16": "amp-fp16",
    "float16": "amp-fp16",
    "float32": "fp32",
}


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Return the option that looks most like `word`, capitals aside, or None where none comes near."""
    spelled = {option.lower(): option for option in options}
    same = _ALSO_SAID.get(word.lower())
    close = [same] if same in spelled else get_close_matches(word.lower(), spelled, n=1)
    return spelled[close[0]] if close else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return ", did you mean X?" to end a message with, or "" where no option comes near."""
    found = nearest(word, options)
    return f", did you mean {found}?" if found else ""
