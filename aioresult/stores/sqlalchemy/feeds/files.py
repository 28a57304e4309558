"""Events of a database's files, from Linux's inotify: they change when another process has written."""

from __future__ import annotations

import asyncio
import ctypes
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from sqlalchemy.engine import URL

if TYPE_CHECKING:
    from inotify_simple import INotify

_LOCAL: Final = frozenset(
    "aufs bcachefs btrfs ecryptfs erofs exfat ext2 ext3 ext4 f2fs hfs hfsplus iso9660 jffs2 jfs minix msdos nilfs2 "
    "ntfs ntfs3 overlay ramfs reiser4 reiserfs rootfs squashfs tmpfs ubifs udf vfat xfs zfs".split()
)
"""Kinds of file systems on which this machine's kernel notices every write, and all processes can share memory.

Other file systems may belong to a network or to another kernel, such as FUSE, drvfs and fakeowner.
"""
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
"""The form of escaped characters, such as spaces, in the list of mounts."""
_MOUNTS: Final = Path("/proc/self/mountinfo")


def path_of(url: URL) -> Path | None:
    """Return the path of the database of ``url``, or ``None`` for one in memory."""
    name = url.database or ""
    is_uri = name.startswith("file:")
    name = name.removeprefix("file:")
    if name in ("", ":memory:") or url.query.get("mode") == "memory":
        return None
    if is_uri:
        name = unquote(name.removeprefix("//") if name.startswith("///") else name)
    return Path(name)


def obstacle(path: Path) -> str:
    """Return why events of the file at ``path`` are not available, or an empty string if they are."""
    if not sys.platform.startswith("linux"):
        return f"there are no file events on {sys.platform}, only on Linux"
    try:
        import inotify_simple  # noqa: F401  (tests whether it is installed)
    except ImportError:
        return 'file events need the package inotify-simple: pip install "aioresult-backend[sqlalchemy]"'
    kind = network_of(path)
    if kind:
        return f"{path} is not on a local file system ({kind}), so that writes of other machines would cause no events"
    return ""


def network_of(path: Path) -> str:
    """Return the kind of file system that holds ``path``, or an empty string if it is a local one.

    It is the kind of the longest mount point that contains the path.
    """
    if not sys.platform.startswith("linux"):
        return ""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return "of an unknown kind"
    longest, kind = -1, ""
    real = path.resolve()
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields.split()[4])
        if len(point) >= longest and real.is_relative_to(point):
            longest, kind = len(point), rest.split()[0]
    return "" if kind in _LOCAL else kind


class FileWatch:
    """Calls ``changed`` when one of the files is written, created or deleted; the files need not exist yet.

    The folder is watched for created and deleted files, and each file for writes, so that other files of the folder
    cost nothing. ``changed`` is called in the loop's thread with a file's name, or with an empty string when events
    were lost.
    """

    def __init__(self, folder: Path, names: frozenset[str], changed: Callable[[str], None]) -> None:
        self._folder = folder
        self._names = names
        self._changed = changed
        self._watches: dict[int, str] = {}
        self._inotify: INotify | None = None
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Begin watching.

        Raises:
            OSError: the system's limit of watches is reached, or the folder does not exist.
        """
        self._inotify = inotify = _open()
        from inotify_simple import flags

        inotify.add_watch(self._folder, flags.CREATE | flags.DELETE | flags.MOVED_TO | flags.MOVED_FROM)
        for name in self._names:
            self._add(inotify, name)
        self._loop.add_reader(inotify.fileno(), self._read, inotify)

    def close(self) -> None:
        """End watching; harmless when called twice."""
        inotify, self._inotify = self._inotify, None
        if inotify is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(inotify.fileno())
            inotify.close()

    def _add(self, inotify: INotify, name: str) -> None:
        from inotify_simple import flags

        with suppress(FileNotFoundError):  # its creation causes an event of the folder
            self._watches[inotify.add_watch(self._folder / name, flags.MODIFY)] = name

    def _read(self, inotify: INotify) -> None:
        from inotify_simple import flags

        changed: dict[str, None] = {}
        for event in inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                changed[""] = None
            elif event.mask & flags.IGNORED:
                self._watches.pop(event.wd, None)
            elif event.mask & flags.MODIFY:
                changed[self._watches.get(event.wd, "")] = None
            elif event.name in self._names:
                if event.mask & (flags.CREATE | flags.MOVED_TO):
                    self._add(inotify, event.name)
                changed[event.name] = None
        for name in changed:
            self._changed(name)


def _open() -> INotify:
    import inotify_simple

    # It would search the C library by name, which starts other programs; every process has loaded it already.
    inotify_simple._libc = inotify_simple._libc or ctypes.CDLL(None, use_errno=True)
    return inotify_simple.INotify(nonblocking=True)
