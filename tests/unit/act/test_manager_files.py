"""Files that a network manager reads: whole or not there, and for no netdev but those meant."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from manactl.act import manager_files
from manactl.netstate.unmanaged import UnmanagedLink
from tests.unit.wording import says

MARKED = UnmanagedLink("eth1", 3, "00:0d:3a:aa:00:10", "mana", True)
NAMED = UnmanagedLink("eth1", 3, None, None, True)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_made_and_replaced(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "NetworkManager/conf.d/zz.conf"
    for text in ("one\n", "another\n"):
        manager_files.write(path, text, durable=durable)
        assert path.read_text() == text
        assert os.listdir(path.parent) == [path.name]
        assert mode(path) == 0o644


@pytest.mark.parametrize("durable", [False, True])
def test_what_is_to_last_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    path = tmp_path / "zz.conf"
    path.write_text("old\n")
    synced = []
    real = os.fsync

    def fsync(fd: int) -> None:
        what = Path(f"/proc/self/fd/{fd}").readlink()
        stands = manager_files.unfinished(path)
        synced.append((what, stands.read_text() if stands.exists() else None, path.read_text()))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    manager_files.write(path, "new\n", durable=durable)
    both = [(manager_files.unfinished(path), "new\n", "old\n"), (tmp_path, None, "new\n")]
    assert synced == (both if durable else [])
    assert path.read_text() == "new\n"


def test_what_an_interrupted_write_has_left_is_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "zz.conf", tmp_path / "other"
    other.write_text("mine\n")
    manager_files.unfinished(path).symlink_to(other)
    manager_files.write(path, "ours\n")
    assert (path.read_text(), other.read_text()) == ("ours\n", "mine\n")
    assert not path.is_symlink()


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "zz.conf"
    path.write_text("old\n")
    with pytest.raises(FileNotFoundError):
        manager_files.write(path, "new\n", like=[str(tmp_path / "gone")])
    assert path.read_text() == "old\n"


def test_nobody_reads_it_who_may_not_read_all_that_it_is_like(tmp_path: Path) -> None:
    path, like = tmp_path / "10.network", [tmp_path / "one", tmp_path / "two"]
    for one, rights in zip(like, (0o640, 0o604), strict=True):
        one.touch()
        one.chmod(rights)
    manager_files.write(path, "", like=[*map(str, like)])
    assert mode(path) == 0o600


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_the_group_that_may_read_the_one_that_others_may_not_reads_it(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    """The link's own file may be anybody's, and a drop-in of it networkd's group's alone."""
    path, like = tmp_path / "10.network", []
    for name, rights, group in (("open", 0o644, 0), ("closed", 0o640, 998), ("more", 0o640, 998)):
        one = tmp_path / name
        one.touch()
        one.chmod(rights)
        os.chown(one, -1, group)
        like.append(str(one))
    manager_files.write(path, "", like=[like[n] for n in order])
    assert (mode(path), path.stat().st_gid) == (0o640, 998)
    os.chown(like[2], -1, 997)
    with pytest.raises(PermissionError, match=says("may be read by different groups")):
        manager_files.write(path, "", like=[like[n] for n in order])


def test_a_folder_is_made_that_a_manager_can_read(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        manager_files.write(tmp_path / "conf.d/zz.conf", "")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "conf.d"), mode(tmp_path / "conf.d/zz.conf")) == (0o755, 0o644)


def test_a_folder_that_is_not_there_has_nothing_to_be_synced(tmp_path: Path) -> None:
    manager_files.sync(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        manager_files.sync(tmp_path / "file")


def test_networkd_goes_by_the_address_and_the_driver_else_by_the_name() -> None:
    assert manager_files.match_section(MARKED) == [
        "[Match]", "PermanentMACAddress=00:0d:3a:aa:00:10", "Driver=mana",
    ]  # fmt: skip
    assert manager_files.match_section(NAMED) == ["[Match]", "Name=eth1"]


def test_networkmanager_is_told_of_each_device_once() -> None:
    names = [manager_files.by_name(NAMED), manager_files.by_mac(MARKED)]
    assert names == ["interface-name:=eth1", "mac:00:0d:3a:aa:00:10"]
    which = "interface-name:=eth1;mac:00:0d:3a:aa:00:10"
    assert manager_files.device_sections("0", [*names, names[0]]).splitlines() == [
        "[keyfile]", f"unmanaged-devices+={which}", "",
        "[device-manactl-0]", f"match-device={which}", "managed=0",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["*", "e?h", "a;b", "!x", "a,b", "a b", "[a]", 'a"', "a\\", "a\t"])
def test_a_name_that_would_match_others_is_refused(name: str) -> None:
    assert not manager_files.is_plain(name)
    odd = replace(NAMED, name=name)
    for said in (manager_files.match_section, manager_files.by_name):
        with pytest.raises(OSError, match=says("has no other mark to match by")):
            said(odd)


def test_a_name_is_bytes(tmp_path: Path) -> None:
    path = tmp_path / "zz.conf"
    manager_files.write(path, manager_files.by_name(replace(NAMED, name="eth\udcff")))
    assert path.read_bytes() == b"interface-name:=eth\xff"
