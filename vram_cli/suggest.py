"""The nearest valid word to a misspelled or outdated one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# Synonyms, including the keys of earlier versions; the first that is an option is suggested.
_SYNONYMS = {
    "lr": ("learning_rate",),
    "accumulate": ("gradient_accumulation_steps",),
    "budget": ("memory_limit",),
    "cap": ("limit_to_dataset",),
    "capacity": ("memory_limit",),
    "checkpoint": ("activation_checkpointing",),
    "checkpointing": ("activation_checkpointing",),
    "collate": ("collate_fn",),
    "in_backward": ("optimizer_in_backward",),
    "max": ("max_batch_size",),
    "target": ("factory", "function"),
    "zero_grad": ("zero_grad_set_to_none",),
    "gpu": ("cuda",),
    "rocm": ("cuda",),
    "fp16": ("amp-fp16",),
    "float16": ("amp-fp16",),
    "float32": ("fp32",),
    "training": ("train",),
    "evaluation": ("eval",),
    "inference": ("eval",),
}


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Return the option most similar to `word`, ignoring case, or None if no option is similar."""
    by_lowercase = {option.lower(): option for option in options}
    synonyms = [synonym for synonym in _SYNONYMS.get(word.lower(), ()) if synonym in by_lowercase]
    matches = synonyms or get_close_matches(word.lower(), by_lowercase)
    matches.sort(key=lambda match: sorted(match) != sorted(word.lower()))  # swapped letters are the likeliest typo
    return by_lowercase[matches[0]] if matches else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return ", did you mean X?" as the end of a message, or "" if no option is similar."""
    match = nearest(word, options)
    return f", did you mean {match}?" if match else ""
