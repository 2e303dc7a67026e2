"""Available RAM and GPU processes, from real cgroup files and real output of nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from vram_cli.errors import MachineError
from vram_cli.probe.devices.cuda import parse_processes
from vram_cli.probe.devices.host_memory import _headroom, available_bytes
from vram_cli.probe.devices.open_monitor import open_monitor

MIB = 1024**2
UUID = "1d2c4b9a-0000-1111-2222-333344445555"


def group(folder: Path, limit: str, used: int, inactive: int = 0) -> int | None:
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\nactive_file 7\n")
    return _headroom(folder / "memory.max", folder / "memory.current")


def test_container_limit_minus_its_use(tmp_path: Path) -> None:
    assert group(tmp_path, str(4096 * MIB), 1024 * MIB) == 3072 * MIB


def test_reclaimable_page_cache_counts_as_available(tmp_path: Path) -> None:
    assert group(tmp_path, str(4096 * MIB), 3072 * MIB, inactive=2048 * MIB) == 3072 * MIB


def test_no_limit_and_no_file(tmp_path: Path) -> None:
    assert group(tmp_path, "max", 5) is None
    assert _headroom(tmp_path / "nowhere", tmp_path / "nothing") is None


def test_group_over_its_limit_has_no_headroom(tmp_path: Path) -> None:
    assert group(tmp_path, "100", 200) == 0


def test_available_memory_is_at_most_the_total() -> None:
    assert 0 < available_bytes() <= psutil.virtual_memory().total


def test_other_processes_on_the_gpu() -> None:
    text = (
        f"GPU-{UUID}, 4242, /usr/bin/python3, 1024\n"
        f"GPU-{UUID}, 99, /opt/my app, with comma/run, 300\n"
        f"GPU-{UUID}, 7, /usr/bin/self, 2048\n"
        "GPU-aaaa, 8, /usr/bin/other-gpu, 512\n"
        f"GPU-{UUID}, 12, [Not Found], [N/A]\n"
        "\n"
    )
    assert parse_processes(text, UUID, own_pid=7) == [
        ("/usr/bin/python3 (pid 4242): 1024 MiB", 1024 * MIB),
        ("/opt/my app,with comma/run (pid 99): 300 MiB", 300 * MIB),
        ("[Not Found] (pid 12): size unknown", 0),
    ]


def test_no_processes_without_nvidia_smi() -> None:
    assert parse_processes("", UUID, own_pid=1) == []


@pytest.mark.parametrize("name", ["mps", "xpu"])
def test_missing_device_is_refused(name: str) -> None:
    with pytest.raises(MachineError, match=r"device\.name: ") as caught:
        open_monitor(name, None)
    assert caught.value.exit_code == 3
    assert "--device cpu" in caught.value.hint
