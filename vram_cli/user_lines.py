"""Lines of the user's code, in a stack or a traceback: those outside PyTorch, Python's own modules and vram."""

from __future__ import annotations

import os
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from types import FrameType, TracebackType


def _folders() -> tuple[str, ...]:
    torch = find_spec("torch")
    pytorch = [Path(torch.origin).parent] if torch and torch.origin else []
    return tuple(f"{folder}{os.sep}" for folder in (*pytorch, sysconfig.get_path("stdlib"), Path(__file__).parent))


_OTHERS = _folders()
_PACKAGES = f"{os.sep}site-packages{os.sep}"
_INSTALLED = (_PACKAGES, f"{os.sep}dist-packages{os.sep}", f"{os.sep}bin{os.sep}")


def user_line(frame: FrameType | None) -> str:
    """Return "file:line" of the innermost frame of the user's code, at or above a frame; "" if there is none."""
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return f"{short_name(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def own_line(frame: FrameType | None) -> str:
    """Return "file:line" of the innermost frame outside all packages, at or above a frame.

    A command such as `accelerate launch` has none until it runs the user's file; then it is the package's line.
    """
    line, start = "", frame
    while frame is not None and not line:
        file = frame.f_code.co_filename
        if is_users(file) and not any(folder in file for folder in _INSTALLED):
            line = f"{short_name(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return line or user_line(start)


def user_line_in(traceback: TracebackType | None) -> tuple[str, str]:
    """Return "file:line" of the innermost frame of the user's code, and the function that it called; "" if unknown."""
    line, called = "", ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if is_users(code.co_filename):
            line, called = f"{short_name(code.co_filename)}:{traceback.tb_lineno}", ""
        elif line and not called:
            called = f"{traceback.tb_frame.f_globals.get('__name__', '')}.{code.co_name}".lstrip(".")
        traceback = traceback.tb_next
    return line, called


def is_users(file: str) -> bool:
    """Return whether a file is the user's code, or that of a package which is not PyTorch."""
    is_package = _PACKAGES in file
    return not file.startswith("<") and not any(
        file.startswith(folder) for folder in (_OTHERS if not is_package else _OTHERS[:1])
    )


def short_name(file: str) -> str:
    """Return the path inside its package, or the name of the user's own file."""
    return file.rpartition(_PACKAGES)[2] if _PACKAGES in file else Path(file).name
