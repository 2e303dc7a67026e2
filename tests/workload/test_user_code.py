"""Code that a config names: importing, calling, and errors that name its key."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.workload import usercode
from tests.workload.configs import HERE
from vram_cli.errors import ConfigError
from vram_cli.workload.user_code import add_import_path, config_key_of, errors_from, instantiate, resolve


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    add_import_path(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (HERE + "linear", usercode.linear),
        (HERE + "Nested.__len__", usercode.Nested.__len__),
        ("os:path.join", os.path.join),
    ],
)
def test_resolve(target: str, found: object) -> None:
    assert resolve(target, "model.factory") is found


def test_config_folder_comes_first(folder: Path) -> None:
    (folder / "pytest_that_is_none").mkdir()
    (folder / "pytest_that_is_none" / "inner.py").write_text("NAME = 'mine'")
    (folder / "colorsys.py").write_text("NAME = 'mine'")
    assert resolve("pytest_that_is_none.inner:NAME", "model.factory") == "mine"
    sys.modules.pop("colorsys", None)
    assert resolve("colorsys:NAME", "model.factory") == "mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_package.part", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("from os import no_such_name", "importing broken failed: ImportError: cannot import name 'no_such_name'"),
        ("x = 1 / 0", "importing broken failed: ZeroDivisionError: division by zero"),
        ("x =", r"importing broken failed: SyntaxError: invalid syntax \(broken.py, line 1\)"),
        ("raise ValueError('two\\n  lines')", "importing broken failed: ValueError: two lines"),
        ("raise SystemExit", r"importing broken failed: SystemExit\n"),
        ("import sys; sys.exit('bye')", "importing broken failed: SystemExit: bye"),
    ],
)
def test_import_errors_in_one_line(text: str, words: str, folder: Path) -> None:
    (folder / "broken.py").write_text(text)
    with pytest.raises(ConfigError, match=r"data\.factory: broken:build: " + words) as caught:
        resolve("broken:build", "data.factory")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_missing_dependency_is_named(folder: Path) -> None:
    (folder / "wants.py").write_text("import no_such_package.part")
    with pytest.raises(ConfigError) as caught:
        resolve("wants:build", "model.factory")
    assert "pip install no_such_package)" in caught.value.hint
    with pytest.raises(ConfigError, match="No module named 'nowhere'") as caught:
        resolve("nowhere:build", "model.factory")
    assert "put it beside the config" in caught.value.hint


def test_missing_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="has no attribute 'liner'") as caught:
        resolve(HERE + "liner", "model.factory")
    assert "did you mean linear?" in caught.value.hint
    assert str(usercode.__file__) in caught.value.hint
    # A file of the user's that bears the name of a module of Python's own: the hint shows which one it was.
    with pytest.raises(ConfigError) as caught:
        resolve("code:zzz", "model.factory")
    assert str(sys.modules["code"].__file__) in caught.value.hint


def test_module_that_fails_lazily(folder: Path) -> None:
    (folder / "lazy.py").write_text("def __getattr__(name):\n    raise ImportError(f'{name} needs another package')")
    with pytest.raises(ConfigError, match=r"model\.factory: lazy:build: ImportError: build needs another package"):
        resolve("lazy:build", "model.factory")


def test_instantiate_needs_a_callable() -> None:
    with pytest.raises(ConfigError, match=r"model\.factory: .*NUMBER is a int, not callable"):
        instantiate(HERE + "NUMBER", "model.factory", {})
    assert instantiate(HERE + "linear", "model.factory", {"width": 7}).in_features == 7


def test_errors_keep_their_type_and_name_a_key() -> None:
    with pytest.raises(ValueError, match="no such width: 3") as caught:
        instantiate(HERE + "raises", "model.factory", {})
    assert config_key_of(caught.value) == f"model.factory ({HERE}raises)"
    with pytest.raises(TypeError) as wrong:
        instantiate(HERE + "linear", "model.factory", {"widht": 7})
    assert config_key_of(wrong.value) == f"model.factory ({HERE}linear)"
    with pytest.raises(usercode.SlottedError):
        instantiate(HERE + "raises_what_cannot_be_marked", "model.factory", {})


def test_innermost_key_wins() -> None:
    with pytest.raises(ZeroDivisionError) as caught, errors_from("step.function"), errors_from("loss.factory"):
        raise ZeroDivisionError
    assert config_key_of(caught.value) == "loss.factory"
    assert config_key_of(KeyError()) == ""


def test_code_that_exits_the_process() -> None:
    with pytest.raises(ConfigError, match=r"model\.factory \(.*leaves\): the code exits the process: SystemExit: bye"):
        instantiate(HERE + "leaves", "model.factory", {})
