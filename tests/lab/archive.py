"""Cpio archives of the "newc" kind, the format the kernel unpacks as initramfs.

The kernel reads several concatenated archives in turn, later entries replacing earlier ones
(Documentation/driver-api/early-userspace/buffer-format.rst): a constant base and a small overlay
need no rebuild of the base. Here rather than by cpio(1): no package, no root, no device nodes.
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_TRAILER = "TRAILER!!!"


class Cpio:
    """One archive being written to a binary file; use as a context manager."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._ino = 0
        self._dirs: set[str] = set()

    def __enter__(self) -> Cpio:
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            self._entry(_TRAILER, 0, b"", nlink=1)

    def _entry(
        self,
        name: str,
        mode: int,
        data: bytes,
        *,
        nlink: int = 1,
        mtime: int = 0,
        uid: int = 0,
        gid: int = 0,
        major: int = 0,
        minor: int = 0,
    ) -> None:
        self._ino += 1  # never 0, and unique: equal inodes would be taken for hard links
        raw = name.encode() + b"\0"
        fields = (
            self._ino,
            mode,
            uid,
            gid,
            nlink,
            mtime,
            len(data),
            0,
            0,
            major,
            minor,
            len(raw),
            0,
        )
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        self._out.write(head + bytes(-len(head) % 4))
        self._out.write(data)
        self._out.write(bytes(-len(data) % 4))

    def parents(self, name: str) -> None:
        """Add the directories above `name` that this archive does not have yet."""
        parts = name.split("/")[:-1]
        for i in range(1, len(parts) + 1):
            self.directory("/".join(parts[:i]))

    def directory(self, name: str, mode: int = 0o755, **attrs: int) -> None:
        if name not in self._dirs:
            self._dirs.add(name)
            self._entry(name, stat.S_IFDIR | mode, b"", nlink=2, **attrs)

    def file(self, name: str, data: bytes, mode: int = 0o644, **attrs: int) -> None:
        self.parents(name)
        self._entry(name, stat.S_IFREG | mode, data, **attrs)

    def symlink(self, name: str, target: str, **attrs: int) -> None:
        self.parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode(), **attrs)

    def char_device(self, name: str, mode: int, major: int, minor: int) -> None:
        self.parents(name)
        self._entry(name, stat.S_IFCHR | mode, b"", major=major, minor=minor)

    def tree(
        self, top: Path, under: str, wanted: Callable[[Path], bool], mtime: int | None = None
    ) -> None:
        """Add the files below `top` that are `wanted`, at `under`, owned by root.

        `mtime` is that of each, in seconds; None: its own.
        """
        for path in sorted(top.rglob("*")):
            if not path.is_file() or not wanted(path):
                continue
            mode = 0o755 if path.stat().st_mode & 0o111 else 0o644
            name = f"{under}/{path.relative_to(top)}"
            time = int(path.stat().st_mtime) if mtime is None else mtime
            self.file(name, path.read_bytes(), mode, mtime=time)


def from_tar(source: BinaryIO, out: BinaryIO, wanted: Callable[[str], bool]) -> None:
    """Turn the tar stream `source` into one archive of the members whose path is `wanted`.

    Hard links become copies: unpacking is to memory, and there are few.
    """
    with tarfile.open(fileobj=source, mode="r:") as tar, Cpio(out) as cpio:
        for member in tar:
            name = member.name.removeprefix(".").strip("/")
            if not wanted(name):
                continue
            name = name or "."  # the root itself: else it is a world-writable tmpfs
            attrs = {"uid": member.uid, "gid": member.gid, "mtime": max(0, int(member.mtime))}
            mode = member.mode & 0o7777
            if member.isdir():
                cpio.directory(name, mode, **attrs)
            elif member.issym():
                cpio.symlink(name, member.linkname, **attrs)
            elif member.isreg() or member.islnk():
                content = tar.extractfile(member)
                assert content is not None
                cpio.file(name, content.read(), mode, **attrs)


def members(source: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Name and content of each regular file in one archive, in its order."""
    while True:
        head = source.read(110)
        fields = [int(head[at : at + 8], 16) for at in range(6, 110, 8)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = source.read(name_size)[:-1].decode()
        source.read(-(110 + name_size) % 4)
        if name == _TRAILER:
            return
        data = source.read(size)
        source.read(-size % 4)
        if stat.S_ISREG(mode):
            yield name, data
