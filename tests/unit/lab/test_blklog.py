"""The log of a disk's writes, replayed to its flushes."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.lab.blklog import _MARKS, SECTOR, Log

FLUSH, DISCARD = 1, 4


def entry(sector: int, data: bytes = b"", flags: int = 0, count: int | None = None) -> bytes:
    count = len(data) // SECTOR if count is None else count
    return struct.pack("<QQQQ", sector, count, flags, 0).ljust(SECTOR, b"\0") + data


def log(path: Path, *entries: bytes) -> Path:
    head = struct.pack("<QQQI", 0x6A736677736872, 1, len(entries), SECTOR).ljust(SECTOR, b"\0")
    path.write_bytes(head + b"".join(entries))
    return path


def sector(text: str) -> bytes:
    return text.encode().ljust(SECTOR, b"\0")


def test_a_cut_keeps_what_was_flushed(tmp_path: Path) -> None:
    path = log(
        tmp_path / "log",
        entry(1, sector("first")),
        entry(0, flags=FLUSH),
        entry(_MARKS, sector("mark unlink\n")),
        entry(1, sector("second")),
        entry(2, flags=DISCARD, count=1),
        entry(0, flags=FLUSH),
    )
    base = sector("base") * 3
    found = Log(path, base)
    assert found.flushes == [1, 5]
    assert found.marks == [(2, "unlink")]
    assert found.sure_before(2) == 1
    assert found.sure_before(1) == -1
    assert found.disk(1) == sector("base") + sector("first") + sector("base")
    assert found.disk(5)[: 3 * SECTOR] == sector("base") + sector("second") + bytes(SECTOR)
    later = Log(path, base, since=2)
    assert later.flushes == [5]
    assert later.disk(2)[: 3 * SECTOR] == base
