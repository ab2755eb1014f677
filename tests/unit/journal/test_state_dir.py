"""The directory of journals is private, has room, and is swept of what never became one."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from manactl.errors import Refused
from manactl.journal import file as journal
from manactl.journal import state_dir
from manactl.journal.file import Journal
from tests.unit.fakes import PORT
from tests.unit.journal.test_file import HEADER
from tests.unit.wording import Coded, says

PARTS = ("", "claims", "history", "locks")


def test_it_is_made_with_all_above_it_and_its_parts_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        state_dir.prepare(tmp_path / "var/lib/manactl")
    finally:
        os.umask(before)
    for part in PARTS:
        assert (tmp_path / "var/lib/manactl" / part).stat().st_mode & 0o7777 == 0o700
    state_dir.prepare(tmp_path / "var/lib/manactl")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("part", PARTS)
def test_a_directory_of_another_user_is_refused(tmp_path: Path, part: str) -> None:
    state_dir.prepare(tmp_path / "state")
    os.chown(tmp_path / "state" / part, 65534, 0)
    with pytest.raises(
        Refused,
        match=says("not a directory of this user; nothing was touched"),
        check=Coded("state-dir", untouched=True),
    ) as why:
        Journal.create(tmp_path / "state", HEADER, [PORT])
    assert str(tmp_path / "state" / part) in why.value.message
    assert (why.value.exit_code, why.value.code) == (3, "state-dir")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("bit", [stat.S_IWGRP, stat.S_IWOTH])
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path, part: str, bit: int) -> None:
    state_dir.prepare(tmp_path / "state")
    (tmp_path / "state" / part).chmod(0o700 | bit)
    with pytest.raises(
        Refused, match=says(f"mode {0o700 | bit:o}: others may write it"), check=Coded("state-dir")
    ):
        state_dir.prepare(tmp_path / "state")
    (tmp_path / "state" / part).chmod(0o755)  # to read is no harm
    state_dir.prepare(tmp_path / "state")


@pytest.mark.parametrize("part", PARTS)
def test_a_link_or_a_file_is_no_directory(tmp_path: Path, part: str) -> None:
    state_dir.prepare(tmp_path / "state")
    place = tmp_path / "state" / part if part else tmp_path / "state"
    place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "moved")
    with pytest.raises(
        Refused, match=says("not a directory of this user"), check=Coded("state-dir")
    ):
        state_dir.prepare(tmp_path / "state")
    place.unlink()
    place.write_text("")
    with pytest.raises(Refused):
        state_dir.prepare(tmp_path / "state")


@pytest.mark.wording
@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EDQUOT, "raise the quota"),
        (errno.EROFS, "mount it writable"),
        (errno.EACCES, "run it as root"),
        (errno.EIO, "that"),
    ],
)
def test_what_to_do_about_it_is_reported(tmp_path: Path, number: int, remedy: str) -> None:
    refused = state_dir.unusable(tmp_path, OSError(number, os.strerror(number)))
    assert f"{tmp_path}: {os.strerror(number)}; nothing was touched" in refused.message
    assert remedy in (refused.hint or "").partition(",")[0]
    assert "restored after a crash" in (refused.hint or "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_without_room_to_grow_there_is_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_args: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.ioctl", full)
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(Refused, match=os.strerror(number)):
        Journal.create(tmp_path, HEADER, [PORT])
    assert os.listdir(tmp_path / "claims") == []
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL])
def test_a_file_system_that_cannot_reserve_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def cannot(*_args: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.ioctl", cannot)
    Journal.create(tmp_path, HEADER, [PORT]).close()
    assert len(journal.paths(tmp_path)) == 1


def test_the_room_is_behind_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 10_000)
    fd = os.open(path, os.O_RDWR)
    try:
        state_dir.reserve(fd, 10_000, 1 << 20)
    finally:
        os.close(fd)
    info = path.stat()
    assert info.st_size == 10_000
    assert 10_000 + (1 << 20) <= info.st_blocks * 512 <= 10_000 + (1 << 20) + 16384


def test_only_headers_that_nobody_writes_any_more_are_swept(tmp_path: Path) -> None:
    now = time.time()
    for name, age in (
        (".old.journal.new", 61),
        (".young.journal.new", 50),
        ("old.journal.new", 1000),
        (".old.journal", 1000),
        ("open.journal", 1000),
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age, now - age))
    (tmp_path / ".directory.new").mkdir()
    os.utime(tmp_path / ".directory.new", (now - 1000, now - 1000))
    state_dir.sweep(tmp_path)
    assert ".old.journal.new" not in os.listdir(tmp_path)
    assert len(os.listdir(tmp_path)) == 5


def test_a_directory_is_synced_and_its_descriptor_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    before = sorted(os.listdir("/proc/self/fd"))
    state_dir.sync(tmp_path)
    assert synced == [str(tmp_path)]
    assert sorted(os.listdir("/proc/self/fd")) == before
