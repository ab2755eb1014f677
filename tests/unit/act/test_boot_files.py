"""Files below /etc by which a manager leaves netdevs alone: what stands in them, whole or not."""

from __future__ import annotations

import configparser
import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manactl.act.boot_files import BootFiles, NotTold
from manactl.look import boot_files
from manactl.model.port import PortId
from manactl.netstate.left_down import LeftDown
from manactl.netstate.unmanaged import NETWORK_MANAGER, NETWORKD, Unmanaged, UnmanagedLink
from tests.unit.wording import says

PORT = PortId("7870:00:00.0", 2, "00:0d:3a:aa:00:11")
VF = UnmanagedLink("eth1", 3, "00:0d:3a:aa:00:11", "mana", True)
SYNTHETIC = UnmanagedLink("eth0", 2, "00:0d:3a:aa:00:11", "hv_netvsc", True, "uuid", 3)


def kept(manager: str, *links: UnmanagedLink) -> LeftDown:
    return LeftDown(PORT, "eth0", Unmanaged(manager, "7870-00-00.0-2", links or (SYNTHETIC, VF)))


def ini(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters=("+=", "="))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser


def test_networkd_gets_a_file_for_each_netdev(tmp_path: Path) -> None:
    files = BootFiles(tmp_path)
    one = kept(NETWORKD)
    assert not files.are_there(one)
    files.write(one)
    assert files.are_there(one)
    for path, driver in zip(files.paths(one), ("hv_netvsc", "mana"), strict=True):
        parsed = ini(path)
        assert dict(parsed["Match"]) == {
            "PermanentMACAddress": "00:0d:3a:aa:00:11",
            "Driver": driver,
            "KernelCommandLine": "!elfcorehdr",
        }
        assert dict(parsed["Link"]) == {"Unmanaged": "yes", "RequiredForOnline": "no"}
        assert path.stat().st_mode & 0o777 == 0o644
    assert sorted(p.name for p in (tmp_path / "systemd/network").iterdir()) == [
        "00-1-manactl-7870-00-00.0-2-0.network", "00-1-manactl-7870-00-00.0-2-1.network",
    ]  # fmt: skip


def test_it_comes_after_the_hold_of_a_claim_and_before_everybody_elses(tmp_path: Path) -> None:
    (first, _) = BootFiles(tmp_path).paths(kept(NETWORKD))
    names = [first.name, "00-0-manactl-7870-00-00.0-2-0.network", "00-installer.network",
             "05-azure.network", "10-netplan-eth0.network"]  # fmt: skip
    assert sorted(names).index(first.name) == 1
    assert sorted(names)[0].startswith("00-0-manactl-")


def test_networkmanager_gets_one_file_that_an_initrd_does_not_read(tmp_path: Path) -> None:
    files = BootFiles(tmp_path)
    files.write(kept(NETWORK_MANAGER))
    (path,) = files.paths(kept(NETWORK_MANAGER))
    assert path == tmp_path / "NetworkManager/conf.d/zz-manactl-boot-7870-00-00.0-2.conf"
    parsed = ini(path)
    assert parsed[".config"]["enable"] == "except:env:initrd"
    assert parsed["keyfile"]["unmanaged-devices"] == "mac:00:0d:3a:aa:00:11"
    device = parsed["device-manactl-boot-7870-00-00.0-2"]
    assert (device["match-device"], device["managed"]) == ("mac:00:0d:3a:aa:00:11", "0")


def test_a_netdev_without_a_permanent_address_goes_by_its_name(tmp_path: Path) -> None:
    files = BootFiles(tmp_path)
    nameless = UnmanagedLink("bond0", 4, None, None, True)
    for manager, said in (
        (NETWORKD, "Name=bond0"),
        (NETWORK_MANAGER, "match-device=interface-name:=bond0"),
    ):
        files.write(kept(manager, nameless))
        assert said in files.paths(kept(manager, nameless))[0].read_text()


