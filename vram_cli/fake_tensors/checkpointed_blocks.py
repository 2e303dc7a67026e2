"""Blocks under `torch.utils.checkpoint` in the backward pass: their inputs live until all their nodes have run.

The inputs are saved by no node that runs, but by the block itself, which its saved tensors keep alive.
"""

from __future__ import annotations

from types import FrameType
from typing import Any

from torch.utils import checkpoint


def checkpointed_block(frame: FrameType | None) -> Any:
    """Return the block (_CheckpointFrame) whose inputs the code of a frame unpacks; None if it unpacks none."""
    if frame is None or frame.f_code.co_filename != checkpoint.__file__:
        return None
    while frame is not None and frame.f_code.co_filename == checkpoint.__file__:
        for name in ("frame", "self"):
            if hasattr(block := frame.f_locals.get(name), "weak_holders"):
                return block
        frame = frame.f_back
    return None


def has_gone_back(block: Any, pass_id: int) -> bool:
    """Return whether each tensor that the block has computed again in a backward pass has been taken."""
    holders = (holder() for holder in block.weak_holders)
    return all(holder is None or holder.handles.get(pass_id) is None for holder in holders)
