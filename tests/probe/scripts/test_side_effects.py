"""A script that saves, uploads and writes: what is not done, and what is listed."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.probe.scripts.children import checksums, in_child
from vram_cli.probe.scripts import writes as writes_module
from vram_cli.probe.scripts.overlay import enter, obstacle
from vram_cli.probe.scripts.side_effects import keep_from_writing
from vram_cli.probe.scripts.writes import Writes

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path.with_name("temporary")
    temporary.mkdir(exist_ok=True)
    monkeypatch.setattr(writes_module, "_temporary_folders", lambda: {str(temporary)})
    (tmp_path / "earlier.pt").touch()
    (tmp_path / "logs").mkdir()
    return tmp_path


def save() -> list[str]:
    weights = {"weight": torch.ones(2)}
    torch.save(weights, "digits.pt")
    torch.save(weights, f=Path("digits.pt"))
    torch.serialization.save(weights, "nowhere/else.pt")
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    assert torch.load(io.BytesIO(buffer.getvalue()))["weight"].sum() == 2
    with pytest.raises(FileNotFoundError, match=r"vram has kept torch.save from writing it: 'digits.pt'"):
        torch.load("digits.pt")
    return ["torch.save digits.pt (not written)"] * 2 + ["torch.save nowhere/else.pt (not written)"]


def save_distributed() -> list[str]:
    from torch.distributed import checkpoint

    checkpoint.save({}, checkpoint_id="steps/3")
    checkpoint.async_save({}, storage_writer=checkpoint.FileSystemWriter("steps/4")).result()
    name = "torch.distributed.checkpoint.save"
    return [f"{name} steps/3 (not written)", f"{name} (not written)"]


def save_safetensors() -> list[str]:
    from safetensors.torch import save_file, save_model

    save_file({"weight": torch.ones(2)}, "digits.safetensors")
    save_model(torch.nn.Linear(1, 1), filename="digits.safetensors")
    return [f"safetensors.torch.{name} digits.safetensors (not written)" for name in ("save_file", "save_model")]


def save_with_libraries() -> list[str]:
    """Stand-ins for packages whose imports take seconds; `fetch` tells that what is no upload stays."""
    from huggingface_hub import hf_api  # type: ignore[attr-defined]
    from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
    from transformers.modeling_utils import PreTrainedModel

    PreTrainedModel().save_pretrained("out", safe_serialization=True)
    TorchCheckpointIO().save_checkpoint({}, "last.ckpt")
    assert hf_api.HfApi().create_repo("me/digits", exist_ok=True).url == "https://huggingface.co/me/digits"
    hf_api.HfApi().upload_folder(repo_id="me/digits", folder_path="out", run_as_future=True).result()
    assert hf_api.HfApi().fetch() == "fetched"
    return [
        "save_pretrained out (not written)",
        "save_checkpoint last.ckpt (not written)",
        "huggingface_hub.create_repo me/digits (not done)",
        "huggingface_hub.upload_folder me/digits (not done)",
    ]


LIBRARIES = {
    "transformers/modeling_utils.py": (
        "class PreTrainedModel:\n    def save_pretrained(self, save_directory, **_): 1 / 0"
    ),
    "lightning/fabric/plugins/io/torch_io.py": (
        "class TorchCheckpointIO:\n    def save_checkpoint(self, checkpoint, path): 1 / 0"
    ),
    "huggingface_hub/hf_api.py": """
class RepoUrl:
    def __init__(self, url): self.url = url
class HfApi:
    def create_repo(self, repo_id, **_): 1 / 0
    def upload_folder(self, *, repo_id, folder_path, **_): 1 / 0
    def fetch(self): return "fetched"
