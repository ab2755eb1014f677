"""The cpio archives are what cpio(5) calls "newc": read back here by an independent reader."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from tests.lab.archive import Cpio, from_tar, members


def read(data: bytes) -> dict[str, tuple[int, bytes]]:
    """name -> (mode, content), checking magic, padding and the trailer."""
    found: dict[str, tuple[int, bytes]] = {}
    inodes: set[int] = set()
    at = 0
    while True:
        assert at % 4 == 0
        assert data[at : at + 6] == b"070701"
        words = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        inode, mode, size, namesize = words[0], words[1], words[6], words[11]
        name = data[at + 110 : at + 110 + namesize - 1].decode()
        at = (at + 110 + namesize + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert at == len(data)
            return found
        assert inode not in inodes, "two entries would be hard links"
        inodes.add(inode)
        assert name not in found
        found[name] = (mode, data[at : at + size])
        at = (at + size + 3) // 4 * 4


def test_files_get_their_directories_once(tmp_path: Path) -> None:
    out = io.BytesIO()
    (tmp_path / "tool").write_bytes(b"#!x")
    (tmp_path / "tool").chmod(0o700)
    (tmp_path / "skipped.pyc").write_bytes(b"")
    with Cpio(out) as cpio:
        cpio.file("a/b/one", b"1")
        cpio.file("a/b/two", b"22222")
        cpio.symlink("a/link", "b/one")
        cpio.tree(tmp_path, "t", lambda path: path.suffix != ".pyc")
    entries = read(out.getvalue())
    assert list(entries) == ["a", "a/b", "a/b/one", "a/b/two", "a/link", "t", "t/tool"]
    assert entries["a/b"] == (0o40755, b"")
    assert entries["a/b/two"] == (0o100644, b"22222")
    assert entries["a/link"] == (0o120777, b"b/one")
    assert entries["t/tool"] == (0o100755, b"#!x")


def test_a_tar_becomes_an_archive() -> None:
    source, out = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=source, mode="w") as tar:
        for name, kind, link in (
            (".", tarfile.DIRTYPE, ""), ("./.hidden", tarfile.DIRTYPE, ""),
            ("./bin", tarfile.SYMTYPE, "usr/bin"), ("./dev/null", tarfile.CHRTYPE, ""),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, link, 0o755
            tar.addfile(member)
        file = tarfile.TarInfo("./usr/f")
        file.size, file.mode = 3, 0o4755
        tar.addfile(file, io.BytesIO(b"abc"))
        hard = tarfile.TarInfo("./usr/h")
        hard.type, hard.linkname, hard.mode = tarfile.LNKTYPE, "./usr/f", 0o644
        tar.addfile(hard)
    source.seek(0)
    from_tar(source, out, lambda name: not name.startswith("dev/"))
    entries = read(out.getvalue())
    assert entries["."] == (0o40755, b"")
    assert ".hidden" in entries
    assert "dev/null" not in entries
    assert entries["bin"][1] == b"usr/bin"
    assert entries["usr/f"] == (0o104755, b"abc")
    assert entries["usr/h"][1] == b"abc"


def test_files_are_read_back_and_nothing_else() -> None:
    out = io.BytesIO()
    with Cpio(out) as cpio:
        cpio.file("lib/a.ko", b"12345")
        cpio.symlink("lib/b.ko", "a.ko")
        cpio.file("lib/empty", b"")
        cpio.char_device("dev/console", 0o600, 5, 1)
        cpio.file("lib/c.ko", bytes(range(256)))
    out.seek(0)
    assert list(members(out)) == [
        ("lib/a.ko", b"12345"),
        ("lib/empty", b""),
        ("lib/c.ko", bytes(range(256))),
    ]
