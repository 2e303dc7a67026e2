"""`--report`, `--format` and `--plot`: contents of stdout and of files, and no file is overwritten."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import vram, vram_here
from tests.report.drawing import html, markdown
from tests.report.examples import BREAKDOWN, MEMORY, detailed
from tests.report.page import Page
from vram_cli.cli import run_command
from vram_cli.report import charts
from vram_cli.report.saved import save


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with a saved search and two saved breakdowns."""
    save(MEMORY, tmp_path / "search.json")
    save(detailed(), tmp_path / "detailed.json")
    save(BREAKDOWN, tmp_path / "plain.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    return run_command(arguments)


def test_show_needs_neither_torch_nor_matplotlib(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "find_spec", lambda _: None)
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['matplotlib'] = None\n"
        "sys.argv[0] = 'vram'\n"
        "from vram_cli.__main__ import main\n"
        "main()"
    )
    arguments = ["show", "detailed.json", "--report", "out.html", "--format", "markdown", "--by", "module"]
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=saved, check=True)
    assert done.stdout == markdown(detailed(), depth=3)
    assert done.stderr == "saved to out.html\n"
    assert (saved / "out.html").read_text(encoding="utf-8") == html(detailed())


@pytest.mark.parametrize(
    ("flags", "start"),
    [
        ([], "Largest batch size: 1,536"),
        (["--format", "text"], "Largest batch size: 1,536"),
        (["--format", "markdown"], "### Largest batch size: 1,536"),
        (["--format", "json"], "{"),
        (["--json"], "{"),
        (["--json", "--format", "json"], "{"),
    ],
)
def test_formats(flags: list[str], start: str, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "search.json", *flags) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(start)
    if start == "{":
        assert json.loads(printed)["max_batch_size"] == 1536


@pytest.mark.parametrize("name", ["text", "markdown"])
def test_two_formats_are_refused(name: str, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "search.json", "--json", "--format", name) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["exit_code"] == 2
    assert f"--json and --format {name} select two formats" in printed.err


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--report", "there.html"], ["there.html already exists", "--force"]),
        (["--report", "out.pdf"], ["--report out.pdf", "ends in .html"]),
        (["--report", "nowhere/out.html"], ["nowhere"]),
        (["--report", "out.html", "--plot", "./out.html"], ["--report and --plot both name out.html"]),
    ],
)
def test_bad_files_fail_before_any_trial(
    flags: list[str], names: list[str], saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (saved / "there.html").write_text("precious")
    for command in (["show", "search.json"], ["find-batch", "--quiet"], ["breakdown", "--quiet"]):
        assert run(*command, *flags) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert all(name in printed.err for name in names), printed.err
    assert (saved / "there.html").read_text() == "precious"
    assert run("show", "search.json", "--report", "there.html", "--force") == 0
    assert (saved / "there.html").read_text(encoding="utf-8") == html(MEMORY)


def test_same_file_twice(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("breakdown", "--quiet", "--save", "a.html", "--report", "a.html") == 2
    assert "--save and --report both name a.html" in capsys.readouterr().err


def test_only_the_plot_of_a_breakdown_needs_a_timeline(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert run("show", "search.json", "--plot", "search.svg") == 0
    assert run("show", "detailed.json", "--plot", "detailed.svg") == 0
    assert "Peak memory of each trial" in (saved / "search.svg").read_text(encoding="utf-8")
    assert "Memory over one step" in (saved / "detailed.svg").read_text(encoding="utf-8")
    capsys.readouterr()
    assert run("show", "plain.json", "--plot", "plain.svg", "--report", "plain.html") == 2
    assert "no modules and no timeline" in capsys.readouterr().err
    assert not (saved / "plain.html").exists()


def test_report_of_a_breakdown_has_modules_and_timeline(tmp_path: Path) -> None:
    place = ["--device", "cpu", "--memory-limit", "64MiB", "--set", "data.source=synthetic"]
    answer = vram("breakdown", *place, "-n", "64", "--report", "out.html", "--format", "markdown", folder=tmp_path)
    assert answer.code == 0, answer.stderr
    assert answer.stdout.startswith("### Batch size 64 uses")
    assert "by module" not in answer.stdout
    assert "saved to out.html" in answer.stderr
    text = Page((tmp_path / "out.html").read_text(encoding="utf-8")).text
    assert "Memory over one step at batch size 64 (measured)" in text
    assert "Peak memory by module at batch size 64 (measured)" in text
    assert "vram breakdown --device cpu --memory-limit 64MiB --set data.source=synthetic --batch-size 64" in text


def test_report_of_a_search_has_proof_and_trials(tmp_path: Path) -> None:
    arguments = ["--gpu", "t4", "--max-batch-size", "4", "--report", "out.html", "--quiet", "--json"]
    answer = vram_here("find-batch", *arguments, folder=tmp_path)
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["max_batch_size"] == 4
    text = Page((tmp_path / "out.html").read_text(encoding="utf-8")).text
    assert "proof 4 is predicted to fit; nothing larger was tried" in text
    assert "Peak memory of each trial (predicted for Tesla T4)" in text


def test_json_of_a_batch_that_does_not_fit(tmp_path: Path) -> None:
    answer = vram_here("breakdown", "--gpu", "t4", "-n", "20000000", "--quiet", "--json", folder=tmp_path)
    assert answer.code == 4
    document = json.loads(answer.stdout)
    assert document["measurement"]["outcome"] == "out_of_memory"
    assert document["shortfall_bytes"] > 0
    assert "does not run on Tesla T4" in answer.stderr
