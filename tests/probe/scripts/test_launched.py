"""Programs that start Python: vram attaches to the process in them that trains, and they end together.

A package of the name torch stands for PyTorch, whose import takes seconds, and a `sitecustomize` for the trial.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vram_cli.errors import ConfigError, MachineError
from vram_cli.probe.scripts.attach import Sender
from vram_cli.probe.scripts.command import parse
from vram_cli.probe.scripts.launched import ProgramEnd, launch

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets"),
    pytest.mark.slow,
]

TORCH_OPTIMIZER = """
hooks = []
def register_optimizer_step_post_hook(hook): hooks.append(hook)
def step():
    for hook in hooks: hook(None, (), {})
"""

TRIAL = """
import sys, types
def attach_to_process(request, send):
    sys.modules["torch"].send = send
    sys.modules["torch"].request = request
module = types.ModuleType("vram_cli.probe.scripts.attached_trial")
module.attach_to_process = attach_to_process
sys.modules[module.__name__] = module
"""

TRAIN = """
import importlib.util, os, sys
assert importlib.util.find_spec("torch")  # a look is no import
import torch
torch.send({"kind": "phase", "argv": sys.argv, "request": torch.request})
try:
    torch.send({"kind": "done"})
    if "stay" in sys.argv:
        import time
        time.sleep(60)
finally:
    open("finally", "w")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "site" / "torch" / "optim").mkdir(parents=True)
    for name in ("torch", "torch/optim"):
        (tmp_path / "site" / name / "__init__.py").touch()
    (tmp_path / "site" / "torch" / "optim" / "optimizer.py").write_text(TORCH_OPTIMIZER)
    (tmp_path / "site" / "sitecustomize.py").write_text(TRIAL)
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path / "site"), str(Path(__file__).parents[3]))))
    return tmp_path


def run(folder: Path, *words: str, **variables: str) -> tuple[ProgramEnd, list[dict[str, Any]]]:
    listener = Listener()
    return launch(parse(words), variables, folder, {"batch_size": 8}, listener), listener.messages