api = HfApi()
create_repo = api.create_repo
""",
}


@pytest.fixture
def libraries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in LIBRARIES.items():
        file = folder / "site" / name
        file.parent.mkdir(parents=True)
        file.write_text(source)
        (folder / "site" / name.partition("/")[0] / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder / "site")
    for name in list(sys.modules):
        if name.split(".")[0] in ("transformers", "lightning", "huggingface_hub"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("is_imported", [False, True])
def test_nothing_is_saved(is_imported: bool, folder: Path) -> None:
    def run() -> bool:
        for name in MODULES if is_imported else ():
            import_module(name)
        lines: list[str] = []
        keep_from_writing(lines.append)
        for saving in (save, save_distributed, save_safetensors, save_with_libraries):
            lines.clear()
            expected = saving()
            assert lines == expected, lines
        return True

    before = checksums(folder)
    assert in_child(run) == "True"
    assert checksums(folder) == before


MODULES = (
    "huggingface_hub.hf_api",
    "lightning.fabric.plugins.io.torch_io",
    "safetensors.torch",
    "torch.distributed.checkpoint",
    "transformers.modeling_utils",
)


def test_a_file_of_an_earlier_run_is_read(folder: Path) -> None:
    def run() -> object:
        torch.save({"step": 7}, "earlier.pt")
        keep_from_writing(lambda _: None)
        torch.save({"step": 8}, "earlier.pt")
        return torch.load("earlier.pt")

    assert in_child(run) == "{'step': 7}"


def test_under_an_overlay_scripts_rename_and_copy(folder: Path) -> None:
    if reason := in_child(lambda: obstacle(folder)):
        pytest.skip(f"this system has no overlay: {reason}")

    def run() -> object:
        keep_from_writing(lambda _: None, discarded=folder)
        overlay = enter(folder)
        torch.save({}, "digits.pt.partial")
        Path("digits.pt.partial").replace("digits.pt")
        shutil.copyfile("digits.pt", "best.pt")
        return overlay.changes()

    before = checksums(folder)
    assert in_child(run) == "('made best.pt', 'made digits.pt')"
    assert checksums(folder) == before


def writing(folder: Path) -> None:
    Path("new.txt").write_text("new")
    Path("new.txt").read_text()
    with Path("logs/train.log").open("a"):
        pass
    with Path("earlier.pt").open("wb"):
        pass
    os.close(os.open("by number", os.O_CREAT | os.O_WRONLY))
    Path("logs").mkdir(exist_ok=True)
    Path("runs/1").mkdir(parents=True)
    (folder / "runs" / "1" / "log").touch()
    shutil.rmtree("runs")
    Path("new.txt").rename("newer.txt")
    Path("missing").unlink(missing_ok=True)
    Path("link").symlink_to("newer.txt")
    Path("/dev/null").write_text("x")
    folder.with_name("temporary").joinpath("file").touch()
    subprocess.run(["true", "a b"], check=True)
    os.system("true")


def test_what_a_script_does_is_listed(folder: Path) -> None:
    def run() -> str:
        writes = Writes(folder)
        writing(folder)
        return "\n".join(writes.lines())

    assert in_child(run).splitlines() == [
        "made new.txt",
        "made logs/train.log",
        "changed earlier.pt",
        "made by number",
        "made runs/1",  # pathlib tries it first
        "made runs",
        "made runs/1/log",
        "removed runs",
        "made newer.txt",
        "removed new.txt",
        "made link",
        "started true 'a b'",
        "started true",
    ]


def test_what_is_discarded_is_not_listed(folder: Path) -> None:
    def run() -> object:
        writes = Writes(folder / "logs", is_discarded=True)
        Path("logs/train.log").touch()
        Path("outside").touch()
        os.chdir("logs")
        shutil.rmtree(folder / "logs")
        with pytest.raises(FileNotFoundError):
            Path("here").touch()  # the hook has no working folder either
        writes.add("torch.save digits.pt (not written)")
        return writes.lines()

    lines = (f"made {folder / 'outside'}", f"removed {folder / 'logs'}", "torch.save digits.pt (not written)")
    assert in_child(run) == str(lines)


def test_many_files_and_connections(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    (folder / "home" / "project").mkdir(parents=True)

    def run() -> str:
        writes = Writes(folder / "home" / "project")
        for port, host in ((9, "127.0.0.1"), (80, "192.0.2.1")):
            with socket.socket() as connection:
                connection.setblocking(False)
                connection.connect_ex((host, port))
        for number in range(60):
            (folder / "home" / f"{number}.txt").touch()
        return "\n".join(writes.lines())

    lines = in_child(run).splitlines()
    assert lines[:2] == ["connected to 192.0.2.1:80", "made ~/0.txt"]
    assert len(lines) == 51
    assert lines[-1] == "and 11 more"