@pytest.mark.parametrize("manager", [NETWORKD, NETWORK_MANAGER])
def test_what_is_written_is_found_and_removed(tmp_path: Path, manager: str) -> None:
    files, one = BootFiles(tmp_path), kept(manager)
    files.write(one)
    files.write(one)  # half done like done
    found = boot_files.find(str(tmp_path))
    assert {LeftDown.from_json(file.said) for file in found} == {one}
    assert files.remove(one) == ()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert files.remove(one) == ()


def test_one_that_somebody_has_removed_keeps_no_other(tmp_path: Path) -> None:
    files, one = BootFiles(tmp_path), kept(NETWORKD)
    files.write(one)
    first, second = files.paths(one)
    first.unlink()
    assert files.remove(one) == ()
    assert not second.exists()


def test_one_that_somebody_has_changed_is_left(tmp_path: Path) -> None:
    files, one = BootFiles(tmp_path), kept(NETWORKD)
    files.write(one)
    first, second = files.paths(one)
    first.write_text(first.read_text() + "# mine\n")
    assert files.remove(one) == (str(first),)
    assert (first.exists(), second.exists()) == (True, False)
    told, left = files.lift(one, lambda: True)
    assert (told, left, first.exists()) == (True, (str(first),), True)


def test_what_an_earlier_version_wrote_for_people_does_not_matter(tmp_path: Path) -> None:
    files, one = BootFiles(tmp_path), kept(NETWORKD)
    for end in (files.remove, lambda kept: files.lift(kept, lambda: True)[1]):
        files.write(one)
        for path in files.paths(one):
            lines = path.read_text().split("\n", 2)
            said = json.loads(lines[1].removeprefix("# manactl: ")) | {"one_more": 1}
            path.write_text(f"# In other words.\n# manactl: {json.dumps(said)}\n{lines[2]}")
        assert end(one) == ()
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_one_without_its_second_line_is_somebodys(tmp_path: Path) -> None:
    files, one = BootFiles(tmp_path), kept(NETWORK_MANAGER)
    (path,) = files.paths(one)
    for text in ("", "# a\n", "# a\n# manactl: {}\nb", "# a\n# manactl: []\n"):
        path.unlink(missing_ok=True)
        files.write(one)
        path.write_text(text)
        assert files.remove(one) == (str(path),)


@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.write_text("[Match]\nName=*\n"),
        lambda path: path.symlink_to("/dev/null"),  # systemd's way to mask a file
        lambda path: path.symlink_to("/nonexistent"),
        os.mkfifo,
    ],
    ids=["file", "mask", "dangling", "fifo"],
)
def test_what_somebody_else_has_put_there_is_neither_replaced_nor_removed(
    tmp_path: Path, put: Callable[[Path], object]
) -> None:
    files, one = BootFiles(tmp_path), kept(NETWORKD, VF)
    (path,) = files.paths(one)
    path.parent.mkdir(parents=True)
    put(path)
    before = path.lstat()
    with pytest.raises(FileExistsError):
        files.write(one)
    assert files.remove(one) == (str(path),)
    assert files.lift(one, lambda: True) == (True, (str(path),))
    assert boot_files.find(str(tmp_path)) == ()
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("manager", [NETWORKD, NETWORK_MANAGER])
@pytest.mark.parametrize("name", ["*", "e?h", "a;interface-name:*", "!x", "a,b"])
def test_a_name_that_would_match_others_is_refused(tmp_path: Path, manager: str, name: str) -> None:
    nameless = UnmanagedLink(name, 4, None, None, True)
    with pytest.raises(OSError, match=says("has no other mark to match by")):
        BootFiles(tmp_path).write(kept(manager, nameless))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["eth\udcff", "eth\u00e9"])
@pytest.mark.parametrize("manager", [NETWORKD, NETWORK_MANAGER])
def test_a_name_is_bytes(tmp_path: Path, manager: str, name: str) -> None:
    files, one = BootFiles(tmp_path), kept(manager, UnmanagedLink(name, 4, None, None, True))
    files.write(one)
    assert os.fsencode(name) in files.paths(one)[0].read_bytes()
    (found,) = boot_files.find(str(tmp_path))
    assert LeftDown.from_json(found.said) == one
    assert files.remove(one) == ()


