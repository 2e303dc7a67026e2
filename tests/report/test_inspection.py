"""The answer of `vram inspect`: rows add up, numbers are whole, and synthetic data are called synthetic."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from rich.text import Text

from vram_cli.errors import ConfigError
from vram_cli.records import ClassFacts, LayerFacts
from vram_cli.report import document as doc
from vram_cli.report.answers.inspection import layer_rows
from vram_cli.report.contact_sheet import contact_sheet, save_sheet
from vram_cli.report.formats.json import to_json
from vram_cli.report.formats.samples import SampleImages, has_colours

from .drawing import WIDTHS, assert_within, draw, flat, html, markdown, text
from .inspections import CODE, FILES, INSPECTIONS, SYNTHETIC, layer, ramp
from .page import Page


@pytest.mark.parametrize("name", INSPECTIONS)
def test_inspection_at_80_columns(name: str, golden: Callable[[str, str], str]) -> None:
    printed = text(INSPECTIONS[name], preview=True)
    assert printed == golden(f"inspect-{name}-80", printed)
    for width in WIDTHS:
        assert_within(width, text(INSPECTIONS[name], width))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_without_block_characters(encoding: str) -> None:
    assert text(FILES, 80, encoding, preview=True).isascii()


@pytest.mark.parametrize("name", INSPECTIONS)
def test_page_and_markdown_have_data_and_layers(name: str) -> None:
    inspection = INSPECTIONS[name]
    page, document = Page(html(inspection)), markdown(inspection)
    for shown in (page.text, document):
        assert inspection.data.info.detail.split()[0] in shown
        assert f"{inspection.model.parameters:,}" in shown
    assert len(page.all("h1")) == 1
    assert "| layer | output | parameters | bytes |" in document


@pytest.mark.parametrize("width", range(60, 141, 8))
def test_figures_are_whole_at_every_width(width: int) -> None:
    printed = text(SYNTHETIC, width, depth=9)
    for figure in ("64x384x6x6", "21,608,074", "82.4 MiB", "partly", "768 KiB", "21,312,778 trained", "295,296 frozen"):
        assert figure in printed


def test_synthetic_data_say_how_to_get_files() -> None:
    printed = text(SYNTHETIC)
    assert "Data: cifar10, synthetic" in printed
    assert "--download" in printed
    assert "each" not in printed
    on_purpose = replace(SYNTHETIC, config={"data": {"name": "cifar10", "source": "synthetic"}})
    assert "--download" not in text(on_purpose)


def test_classes_of_one_size_share_a_count() -> None:
    classes = tuple(ClassFacts(name=found.name, count=5000) for found in SYNTHETIC.data.classes)
    even = replace(SYNTHETIC, data=replace(SYNTHETIC.data, classes=classes))
    assert "10 with 5,000 each: airplane, automobile" in flat(even)


def parameters(row: doc.Row) -> int:
    cell = row.cells[2]
    assert isinstance(cell, str)
    return 0 if cell == "-" else int(cell.replace(",", ""))


def test_parameters_outside_submodules_have_a_row() -> None:
    (top, *below) = list(layer_rows(SYNTHETIC.model.layers, 1))
    assert below[-1].cells[0] == "(itself)"
    assert sum(parameters(row) for row in below) == parameters(top)


@given(data=st.data(), depth=st.integers(1, 4))
def test_rows_one_level_below_a_row_add_up_to_it(data: st.DataObject, depth: int) -> None:
    grown: list[LayerFacts] = []

    def grow(path: str, level: int) -> int:
        place, own = len(grown), data.draw(st.integers(0, 3))
        parts = data.draw(st.integers(0, 3)) if level < 4 else 0
        held = own + sum(grow(f"{path}.{i}".lstrip("."), level + 1) for i in range(parts))
        grown.insert(place, layer(path, "Module", (1,), held))
        return held

    grow("", 0)
    rows = list(layer_rows(grown, depth))
    for index, row in enumerate(rows):
        below = []
        for other in rows[index + 1 :]:
            if other.level <= row.level:
                break
            below += [other] if other.level == row.level + 1 else []
        assert not below or sum(map(parameters, below)) == parameters(row)


def test_shared_parameters_give_no_negative_row() -> None:
    tied = (layer("", "Lm", (2,), 100), layer("wte", "Embedding", (2,), 100), layer("head", "Linear", (2,), 100))
    assert [row.cells[0] for row in layer_rows(tied, 3)] == ["Lm", "wte (Embedding)", "head (Linear)"]


def test_depth_says_what_it_hides() -> None:
    printed = text(SYNTHETIC, 120, depth=2)
    assert "fc1" not in printed
    assert "3 layers below depth 2; --depth 4 shows all" in printed
    assert "not shown" not in text(SYNTHETIC, 120, depth=4)


def test_names_that_users_wrote_are_shown_as_they_are() -> None:
    odd = replace(CODE.model, layers=(replace(CODE.model.layers[0], kind="[bold]\x1b[31mNet"), *CODE.model.layers[1:]))
    assert "[bold]\\x1b[31mNet" in text(replace(CODE, model=odd))


def test_json_has_every_layer_and_no_pixels() -> None:
    document = json.loads(to_json(SYNTHETIC))
    assert [found["path"] for found in document["model"]["layers"]][-2:] == ["blocks.0.mlp.fc1", "head"]
    assert document["data"]["stored"]["measured"] is False
    assert (document["schema_version"], "samples" in document) == (1, False)


@pytest.mark.parametrize(("width", "shown"), [(60, "012"), (80, "01234"), (120, "0123456")])
def test_a_preview_in_colour_shows_as_many_classes_as_fit(width: int, shown: str) -> None:
    lines = in_colour([ramp(label, 1) for label in range(10)], width).splitlines()
    assert len(lines) == 8
    assert "".join(lines[-1].split()) == shown


def test_a_preview_shows_two_pixels_to_a_character() -> None:
    first = in_colour([ramp(0, 3)], 80, styled=True).partition("▀")[0]
    # The mean of pixels (0, 0) to (1, 1) above; below, two rows further down, more green.
    assert "38;2;4;4;0" in first
    assert "48;2;4;23;0" in first


def test_a_preview_off_a_terminal_is_made_of_shades() -> None:
    lines = draw(SampleImages([ramp(0, 1)], ["zero"]), 60).splitlines()
    assert len(lines) == 15
    assert lines[0].startswith("   ...:::")
    assert lines[0].endswith("%%@@@")
    assert lines[-1].strip() == "zero"


@pytest.mark.parametrize(
    ("colours", "enough"), [("truecolor", True), ("256", True), ("standard", False), (None, False)]
)
def test_the_16_colours_of_old_are_not_enough_for_images(colours: Literal["standard"] | None, *, enough: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=colours, legacy_windows=False)
    assert has_colours(console) is enough


def in_colour(samples: list[object], width: int, *, styled: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system="truecolor", legacy_windows=False)
    console.print(SampleImages(samples, [str(i) for i in range(10)]))  # type: ignore[arg-type]
    return stream.getvalue() if styled else Text.from_ansi(stream.getvalue()).plain


def test_a_contact_sheet_has_each_sample_pixel_by_pixel(tmp_path: Path) -> None:
    path = tmp_path / "samples.png"
    save_sheet(FILES, path)
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        gray = sheet.convert("L")
    # Each of the ten rows shows the ramp twice: somewhere a line of it begins, three pixels to each of its own.
    line = bytes(255 * x // 27 for x in range(28) for _ in range(3))
    rows = [gray.crop((0, y, gray.width, y + 1)).tobytes() for y in range(gray.height)]
    assert {row.count(line) for row in rows} == {0, 2}
    assert sum(row.count(line) == 2 for row in rows) == 10 * 28 * 3


def test_contact_sheet_has_room_for_long_names_and_empty_classes() -> None:
    short = contact_sheet(FILES)
    classes = (ClassFacts(name="an uncommonly long name", count=0), *FILES.data.classes[1:])
    samples = tuple(sample for sample in FILES.samples if sample.label)
    long = contact_sheet(replace(FILES, data=replace(FILES.data, classes=classes), samples=samples))
    assert long.width > short.width
    assert long.height == short.height


def test_a_contact_sheet_overwrites_nothing_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "samples.png"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="already exists"):
        save_sheet(FILES, path)
    assert path.read_text() == "precious"
    save_sheet(FILES, path, force=True)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="picture"):
        save_sheet(FILES, tmp_path / "run.json")
