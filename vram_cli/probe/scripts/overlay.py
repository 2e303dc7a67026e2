"""Discard what a script writes into its working folder: an overlay in mount and user namespaces of its process.

Only Linux has it, and containers and some distributions forbid it. Nothing is left behind: the mounts are those of the
process and its children, and what was written lies in RAM, until they have ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000  # linux/sched.h
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_SLAVE = 2, 4, 0x4000, 1 << 19  # linux/mount.h
_CAPABILITY_VERSION = 0x20080522  # linux/capability.h
_OVERLAY_ATTRIBUTE = {True: "user.overlay.", False: "trusted.overlay."}
"""Attributes in which the overlay notes replaced folders; in a user namespace it needs those of users."""


class OverlayError(Exception):
    """The overlay is not possible; the message gives the reason."""


def obstacle(folder: str | os.PathLike[str]) -> str:
    """Return why a folder cannot have an overlay; "" if it can. A child of this process tries it."""
    if not sys.platform.startswith("linux"):
        return "only Linux has overlays"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.write(writing, _try(folder).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        reason = answer.read()
    _, status = os.waitpid(pid, 0)
    return reason or ("" if status == 0 else "the process that tried it was ended")


def _try(folder: str | os.PathLike[str]) -> str:
    try:
        enter(folder)
    except OverlayError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class Overlay:
    """An overlay over a folder, in the process that entered it."""

    upper: Path
    """What is written instead of into the folder."""
    lower: Path
    """The folder below."""

    def changes(self) -> tuple[str, ...]:
        """Return lines about the files that were made, changed and removed."""
        return tuple(sorted(self._changes("")))

    def size(self) -> int:
        """Return the bytes of all files that were written, which are in RAM."""
        files = (Path(folder, name) for folder, _, names in os.walk(self.upper) for name in names)
        return sum(file.lstat().st_blocks * 512 for file in files)

    def _changes(self, folder: str) -> Iterator[str]:
        with os.scandir(self.upper / folder) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                path = os.path.join(folder, entry.name)  # noqa: PTH118 - as text
                below = self.lower / path
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    yield f"removed {path}"
                elif not entry.is_dir(follow_symlinks=False):
                    yield f"{'changed' if os.path.lexists(below) else 'made'} {path}"
                elif not below.is_dir():
                    yield f"made {path}{os.sep}"
                elif _is_opaque(entry.path):
                    yield f"replaced {path}{os.sep}"
                else:
                    yield from self._changes(path)


def enter(folder: str | os.PathLike[str]) -> Overlay:
    """Put an overlay over a folder, for this process and its children. The process must have one thread.

    Raises:
        OverlayError: it is not possible; the process must end, since it may have entered its namespaces.
    """
    place, here = os.path.realpath(folder), os.getcwd()  # noqa: PTH109
    if place == os.sep:
        raise OverlayError("the folder is /")
    _check_mounts(place)
    in_user_namespace = _enter_namespaces(place)
    lower = os.open(place, os.O_PATH)
    _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0700")
    upper, work = _folders_in(place, in_user_namespace)
    os.fchmod(upper, stat.S_IMODE(os.fstat(lower).st_mode))
    layers = f"lowerdir=/proc/self/fd/{lower},upperdir=/proc/self/fd/{upper},workdir=/proc/self/fd/{work}"
    _mount("overlay", place, "overlay", _MS_NOSUID | _MS_NODEV, layers + ",userxattr" * in_user_namespace)
    os.close(work)
    if in_user_namespace:
        _drop_capabilities()
    os.chdir(here)
    return Overlay(Path(f"/proc/self/fd/{upper}"), Path(f"/proc/self/fd/{lower}"))


def _check_mounts(place: str) -> None:
    """Refuse a folder in which other file systems are mounted: the overlay would hide them."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    points = (re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), line.split()[4]) for line in lines)
    if inside := next((point for point in points if point.startswith(place + os.sep)), ""):
        raise OverlayError(f"another file system is mounted at {inside}")


def _check_owners(place: str) -> None:
    """Refuse a folder with files that a user namespace cannot copy: it knows one user and one group."""
    for path in (place, *(entry.path for entry in os.scandir(place))):
        status = os.lstat(path)
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()) and os.access(path, os.W_OK):
            raise OverlayError(f"{path} belongs to another user or group")


def _enter_namespaces(place: str) -> bool:
    """Enter a mount namespace, and a user namespace unless this process may mount; return whether it was needed.

    Root does without: in a user namespace it would have no power over the files of other users.
    """
    user, group = os.geteuid(), os.getegid()
    needs_user = user != 0 or _libc().unshare(_CLONE_NEWNS) != 0
    if needs_user:
        _check_owners(place)
        if _libc().unshare(_CLONE_NEWNS | _CLONE_NEWUSER) != 0:
            raise _error("this system allows no namespaces")
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            _write(f"/proc/self/{name}", line)
    if _libc().mount(None, b"/", None, _MS_REC | _MS_SLAVE, None) != 0:  # nothing may reach the system's mounts
        raise _error("mounts cannot be kept private")
    return needs_user


def _drop_capabilities() -> None:
    """Give up the powers that a process has in its own user namespace, such as to write into read-only files."""
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    if _libc().capset(header, none) != 0:
        raise _error("capabilities cannot be dropped")


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _write(path: str, line: str) -> None:
    try:
        Path(path).write_bytes(line.encode())
    except OSError as error:
        raise OverlayError(f"{path} cannot be written: {error.strerror}") from None


def _folders_in(place: str, in_user_namespace: bool) -> tuple[int, int]:
    """Make the folders of an overlay in a file system in RAM; return their descriptors, by which they are mounted."""
    descriptors = []
    for name in ("upper", "work"):
        path = os.path.join(place, name)  # noqa: PTH118
        os.mkdir(path)  # noqa: PTH102
        descriptors.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
    try:
        os.setxattr(descriptors[0], _OVERLAY_ATTRIBUTE[in_user_namespace] + "test", b"y")
        os.removexattr(descriptors[0], _OVERLAY_ATTRIBUTE[in_user_namespace] + "test")
    except OSError:  # the overlay could not replace folders
        raise OverlayError("files in RAM have no attributes before Linux 6.6") from None
    return descriptors[0], descriptors[1]


def _is_opaque(folder: str) -> bool:
    """Return whether a folder hides the one below it."""
    for prefix in _OVERLAY_ATTRIBUTE.values():
        with contextlib.suppress(OSError):
            return os.getxattr(folder, prefix + "opaque", follow_symlinks=False) == b"y"
    return False


def _mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    if _libc().mount(source.encode(), os.fsencode(target), kind.encode(), flags, data.encode()) != 0:
        raise _error(f"{kind} cannot be mounted")


def _error(problem: str) -> OverlayError:
    return OverlayError(f"{problem}: {os.strerror(ctypes.get_errno())}")
