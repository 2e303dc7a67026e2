"""The available RAM of this computer, including the cgroup limits of a container."""

from __future__ import annotations

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_DEFAULT_SHARE = 0.8


def default_capacity() -> int:
    """Return the capacity of the CPU in bytes if no limit is given: a share of the available RAM."""
    return int(available_bytes() * _DEFAULT_SHARE)


def available_bytes() -> int:
    """Return the available RAM of the system, or of the container if that is less."""
    return min([int(psutil.virtual_memory().available), *_cgroup_headrooms()])


def _cgroup_headrooms() -> list[int]:
    """Return limit minus use of each memory cgroup that holds this process (v2, then v1)."""
    folders = [(_CGROUP, "memory.max", "memory.current")]
    folders.append((_CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"))
    membership = Path("/proc/self/cgroup")
    if membership.exists():
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            inside = path.strip("/")
            if inside and not controllers:
                folders.append((_CGROUP / inside, "memory.max", "memory.current"))
            elif inside and "memory" in controllers.split(","):
                folders.append((_CGROUP / "memory" / inside, "memory.limit_in_bytes", "memory.usage_in_bytes"))
    headrooms = (_headroom(folder / limit, folder / usage) for folder, limit, usage in folders)
    return [headroom for headroom in headrooms if headroom is not None]


def _headroom(limit: Path, usage: Path) -> int | None:
    try:
        maximum, used = limit.read_text().strip(), int(usage.read_text())
    except OSError:
        return None
    if not maximum.isdigit():  # "max": no limit here
        return None
    return max(0, int(maximum) - used + _reclaimable(limit.parent / "memory.stat"))


def _reclaimable(stat: Path) -> int:
    """Return the page cache that the kernel reclaims before it kills a process; the group's usage includes it."""
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(value) for key, value in lines if key in ("inactive_file", "total_inactive_file")), 0)
