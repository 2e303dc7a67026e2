"""README.md and docs/: the outputs they show are what the program prints, and the names they use exist.

A `console` block holds one command and its output, at 80 columns, in a folder with the files that the page gives before
it. A page may show the first paragraphs of an output and end with a line "…". Predictions are compared to the letter,
measured outputs word by word. `pytest tests/test_docs.py --overwrite` replaces the predictions that are out of date;
add `--overwrite-measured` to replace the measured outputs too.

Not run: `vram compare`, which takes minutes and real data, and `--objective throughput`; they are blocks of `text` with
their date. Commands in blocks of `sh` show no output.
"""

from __future__ import annotations

import re
import shutil
from itertools import zip_longest
from math import prod
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from vram_cli import load_config
from vram_cli.cli import app
from vram_cli.config.schema import SECTIONS

from .documented import BLOCK, PAGES, ROOT, Outputs, code_in, console_blocks
from .test_architecture import FLOOR, MAY_IMPORT

TRANSLATIONS = [page for page in PAGES if page.parent.name == "zh"]
ORIGINALS = [page for page in PAGES if page not in TRANSLATIONS]
PRODUCT = re.compile(r"([\d,]+(?: [x+] [\d,]+)+) = ([\d,]+)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
NO_KEYS = {("train", "yaml"), ("optimizer", "step"), ("model", "eval"), ("train", "py")}

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def flags_of(command: str) -> set[str]:
    return {"--help"} | {flag for parameter in COMMANDS[command].params for flag in parameter.opts}


@pytest.mark.skipif(shutil.which("git") is None, reason="a page applies a patch between its commands")
@pytest.mark.parametrize("page", [page for page in ORIGINALS if "```console" in page.read_text("utf-8")], ids=name_of)
def test_outputs(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    overwrite, measured = map(request.config.getoption, ("--overwrite", "--overwrite-measured"))
    outputs = Outputs()
    for each in (page, *(translation for translation in TRANSLATIONS if translation.name == page.name)):
        folder = tmp_path / each.parent.name
        folder.mkdir()
        regenerated = outputs.regenerate(each.read_text("utf-8"), folder, overwrite_measured=measured)
        if overwrite or measured:
            each.write_text(regenerated, encoding="utf-8")
        assert each.read_text("utf-8") == regenerated, "look, then run pytest tests/test_docs.py --overwrite"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_flags_exist(page: Path) -> None:
    every_flag = {"--version", "--help"}.union(*map(flags_of, COMMANDS))
    for line in code_in(page.read_text("utf-8")):
        code, *_ = line.split(" -- ")  # the flags of a training script are its own, as are those of a launcher
        code = re.sub(r"torchrun .* -m vram_cli", "vram", code)
        assert set(FLAG.findall(code)) <= every_flag, code
        if match := re.match(r"vram ([a-z][a-z-]*)", code):
            assert set(FLAG.findall(code)) <= flags_of(match[1]), code


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "json.md"], ids=name_of)
def test_config_keys_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    for section, key in re.findall(r"(?<![\w./-])(model|data|optimizer|train|search|device)\.([a-z_]+)\b(?!\()", text):
        if (section, key) not in NO_KEYS:
            assert key in SECTIONS[section].model_fields, f"{section}.{key}"


def test_yaml_of_a_config_is_valid(tmp_path: Path) -> None:
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text("utf-8")):
            if block["language"] != "yaml":
                continue
            document = yaml.safe_load(block["content"])
            if isinstance(document, dict) and "optimizer" in document:
                path = tmp_path / "train.yaml"
                path.write_text(block["content"], encoding="utf-8")
                assert load_config(str(path)).optimizer, page


@pytest.mark.parametrize("page", TRANSLATIONS, ids=name_of)
def test_a_translation_has_the_same_code_blocks(page: Path) -> None:
    original = ROOT / "docs" / page.name
    blocks = ([block["content"] for block in BLOCK.finditer(each.read_text("utf-8"))] for each in (page, original))
    for translated, english in zip_longest(*blocks):
        assert translated == english


@pytest.mark.parametrize("page", [page for page in PAGES if page.name == "lesson.md"], ids=name_of)
def test_arithmetic_of_the_lesson(page: Path) -> None:
    text = page.read_text("utf-8").replace("\u00d7", "x")
    products = PRODUCT.findall(text)
    assert len(products) > 5
    outputs = "".join(output for _, output in console_blocks(text)).replace(",", "")
    all_terms = {term for terms, _ in products for term in terms.replace(",", "").split()}
    for terms, result in products:
        figure = result.replace(",", "")
        summands = [prod(map(int, part.split(" x "))) for part in terms.replace(",", "").split(" + ")]
        assert sum(summands) == int(figure), terms
        assert figure in outputs or figure in all_terms, f"vram prints {result} nowhere"


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 150
    assert next(number for number, line in enumerate(lines, 1) if "pip install" in line) <= 20
    assert next(number for number, line in enumerate(lines, 1) if line.startswith("$ vram")) <= 30


def test_the_table_of_imports_is_that_of_the_architecture_test(request: pytest.FixtureRequest) -> None:
    page = ROOT / "docs" / "architecture.md"
    width = max(map(len, MAY_IMPORT))
    rows = [f"{'the floor':{width}}  {', '.join(FLOOR)}\n"]
    rows += [f"{room:{width}}  {', '.join(sorted(rooms)) or '-'}\n" for room, rooms in MAY_IMPORT.items()]
    before = page.read_text("utf-8")
    after = re.sub(r"(?<=<!-- imports -->\n```text\n).*?(?=```)", "".join(rows), before, count=1, flags=re.DOTALL)
    if request.config.getoption("--overwrite"):
        page.write_text(after, encoding="utf-8")
    assert page.read_text("utf-8") == after, "look, then run pytest tests/test_docs.py --overwrite"


def test_the_probe_of_the_architecture_page(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (example,) = (block["content"] for block in BLOCK.finditer(text) if block["file"] == "formula_probe.py")
    exec(compile(example, "formula_probe.py", "exec"), {"__name__": "formula_probe"})
    assert capsys.readouterr().out == "19114\n"
