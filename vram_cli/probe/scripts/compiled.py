"""Notice that a script compiles its model: tensors that are tracked one by one must not bypass the dispatcher."""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch

from vram_cli.user_lines import own_line, user_line


def lines_that_compile() -> list[str]:
    """Return a list to which each line of the script that calls torch.compile from now on is added."""
    lines: list[str] = []
    compile_model = torch.compile

    @functools.wraps(compile_model)
    def compile_and_note(*args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        line = own_line(frame)
        if line == user_line(frame) and line not in lines:  # packages compile for themselves
            lines.append(line)
        return compile_model(*args, **kwargs)

    torch.compile = compile_and_note
    return lines
