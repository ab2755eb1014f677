"""A disk whose every write and flush is logged, and what a power cut would have left of it.

QEMU's blklogwrites keeps the log in the format of Linux's dm-log-writes
(Documentation/admin-guide/device-mapper/log-writes.rst): a sector with the superblock, then for
each request a sector with its header and after that its data. A drive may lose what it has not
been told to flush: the disk as of a flush is all that is sure.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECTOR = 512
_MAGIC = 0x6A736677736872
_SUPER = struct.Struct("<QQQI")
_HEADER = struct.Struct("<QQQQ")
_FLUSH, _FUA, _DISCARD = 1, 2, 4
_START = 2048  # first sector of the file system's partition
_SIZE = 32768  # its sectors: 16 MiB
_MARKS = _START + _SIZE  # first sector of the second partition
_TYPE_LINUX = 0x83


@dataclass(frozen=True, slots=True)
class Entry:
    """One logged request, in sectors; `data` is where its bytes are in the log."""

    sector: int
    count: int
    flags: int
    data: int

    @property
    def is_flush(self) -> bool:
        return bool(self.flags & (_FLUSH | _FUA))


def make_disk(path: Path) -> None:
    """A disk with an ext4 file system in its first partition, and a small second one."""
    path.write_bytes(bytes(SECTOR * (_MARKS + 2048)))
    with path.open("r+b") as file:
        file.seek(446)
        for start, size in ((_START, _SIZE), (_MARKS, 2048)):
            file.write(struct.pack("<B3xB3xII", 0, _TYPE_LINUX, start, size))
        file.seek(510)
        file.write(b"\x55\xaa")
    options = f"offset={_START * SECTOR},lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-E", options, str(path), f"{_SIZE // 2}k"]
    _run(argv)


def nodes(disk: Path, log: Path) -> dict[str, Any]:
    """The arguments of QMP's blockdev-add for a logged disk; its node is called `logged`.

    Flushes are logged and not passed on: the host's own disk is not the one that loses power.
    """
    cache = {"direct": False, "no-flush": True}

    def file(path: Path) -> dict[str, Any]:
        return {"driver": "file", "filename": str(path), "cache": cache}

    more = {"log-sector-size": SECTOR, "file": file(disk), "log": file(log)}
    return {"driver": "blklogwrites", "node-name": "logged", **more}


class Log:
    """The log as it is now, over the disk `base` as it was when entry `since` was written."""

    def __init__(self, path: Path, base: bytes, since: int = 0) -> None:
        self._log = path.read_bytes()
        self._base = base
        magic, version, _, size = _SUPER.unpack_from(self._log)
        assert (magic, version, size) == (_MAGIC, 1, SECTOR), "not a log of writes"
        self.entries = list(self._parse())
        self._since = since

    def _parse(self) -> Iterator[Entry]:
        at = SECTOR
        while at + SECTOR <= len(self._log):
            sector, count, flags, _ = _HEADER.unpack_from(self._log, at)
            data = at + SECTOR
            at = data + (0 if flags & _DISCARD else count * SECTOR)
            yield Entry(sector, count, flags, data)

    @property
    def flushes(self) -> list[int]:
        """The entries that flushed something, from `since` on."""
        return [n for n in range(self._since, len(self.entries)) if self.entries[n].is_flush]

    @property
    def marks(self) -> list[tuple[int, str]]:
        """Entry and text of every write to the second partition, from `since` on."""
        found = []
        for number in range(self._since, len(self.entries)):
            entry = self.entries[number]
            if entry.count and entry.sector >= _MARKS:
                text = self._log[entry.data : entry.data + SECTOR].rstrip(b"\0").decode()
                found.append((number, text.removeprefix("mark ").rstrip("\n")))
        return found

    def sure_before(self, number: int) -> int:
        """The last flush before an entry; -1 when there is none from `since` on."""
        return max((n for n in self.flushes if n < number), default=-1)

    def disk(self, upto: int) -> bytes:
        """The disk when it had everything up to and with entry `upto`, and nothing later."""
        image = bytearray(self._base)
        for entry in self.entries[self._since : upto + 1]:
            start, size = entry.sector * SECTOR, entry.count * SECTOR
            if entry.flags & _DISCARD:
                image[start : start + size] = bytes(size)
            elif size:
                image[start : start + size] = self._log[entry.data : entry.data + size]
        return bytes(image)


def read_tree(image: bytes, work: Path) -> dict[str, bytes]:
    """The files of the image's file system after the replay of its journal, which must suffice."""
    part, into = work / "part.img", work / "tree"
    part.write_bytes(image[_START * SECTOR : _MARKS * SECTOR])
    _run(["e2fsck", "-y", "-E", "journal_only", str(part)])
    _run(["e2fsck", "-f", "-n", str(part)])
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    _run(["debugfs", "-R", f"rdump / {into}", str(part)])
    files = (path for path in into.rglob("*") if path.is_file())
    return {str(path.relative_to(into)): path.read_bytes() for path in files}


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, check=False, text=True, capture_output=True)
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