def test_the_manager_is_told_once_they_are_not_in_force_and_then_they_go(tmp_path: Path) -> None:
    files, one = BootFiles(tmp_path), kept(NETWORKD)
    files.write(one)

    def tell() -> bool:
        assert not any(path.exists() for path in files.paths(one))
        found = boot_files.find(str(tmp_path))
        assert [file.lifted for file in found] == [True, True]
        return True

    assert files.lift(one, tell) == (True, ())
    assert boot_files.find(str(tmp_path)) == ()


def test_one_that_died_before_the_manager_was_told_tells_it(tmp_path: Path) -> None:
    files, one = BootFiles(tmp_path), kept(NETWORK_MANAGER)
    files.write(one)

    def dies() -> bool:
        raise OSError("killed")

    with pytest.raises(NotTold, match="killed"):
        files.lift(one, dies)
    (file,) = boot_files.find(str(tmp_path))
    assert (file.lifted, LeftDown.from_json(file.said)) == (True, one)
    told: list[bool] = []
    files.lift(one, lambda: told.append(True) or True)
    assert told == [True]
    assert boot_files.find(str(tmp_path)) == ()


@pytest.mark.parametrize("end", ["remove", "remove what is lifted", "lift"])
@pytest.mark.parametrize("manager", [NETWORKD, NETWORK_MANAGER])
def test_what_is_removed_is_removed_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manager: str, end: str
) -> None:
    """Else a machine that loses its power leaves netdevs alone at its next boot."""
    files, one = BootFiles(tmp_path), kept(manager)
    files.write(one)
    (folder,) = {path.parent for path in files.paths(one)}
    on_disk: list[list[str]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        assert Path(f"/proc/self/fd/{fd}").readlink() == folder
        on_disk.append(os.listdir(folder))
        real(fd)

    if end == "remove what is lifted":
        for path in files.paths(one):
            path.rename(f"{path}{boot_files.LIFTED}")
    monkeypatch.setattr(os, "fsync", fsync)
    if end != "lift":
        files.remove(one)
    else:
        files.lift(one, lambda: True)
    assert on_disk[-1] == []


def test_a_new_directory_can_be_read_by_a_manager_that_is_not_root(tmp_path: Path) -> None:
    files, one = BootFiles(tmp_path), kept(NETWORKD)
    files.write(one)
    assert (tmp_path / "systemd/network").stat().st_mode & 0o777 == 0o755


def test_a_write_that_fails_leaves_nothing_in_force(tmp_path: Path) -> None:
    (tmp_path / "systemd").write_text("no directory")
    with pytest.raises(OSError, match="systemd"):
        BootFiles(tmp_path).write(kept(NETWORKD))
    assert boot_files.find(str(tmp_path)) == ()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
@pytest.mark.parametrize(
    "act",
    [
        lambda files, one: files.write(one),
        lambda files, one: files.remove(one),
        lambda files, one: files.lift(one, lambda: True),
    ],
    ids=["write", "remove", "lift"],
)
def test_one_that_cannot_be_read_is_not_said_to_be_changed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[BootFiles, LeftDown], object],
    number: int,
) -> None:
    files, one = BootFiles(tmp_path), kept(NETWORKD)
    files.write(one)
    opens = os.open

    def fails(path: Any, flags: int, *words: int) -> int:
        if str(path).endswith(".network"):
            raise OSError(number, os.strerror(number))
        return opens(path, flags, *words)

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        act(files, one)
    monkeypatch.undo()
    assert files.are_there(one)
    assert files.remove(one) == ()
    assert not files.are_there(one)


def test_a_directory_in_its_place_is_somebodys(tmp_path: Path) -> None:
    files, one = BootFiles(tmp_path), kept(NETWORK_MANAGER)
    (path,) = files.paths(one)
    path.mkdir(parents=True)
    assert files.remove(one) == (str(path),)