@dataclass
class Listener:
    """Waits until all ranks are done, or one is lost."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    lost: list[int] = field(default_factory=list)
    ranks: int = 1

    @property
    def is_over(self) -> bool:
        return len(self.done) == self.ranks or (self.ranks > 1 and any(rank not in self.done for rank in self.lost))

    def receive(self, message: dict[str, Any], rank: int, ranks: int) -> None:
        self.ranks = ranks
        self.messages.append(message)
        if message.get("kind") == "done":
            self.done.add(rank)

    def lose(self, rank: int) -> None:
        self.lost.append(rank)


def test_the_process_that_trains_reports(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    launcher = 'echo "$GREETING"; "$0" -c "import torch"; exec "$0" train.py stay'  # the launcher imports torch, too
    end, messages = run(folder, "sh", "-c", launcher, sys.executable, GREETING="hello")
    assert end == ProgramEnd(exit_code=None, was_attached=True)
    assert messages == [
        {"kind": "phase", "argv": ["train.py", "stay"], "request": {"batch_size": 8}},
        {"kind": "done"},
    ]
    assert not (folder / "finally").exists()
    assert capfd.readouterr() == ("hello\n", "")  # no noise of a sitecustomize behind ours


def test_an_end_without_a_final_message(folder: Path) -> None:
    (folder / "train.py").write_text("import torch; torch.send({'kind': 'phase'}); raise SystemExit(7)")
    assert run(folder, "sh", "-c", '"$0" train.py', sys.executable) == (ProgramEnd(7, True), [{"kind": "phase"}])


def test_a_program_that_trains_nothing(folder: Path) -> None:
    assert run(folder, "sh", "-c", "exit 3") == (ProgramEnd(3, False), [])


def test_all_processes_end_with_it(folder: Path) -> None:
    adopt = f"from vram_cli.probe.process_tree import adopt_orphans; adopt_orphans()\n{LAUNCHING}"
    script = "(setsid sleep 86111 &); (sleep 86111 &) ; sleep 86111 & exec $0 train.py stay"
    done = subprocess.run(
        [sys.executable, "-c", adopt, script], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "done []\n", done.stderr


LAUNCHING = """
import sys, psutil
from vram_cli.probe.scripts.command import parse
from vram_cli.probe.scripts.launched import launch
from tests.probe.scripts.test_launched import Listener
end = launch(parse(["sh", "-c", sys.argv[1], sys.executable]), {}, ".", {}, Listener())
assert end.exit_code is None
print("done", [each.pid for each in psutil.process_iter(["cmdline"]) if "86111" in (each.info["cmdline"] or ())])
"""


RANKS = 'RANK=0 "$0" train.py {} & RANK=1 "$0" train.py {}; wait'


def test_ranks_report_on_their_own(folder: Path) -> None:
    (folder / "train.py").write_text(
        "import os, torch, time\n"
        "torch.send({'kind': 'done', 'rank': os.environ['RANK']})\n"
        "torch.send.wait_for_others()\n"
        "open('finally', 'w')\n"
    )
    listener = Listener(ranks=2)
    launcher = "\"$0\" -c 'import torch, time; time.sleep(1); torch.send({})' & " + RANKS  # no rank: not listened to
    command = parse(["sh", "-c", launcher, sys.executable])
    end = launch(command, {"WORLD_SIZE": "2"}, folder, {}, listener)
    assert end == ProgramEnd(None, True)
    assert sorted(message["rank"] for message in listener.messages) == ["0", "1"]
    assert not (folder / "finally").exists(), "a rank leaves before the others need it no more"


def test_a_rank_that_dies_is_told_of(folder: Path) -> None:
    (folder / "train.py").write_text(
        "import os, torch, time\n"
        "torch.send({'kind': 'phase'})\n"
        "time.sleep(60) if os.environ['RANK'] == '0' else os.kill(os.getpid(), 9)\n"
    )
    listener = Listener(ranks=2)
    launch(parse(["sh", "-c", RANKS, sys.executable]), {"WORLD_SIZE": "2"}, folder, {}, listener)
    assert listener.lost == [1]


def test_several_processes_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="the script starts 2 training processes by itself") as caught:
        run(folder, "sh", "-c", '"$0" train.py', sys.executable, WORLD_SIZE="2")
    assert "torchrun" in caught.value.hint
    (folder / "train.py").write_text(
        "import os, torch; torch.send({'kind': 'phase'}); os.fork() or torch.send({'kind': 'phase'}); os.wait()"
    )
    with pytest.raises(ConfigError, match="two processes of the script train"):
        run(folder, "sh", "-c", '"$0" train.py', sys.executable)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_training_in_multiprocessing_is_refused(method: str, folder: Path) -> None:
    (folder / "train.py").write_text(
        "import multiprocessing, torch.optim.optimizer\n"
        "if __name__ == '__main__':\n"
        f"    process = multiprocessing.get_context('{method}').Process(target=torch.optim.optimizer.step)\n"
        "    process.start(); process.join()\n"
    )
    with pytest.raises(ConfigError, match="trains in a process that it starts by multiprocessing"):
        run(folder, "sh", "-c", '"$0" train.py', sys.executable)


def test_loaders_of_data_do_not_report(folder: Path) -> None:
    (folder / "train.py").write_text(
        "import multiprocessing, torch\n"
        "context = multiprocessing.get_context('fork')\n"
        "process = context.Process(target=torch.send, args=({'kind': 'wrong'},), daemon=True)\n"
        "process.start(); process.join(); torch.send({'kind': 'done'})\n"
    )
    assert run(folder, "sh", "-c", '"$0" train.py', sys.executable)[1] == [{"kind": "done"}]


def test_a_python_that_lacks_the_packages_of_vram(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(folder / "other", symlinks=True, with_pip=False)
    monkeypatch.setenv("PYTHONPATH", str(folder / "site"))
    python = folder / "other" / "bin" / "python"
    with pytest.raises(MachineError, match=f"vram cannot be imported by {python}: .*No module named") as caught:
        run(folder, str(python), "train.py")
    assert caught.value.hint.endswith(f"{python} -m pip install vram-cli")


def test_a_script_has_the_path_of_python_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of vram, nor of its neighbours."""
    monkeypatch.setenv("PYTHONPATH", str(folder / "site"))
    (folder / "path.py").write_text("import sys; print(sys.path)")
    (folder / "train.py").write_text("import sys, torch; torch.send({'kind': 'done', 'path': sys.path})")
    _, (message,) = run(folder, "sh", "-c", '"$0" train.py', sys.executable)
    own = subprocess.run([sys.executable, str(folder / "path.py")], capture_output=True, check=True, text=True)
    assert str(message["path"]) == own.stdout.strip()


def test_a_program_that_cannot_start(folder: Path) -> None:
    (folder / "run.sh").write_bytes(b"\0")
    (folder / "run.sh").chmod(0o755)
    with pytest.raises(MachineError, match=r"the command cannot be started: .*run.sh: Exec format error"):
        run(folder, str(folder / "run.sh"))


def test_a_worker_that_has_gone_is_no_error_in_the_script(tmp_path: Path) -> None:
    sender = Sender(str(tmp_path / "nobody"))
    sender({"kind": "phase"})
    assert sender._socket is None
