"""The commands in docs/ are run, and their outputs are compared with those on the pages.

Each `console` block has one command and its output, at 80 columns in an empty folder with the files of the page: the
code blocks after a line that ends with "`NAME`:". A line "…" cuts an output off before parts that differ between
machines. With another PyTorch than that of the pages, only words are compared. `pytest --overwrite` rewrites outputs
that differ.

Not run here:
- `vram compare` takes minutes and the MNIST files: its output is in a dated `text` block.
- `--objective throughput` takes a minute, and its speeds vary: no output.
- Commands in `sh` blocks have no output.
- docs/ci.md changes code between its commands: tests/test_ci.py runs it.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from itertools import zip_longest
from math import prod
from pathlib import Path

import pytest

from vram_cli.cli import app

from .cli.running import WorkerInThread
from .documented import agree

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [page for page in sorted(DOCS.glob("*.md")) if page.name != "ci.md"]
TRANSLATED = sorted(DOCS.glob("zh/*.md"))
COMMAND = re.compile(r"(?<=```console\n)\$ vram (.+)\n((?:.*\n)*?)(?=```$)", re.MULTILINE)
FILE = re.compile(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)
BLOCK = re.compile(r"^```(?:console|text|sh|yaml|python)\n.*?^```$", re.DOTALL | re.MULTILINE)
PRODUCT = re.compile(r"([\d,]+(?: [x+] [\d,]+)+) = ([\d,]+)")

Files = tuple[tuple[str, str], ...]
outputs: dict[tuple[str, Files], str] = {}
"""Outputs by command and files: translated pages have the same commands."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def run(command: str, files: Files) -> str:
    if (command, files) not in outputs:
        for name, content in files:
            Path(name).write_text(content, encoding="utf-8")
        stdout = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(stdout):
            if not is_measured(command):
                patch.setattr("vram_cli.probe.client.WorkerProcess", WorkerInThread)
            with pytest.raises(SystemExit) as ended:
                app(command.split(), prog_name="vram")
        assert ended.value.code == 0, f"vram {command}"
        outputs[command, files] = stdout.getvalue()
    return outputs[command, files]


def shown(output: str) -> str:
    """Return an output as pages show it: cut off before the versions or the sources of a prediction."""
    head = re.split(r"^(?:How it was predicted$|  versions )", output, maxsplit=1, flags=re.MULTILINE)[0]
    return output if head == output else head.rstrip("\n") + "\n…\n"


def is_measured(command: str) -> bool:
    return "--device cpu" in command


@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_outputs_on_a_page(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for page in (DOCS / name, *(page for page in TRANSLATED if page.name == name)):
        check(page, overwrite=request.config.getoption("--overwrite"))


def check(page: Path, *, overwrite: bool) -> None:
    before, files = text_of(page), tuple(FILE.findall(text_of(page)))
    assert len(COMMAND.findall(before)) == before.count("```console"), "a block has one command and its output"

    def current(block: re.Match[str]) -> str:
        command, output = block.groups()
        if is_measured(command) and sys.platform != "linux":
            return block[0]  # the answer mentions that other systems enforce no memory limit
        now = shown(run(command, files))
        return block[0] if agree(output, now, measured=is_measured(command)) else f"$ vram {command}\n{now}"

    after = COMMAND.sub(current, before)
    if overwrite:
        page.write_text(after, encoding="utf-8")
    assert text_of(page) == after, "pytest --overwrite rewrites the page"


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_translation_has_the_same_commands_and_outputs(page: Path) -> None:
    for translated, original in zip_longest(BLOCK.findall(text_of(page)), BLOCK.findall(text_of(DOCS / page.name))):
        assert translated == original


@pytest.mark.parametrize("page", [DOCS / "lesson.md", DOCS / "zh" / "lesson.md"], ids=lambda page: page.parent.name)
def test_arithmetic_of_the_lesson(page: Path) -> None:
    text = text_of(page).replace("\u00d7", "x")
    products = PRODUCT.findall(text)
    assert len(products) > 5
    printed = "".join(output for _, output in COMMAND.findall(text)).replace(",", "")
    terms_of_others = {term for terms, _ in products for term in terms.replace(",", "").split()}
    for terms, result in products:
        figure = result.replace(",", "")
        added = [prod(map(int, part.split(" x "))) for part in terms.replace(",", "").split(" + ")]
        assert sum(added) == int(figure), terms
        assert figure in printed or figure in terms_of_others, f"{result} is in no output of vram"
