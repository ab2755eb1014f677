"""Finding the files of `claim --persist`, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from manactl.act.boot_files import BootFiles
from manactl.look import boot_files
from manactl.model.port import Oddity, PortId
from manactl.netstate.left_down import LeftDown
from manactl.netstate.unmanaged import NETWORK_MANAGER, NETWORKD, Unmanaged, UnmanagedLink

MAC = "00:0d:3a:aa:00:11"
SAID = '{"port": {"pci": "7870:00:00.0", "port": 2, "permanent_mac": "00:0d:3a:aa:00:11"}}'


def put(etc: Path, name: str, text: str) -> Path:
    path = etc / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_nothing_is_there(tmp_path: Path) -> None:
    assert boot_files.find(str(tmp_path)) == ()


@pytest.mark.parametrize(
    ("name", "lifted"),
    [
        ("systemd/network/00-1-manactl-a-0.network", False),
        ("systemd/network/00-1-manactl-a-0.network.lifted", True),
        ("NetworkManager/conf.d/zz-manactl-boot-a.conf", False),
    ],
)
def test_a_file_says_for_which_port_it_is(tmp_path: Path, name: str, lifted: bool) -> None:
    path = put(tmp_path, name, f"# why\n# manactl: {SAID}\n[Match]\n")
    (found,) = boot_files.find(str(tmp_path))
    assert (found.path, found.key, found.permanent_mac) == (
        str(path), ("7870:00:00.0", 2), "00:0d:3a:aa:00:11",
    )  # fmt: skip
    assert found.lifted is lifted


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_left_with_no_descriptor_open(
    tmp_path: Path, make: Callable[[str], None]
) -> None:
    path = put(tmp_path, "systemd/network/00-1-manactl-a-0.network", "")
    path.unlink()
    make(str(path))
    before = os.listdir("/proc/self/fd")
    with pytest.raises((OSError, ValueError)):
        boot_files.read(str(path))
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    "text",
    ["", "# why\n", "# why\n[Match]\n", "# why\n# manactl: no JSON\n", "# why\n# manactl: {}\n",
     "# why\n# manactl: []\n", '# why\n# manactl: {"port": 7}\n'],
)  # fmt: skip
def test_one_that_does_not_say_it_is_somebodys_own(tmp_path: Path, text: str) -> None:
    put(tmp_path, "systemd/network/00-1-manactl-a-0.network", text)
    assert boot_files.find(str(tmp_path)) == ()
    (odd,) = boot_files.odd(str(tmp_path))
    assert odd.path == f"{tmp_path}/systemd/network/00-1-manactl-a-0.network"
    assert (odd.manager, odd.port) == ("systemd-networkd", None)
    assert odd.why is Oddity.NO_PORT


def test_one_that_cannot_be_read_or_is_of_another_version_is_odd(tmp_path: Path) -> None:
    name = "NetworkManager/conf.d/zz-manactl-boot-a.conf"
    path = put(tmp_path, name, f"# why\n# manactl: {SAID}\n")
    (odd,) = boot_files.odd(str(tmp_path))
    assert (odd.path, odd.manager) == (str(path), "NetworkManager")
    assert odd.why is Oddity.NOT_UNDERSTOOD
    path.unlink()
    path.symlink_to("/dev/null")
    (odd,) = boot_files.odd(str(tmp_path))
    assert odd.why == "Too many levels of symbolic links"


def test_one_in_the_place_of_another_managers_is_not_used(tmp_path: Path) -> None:
    """Its own place is not where it lies: it would be neither removed nor told of."""
    links = (UnmanagedLink("eth1", 3, MAC, "mana", True),)
    kept = LeftDown(PortId("7870:00:00.0", 2, MAC), "eth1", Unmanaged(NETWORKD, "k", links))
    said = json.dumps(kept.to_json())
    right = put(tmp_path, "systemd/network/00-1-manactl-k-0.network", f"#\n# manactl: {said}\n")
    wrong = put(tmp_path, "NetworkManager/conf.d/zz-manactl-boot-k.conf", right.read_text())
    used = [boot_files.understood(file) for file in boot_files.find(str(tmp_path))]
    assert used == [kept, None]
    assert [odd.path for odd in boot_files.odd(str(tmp_path))] == [str(wrong)]


def test_what_manactl_writes_is_not_odd(tmp_path: Path) -> None:
    links = (UnmanagedLink("eth1", 3, MAC, "mana", True),)
    port = PortId("7870:00:00.0", 2, MAC)
    for manager in (NETWORKD, NETWORK_MANAGER):
        BootFiles(tmp_path).write(LeftDown(port, "eth1", Unmanaged(manager, "k", links)))
    files = boot_files.find(str(tmp_path))
    assert len(files) == 2
    assert boot_files.odd(str(tmp_path)) == ()
    assert boot_files.of_no_use([port], str(tmp_path)) == ()
    others = [port._replace(port=1), port._replace(permanent_mac="00:0d:3a:ff:ff:ff")]
    gone = boot_files.of_no_use(others, str(tmp_path))
    assert [one.manager for one in gone] == [NETWORKD, NETWORK_MANAGER]
    assert {one.port for one in gone} == {"7870:00:00.0:2"}


@pytest.mark.parametrize(
    "name",
    ["systemd/network/00-0-manactl-a-0.network", "systemd/network/10-eth1.network",
     "systemd/network/.00-1-manactl-a-0.network.new", "NetworkManager/conf.d/zz-manactl-a.conf",
     "NetworkManager/conf.d/zz-manactl-boot-a.conf~"],
)  # fmt: skip
def test_other_names_are_not_read(tmp_path: Path, name: str) -> None:
    put(tmp_path, name, f"# why\n# manactl: {SAID}\n")
    assert boot_files.find(str(tmp_path)) == ()


def test_the_files_of_each_manager() -> None:
    assert boot_files.paths("systemd-networkd", "k", 2) == [
        "/etc/systemd/network/00-1-manactl-k-0.network",
        "/etc/systemd/network/00-1-manactl-k-1.network",
    ]
    assert boot_files.paths("NetworkManager", "k", 2) == [
        "/etc/NetworkManager/conf.d/zz-manactl-boot-k.conf"
    ]
