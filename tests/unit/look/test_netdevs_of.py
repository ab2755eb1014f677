"""Netdevs in sysfs: those that are here, are gone, or cannot be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from manactl.look import netdevs_of
from manactl.look.netdevs_of import NetdevNow, Unread, here
from manactl.look.sysfs import Roots
from manactl.model.port import PortId

PCI, MAC = "7870:00:00.0", "00:0d:3a:aa:00:10"
PORT = PortId(PCI, 1, MAC)
UUID = "f8615163-0000-1000-2000-000d3aaa0010"


def netdev(directory: Path, name: str, dev_port: int, ifindex: int, flags: str = "0x1003") -> Path:
    path = directory / "net" / name
    path.mkdir(parents=True)
    for file, text in (("dev_port", dev_port), ("ifindex", ifindex), ("flags", flags)):
        (path / file).write_text(f"{text}\n")
    return path


def function(sys: Path) -> Path:
    return sys / "bus/pci/devices" / PCI


def look(sys: Path, port: PortId = PORT, mac: str | Exception | None = MAC) -> netdevs_of.Found:
    def permanent_mac(_: int) -> str | None:
        if isinstance(mac, Exception):
            raise mac
        return mac

    return netdevs_of.of_port(port, permanent_mac, Roots(str(sys)))


def test_it_is_found_by_its_port_and_mac(tmp_path: Path) -> None:
    netdev(function(tmp_path), "eth1", 0, 3)
    netdev(function(tmp_path), "eth2", 1, 4, "0x1002")
    assert look(tmp_path) == NetdevNow("eth1", 3, True)
    assert look(tmp_path, PORT._replace(port=2)) == NetdevNow("eth2", 4, False)
    assert look(tmp_path, PORT._replace(port=3)) is None
    assert look(tmp_path, mac="00:0d:3a:cc:00:01") is None, "another NIC"
    assert look(tmp_path, PORT._replace(permanent_mac=None), OSError(5, "not asked")) is not None


@pytest.mark.parametrize("missing", ["", "net", "net/eth1/dev_port", "net/eth1/flags"])
def test_what_has_just_gone_is_gone(tmp_path: Path, missing: str) -> None:
    if missing not in ("", "net"):
        netdev(function(tmp_path), "eth1", 0, 3)
        (function(tmp_path) / missing).unlink()
    elif missing:
        function(tmp_path).mkdir(parents=True)
    assert look(tmp_path) is None


def test_it_is_gone_when_the_kernel_no_longer_knows_its_number(tmp_path: Path) -> None:
    netdev(function(tmp_path), "eth1", 0, 3)
    assert look(tmp_path, mac=OSError(errno.ENODEV, os.strerror(errno.ENODEV))) is None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES])
@pytest.mark.parametrize("where", ["net", "net/eth1/dev_port", "net/eth1/ifindex"])
def test_what_cannot_be_read_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    netdev(function(tmp_path), "eth1", 0, 3)
    refused = str(function(tmp_path) / where)

    def refuse(path: str, *more: object) -> object:
        if path == refused:
            raise OSError(number, os.strerror(number))
        return real(path, *more)

    name = "listdir" if where == "net" else "open"
    real = getattr(os, name)
    monkeypatch.setattr(os, name, refuse)
    found = look(tmp_path)
    assert isinstance(found, Unread)
    assert found.why == os.strerror(number)
    with pytest.raises(OSError, match=os.strerror(number)):
        here(found)


@pytest.mark.parametrize("error", [OSError(errno.ENOBUFS, "no buffers"), ValueError("cut short")])
def test_a_mac_that_cannot_be_read_may_be_the_ports(tmp_path: Path, error: Exception) -> None:
    netdev(function(tmp_path), "eth1", 0, 3)
    assert isinstance(look(tmp_path, mac=error), Unread)


def test_one_that_cannot_be_read_does_not_hide_the_one_that_it_is(tmp_path: Path) -> None:
    (netdev(function(tmp_path), "eth0", 1, 9) / "dev_port").write_text("?\n")
    assert isinstance(look(tmp_path), Unread)
    netdev(function(tmp_path), "eth1", 0, 3)
    assert look(tmp_path) == NetdevNow("eth1", 3, True)


def test_the_netdev_of_a_vmbus_device(tmp_path: Path) -> None:
    def found() -> netdevs_of.Found:
        return netdevs_of.of_vmbus(UUID, Roots(str(tmp_path)))

    assert found() is None
    device = tmp_path / "bus/vmbus/devices" / UUID
    path = netdev(device, "eth0", 0, 40, "0x1002")
    assert found() == NetdevNow("eth0", 40, False)
    (path / "flags").unlink()
    assert found() is None
    (path / "flags").write_text("?\n")
    assert isinstance(found(), Unread), "not known to be down"
