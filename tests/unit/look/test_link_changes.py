"""What an announcement of a link says; the kernel's own come in tests/netns."""

from __future__ import annotations

import errno
import socket
import struct
from pathlib import Path

import pytest

from manactl.look import link_changes
from manactl.look.link_changes import LinkChange, LinkChanges, Parents, changes
from manactl.model.port import IFF_UP
from manactl.wire.attrs import attr_str
from manactl.wire.if_link import IFLA_IFNAME, IFLA_PARENT_DEV_NAME, RTM_NEWLINK, IfInfoMsg

RTM_DELLINK = 17
PCI = "7870:00:00.0"


def message(flags: int, change: int, *, kind: int = RTM_NEWLINK, parent: str | None = PCI) -> bytes:
    body = IfInfoMsg(0, 1, 7, flags, change).pack() + attr_str(IFLA_IFNAME, "eth1")
    if parent is not None:
        body += attr_str(IFLA_PARENT_DEV_NAME, parent)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


@pytest.mark.parametrize(
    ("flags", "change", "up", "went_up"),
    [
        (IFF_UP | 0x40, IFF_UP, True, True),
        (IFF_UP | 0x40, 0, True, False),  # carrier, an address, a queue
        (IFF_UP | 0x40, 0xFFFFFFFF, True, True),  # it has come, and is up
        (0, IFF_UP, False, False),
        (0x100, 0x100, False, False),
    ],
)
def test_what_goes_up(flags: int, change: int, up: bool, went_up: bool) -> None:
    went_down = bool(change & IFF_UP) and not up
    expected = LinkChange(7, "eth1", up, went_up, PCI, went_down)
    assert list(changes(message(flags, change))) == [expected]


def test_a_datagram_may_have_several_and_others() -> None:
    data = (
        message(IFF_UP, IFF_UP)
        + message(0, 0xFFFFFFFF, kind=RTM_DELLINK)
        + message(IFF_UP, 0, parent=None)
    )
    assert [(one.went_up, one.parent) for one in changes(data)] == [(True, PCI), (False, None)]


class Announced:
    """A socket that gives datagrams with their senders and flags, or errors, in turn."""

    def __init__(self, *announced: tuple[bytes, int, int] | int) -> None:
        self._announced = list(announced)

    def close(self) -> None:
        pass

    def recvmsg(self, _size: int) -> tuple[bytes, list[object], int, tuple[int, int]]:
        if not self._announced:
            raise BlockingIOError
        one = self._announced.pop(0)
        if isinstance(one, int):
            raise OSError(one, "refused")
        return one[0], [], one[2], (one[1], 1)


def reads(monkeypatch: pytest.MonkeyPatch, *announced: tuple[bytes, int, int] | int) -> LinkChanges:
    monkeypatch.setattr(link_changes, "subscribed", lambda *_: Announced(*announced))
    return LinkChanges()


UP = message(IFF_UP, IFF_UP)


@pytest.mark.parametrize(
    ("announced", "count", "lost"),
    [
        ((), 0, False),
        (((UP, 0, 0), (UP, 0, 0)), 2, False),
        (((UP, 4711, 0),), 0, False),  # another process pretends to be the kernel
        ((errno.ENOBUFS, (UP, 0, 0)), 1, True),
        (((UP, 0, socket.MSG_TRUNC),), 0, True),
        (((UP[:-3], 0, 0), (UP, 0, 0)), 1, True),
        (((UP[:40], 0, 0),), 0, True),
    ],
)
def test_what_cannot_be_read_is_told(
    announced: tuple[tuple[bytes, int, int] | int, ...],
    count: int,
    lost: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with reads(monkeypatch, *announced) as found:
        assert len(found.read()) == count
        assert found.lost is lost


def test_whose_opens_are_watched_is_known_by_the_driver_of_its_device(tmp_path: Path) -> None:
    def bound(bus: str, device: str, driver: str) -> Path:
        link = tmp_path / "bus" / bus / "devices" / device / "driver"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../drivers/{driver}")
        return link

    mana = bound("pci", PCI, "mana")
    bound("pci", "0000:03:00.0", "mlx5_core")
    bound("vmbus", "7ed2a1c0", "hv_netvsc")
    watched = Parents(["mana", "hv_netvsc"], sys=str(tmp_path))
    devices = (PCI, "0000:03:00.0", "7ed2a1c0", "virtio0")
    assert [watched(one) for one in devices] == [True, False, True, False]
    mana.unlink()
    assert watched(PCI), "it has just gone"
    bound("pci", PCI, "vfio-pci")
    assert not watched(PCI)


def test_another_error_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with reads(monkeypatch, errno.EIO) as found, pytest.raises(OSError, match="refused"):
        found.read()
