"""The exceptions of a script, as its user would see them: without the frames of vram."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from types import FrameType, TracebackType

_VRAM = os.fspath(Path(__file__).resolve().parents[2])


def of_the_script(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames by which vram and Python start the script."""
    start = trace
    while trace is not None:
        if _is_outside(trace.tb_frame):
            return trace
        trace = trace.tb_next
    return start


def stack_of_the_script(error: Exception) -> str:
    """Return the stack at an exception that no frame of the script has seen yet, as the traceback that it would be."""
    frames = [(frame, line) for frame, line in traceback.walk_stack(sys._getframe(1)) if _is_outside(frame)]
    stack = traceback.StackSummary.extract(iter(frames[::-1]))
    return f"Traceback (most recent call last):\n{''.join(stack.format())}{type(error).__name__}: {error}\n"


def _is_outside(frame: FrameType) -> bool:
    """Return whether a frame is neither of vram nor of Python's start of the script."""
    return not frame.f_code.co_filename.startswith(("<frozen runpy>", "<string>", _VRAM))


def is_normal(stop: BaseException) -> bool:
    """Return whether a script has ended without an error."""
    return isinstance(stop, SystemExit) and stop.code in (None, 0)


def ending(stop: BaseException) -> str:
    """Return how a script ended that raised no error of its own."""
    if not isinstance(stop, SystemExit):
        return f"it ended with {type(stop).__name__}"
    return f"it ended with exit code {stop.code}" if isinstance(stop.code, int) else f"it ended: {stop.code}"
