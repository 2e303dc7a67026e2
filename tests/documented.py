"""The commands that README.md and docs/ show: where they are, what they print, and when a page shows the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from .cli.running import vram, vram_here

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "zh").glob("*.md"))]

TORCH = "2.14"
"""The PyTorch whose predictions the pages show; other versions use other workspaces, and print other figures."""

TRIALS = ("find-batch", "breakdown", "advise", "check")
"""Commands whose worker needs a process of its own, with the virtual GPU."""

CUT = "…"
"""The last line of an output that a page shows in part."""

BLOCK = re.compile(
    r"(?:`(?P<file>[\w.]+)`:\n\n)?"
    r"(?:<!-- exit code (?P<code>\d+) -->\n)?"
    r"```(?P<language>\w+)\n(?P<content>.*?)```$",
    re.DOTALL | re.MULTILINE,
)
"""A code block. After "`NAME`:" it is the content of a file; a comment gives the exit code of a command, if not 0."""


def is_measured(command: str) -> bool:
    return "--device cpu" in command


def can_run(command: str) -> bool:
    """Whether the command exists, and enforces a memory limit on this system as it does on the one of the pages."""
    return sys.platform == "linux" or not is_measured(command)


class Outputs:
    """Runs the commands of pages, each combination of command and files once."""

    def __init__(self) -> None:
        self._outputs: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}

    def run(self, command: str, folder: Path, exit_code: int = 0) -> str:
        """Return what a command prints at 80 columns in a folder with the files of a page."""
        files = tuple(sorted((path.name, path.read_text("utf-8")) for path in folder.iterdir() if path.is_file()))
        key = command, files
        if key not in self._outputs:
            run = vram if command.split(maxsplit=1)[0] in TRIALS else vram_here
            answer = run(*command.split(), folder=folder, columns=80, env=_with_this_python())
            assert answer.code == exit_code, f"vram {command}: {answer.stderr}"
            self._outputs[key] = answer.stdout
        return self._outputs[key]

    def regenerate(self, text: str, folder: Path, *, overwrite_measured: bool = False) -> str:
        """Return the text of a page with each output that is out of date replaced.

        Files and patches of the page take effect in the order of the page, in `folder`.
        """

        def replace(block: re.Match[str]) -> str:
            language, content = block["language"], block["content"]
            if block["file"]:
                (folder / block["file"]).write_text(content, encoding="utf-8")
            elif language == "diff":
                subprocess.run(["git", "apply"], cwd=folder, input=content, text=True, check=True)
            if language != "console":
                return block[0]
            command, page_output = split(content)
            if not can_run(command):
                return block[0]
            output = shorten(self.run(command, folder, int(block["code"] or 0)), like=page_output)
            measured = is_measured(command)
            if agree(page_output, output, measured=measured) and not (measured and overwrite_measured):
                return block[0]
            return block[0].replace(content, f"$ vram {command}\n{output}")

        return BLOCK.sub(replace, text)


def _with_this_python() -> dict[str, str]:
    """Return an environment in which `python`, the first word of a training script, is this one."""
    return {**os.environ, "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))}


def split(content: str) -> tuple[str, str]:
    """Return the command of a console block without "vram", and its output."""
    first, _, output = content.partition("\n")
    assert first.startswith("$ vram "), f"a console block holds one vram command and its output: {first}"
    assert "\n$ " not in content, f"a second command: {content}"
    return first.removeprefix("$ vram "), output


def shorten(output: str, *, like: str) -> str:
    """Cut an output off if the page does: after as many paragraphs, and before the versions in any case."""
    if like and not like.endswith(f"{CUT}\n"):
        return output
    paragraphs = output.rstrip("\n").split("\n\n")
    shown = like.removesuffix(f"{CUT}\n").rstrip("\n").split("\n\n") if like else paragraphs[:2]
    beginning = "\n\n".join(paragraphs[: len(shown)])
    beginning = re.split(r"^  versions ", beginning, maxsplit=1, flags=re.MULTILINE)[0]
    return f"{beginning.rstrip()}\n{CUT}\n"


def agree(page_output: str, output: str, *, measured: bool = False) -> bool:
    """Whether a page shows the output: to the letter, or word by word if the figures depend on the machine."""
    if measured or not version("torch").startswith(f"{TORCH}."):
        return words(page_output) == words(output)
    return page_output == output


def words(output: str) -> list[str]:
    """Return the words of an output that are the same on every machine."""
    output = re.sub(r"^  device .*\n(?: {11}.*\n)*", "", output, flags=re.MULTILINE)
    output = re.sub(r"\S*\.\.\.|[▏▎▍▌▋▊▉█]+|\b(?:[KMG]i)?B\b", "", output)
    return re.sub(r"(?:\d+ min )?\d[\d.,]*", "#", output).split()


def console_blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield each console block of a page: the command without "vram", and the output."""
    for block in BLOCK.finditer(text):
        if block["language"] == "console":
            yield split(block["content"])


def code_in(text: str) -> Iterator[str]:
    """Yield each code block that is no output and each inline code of a page, joined to one line."""
    for block in BLOCK.finditer(text):
        content = block["content"]
        if block["language"] == "console":
            yield content.partition("\n")[0].removeprefix("$ ")
        elif block["language"] in ("sh", "text"):
            yield from re.findall(r"^(?:\$ )?(vram .*)$", content.replace("\\\n", " "), re.MULTILINE)
    for code in re.findall(r"`([^`]+)`", BLOCK.sub("", text)):
        yield " ".join(code.split())
