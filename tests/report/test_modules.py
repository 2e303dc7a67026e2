"""The tree of modules: rows add up level by level, at every depth and width."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram_cli.errors import ConfigError
from vram_cli.records import Breakdown, Category, ModuleShare
from vram_cli.report import document as doc
from vram_cli.report.answers.memory import modules_section
from vram_cli.units import MIB, format_bytes

from .drawing import block, text
from .examples import BREAKDOWN, GPU, detailed

ROW = re.compile(r"^( *)(.+?) +(-?[\d.]+ [KMGT]?i?B) +(-?[\d.]+) %")


def rows(text: str) -> list[tuple[int, str, str, float]]:
    """Return depth, label, size and share of each row."""
    found = [ROW.match(line) for line in text.splitlines()]
    return [(len(match[1]) // 2, match[2], match[3], float(match[4])) for match in found if match]


def example() -> Breakdown:
    made = detailed().breakdown
    assert made is not None
    return made


def tree(depth: int, width: int = 80, encoding: str = "utf-8") -> str:
    return block(modules_section(example(), GPU, depth, formats=doc.ALL_FORMATS), width, encoding)


def test_tree_at_80_columns(golden: Callable[[str, str], str]) -> None:
    drawn = tree(3)
    assert drawn == golden("modules-80", drawn)


def test_depth_limits_the_tree() -> None:
    def labels(depth: int) -> set[str]:
        return {label for _, label, _, _ in rows(tree(depth))}

    assert labels(0) == {"model"}
    assert labels(1) == {"model", "layer1", "conv1", "layer4", "fc", "(outside its modules)"}
    assert labels(2) - labels(1) == {"0", "1", "conv_with_a_name_that_is_long"}
    assert labels(3) - labels(2) == {"bn1", "(itself)"}
    assert labels(4) == labels(3)


@given(depth=st.integers(0, 4), width=st.integers(60, 160), encoding=st.sampled_from(["utf-8", "ascii"]))
@settings(max_examples=30, deadline=None)
def test_rows_below_a_row_add_up_to_it(depth: int, width: int, encoding: str) -> None:
    drawn = tree(depth, width, encoding)
    assert max(map(len, drawn.splitlines())) <= width
    shown = rows(drawn)
    assert shown[0][:3] == (0, "model", format_bytes(example().tensor_bytes))
    for i, (level, _, _, share) in enumerate(shown):
        end = next((j for j in range(i + 1, len(shown)) if shown[j][0] <= level), len(shown))
        parts = [other[3] for other in shown[i + 1 : end] if other[0] == level + 1]
        assert not parts or sum(parts) == pytest.approx(share, abs=0.06 * (len(parts) + 1))


def test_wide_console_names_the_main_category() -> None:
    lines = tree(1, 120).splitlines()
    assert next(line for line in lines if line.startswith("  fc")).split("%")[1].strip().startswith("optimizer state")
    assert "mostly" not in tree(1, 99)


def test_answer_has_the_tree_only_on_request() -> None:
    assert "by module" not in text(detailed())
    assert "Peak memory by module at batch size 128 (measured)" in text(detailed(), depth=1)


def test_detail_that_was_not_measured_is_refused() -> None:
    for wish in ({"depth": 2}, {"timeline": True}):
        with pytest.raises(ConfigError, match="no modules and no timeline") as error:
            text(BREAKDOWN, **wish)
        assert "--by module" in error.value.hint


@pytest.mark.parametrize("path", ["layer1.0", "layer9.0.conv1", ""])
def test_modules_that_are_no_tree_are_refused(path: str) -> None:
    stray = ModuleShare(path=path, bytes=MIB, by_category={Category.ACTIVATIONS: MIB})
    with pytest.raises(ValueError, match="appears twice, or before"):
        replace(example(), modules=(*example().modules, stray))
