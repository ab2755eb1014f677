"""The kernel's announcements of links, with what they say: which one, and whether it went up.

The kernel announces while it has RTNL, when the driver's open or stop function has returned
(__dev_notify_flags(), rtmsg_ifinfo()). It names no requester there: the port id of such a message
is 0, for a netlink request too (6.12 and 7.3); see look/netdev_opens.py.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterator
from typing import Self

from manactl.look.text_files import target_name
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import IFF_UP
from manactl.wire.if_link import RTM_NEWLINK, IfInfoMsg, IfLink
from manactl.wire.netlink import (
    KERNEL,
    NETLINK_ROUTE,
    RTNLGRP_LINK,
    messages,
    subscribed,
)

_RCVBUF = 1 << 22  # some thousand announcements
_ROOM = 1 << 16


class LinkChange(NamedTuple):
    """One announcement. `went_up`: it is about IFF_UP, which was set; `went_down`: or cleared.
    `parent`: the device that the link belongs to, a PCI address or a VMBus UUID."""

    ifindex: int
    name: str
    up: bool
    went_up: bool
    parent: str | None
    went_down: bool = False


class LinkChanges:
    """A subscription; a context manager. It belongs to the network namespace that it was opened in.

    OSError when the kernel does not give it.
    """

    def __init__(self) -> None:
        self._sock = subscribed(NETLINK_ROUTE, RTNLGRP_LINK, _RCVBUF)
        self.lost = False  # something was announced that cannot be read any more

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    @property
    def fd(self) -> int:
        """To be polled for reading."""
        return self._sock.fileno()

    def read(self) -> list[LinkChange]:
        """What was announced up to now. Sets `lost` where that is not all: look at everything."""
        found: list[LinkChange] = []
        while True:
            try:
                data, _, flags, (sender, _) = self._sock.recvmsg(_ROOM)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost = True
                continue
            if sender != KERNEL:
                continue
            if flags & socket.MSG_TRUNC:
                self.lost = True
                continue
            try:
                found += changes(data)
            except (ValueError, OSError, struct.error):
                self.lost = True


class Parents:
    """Whether the device that a link belongs to has one of these drivers; where it has just gone, as
    it was when it was seen last."""

    def __init__(self, drivers: Collection[str], *, sys: str = "/sys") -> None:
        self._drivers, self._sys = frozenset(drivers), sys
        self._seen: set[str] = set()

    def __call__(self, parent: str) -> bool:
        for bus in ("pci", "vmbus"):
            driver = target_name(f"{self._sys}/bus/{bus}/devices/{parent}/driver")
            if driver is not None:
                (self._seen.add if driver in self._drivers else self._seen.discard)(parent)
                break
        return parent in self._seen


def changes(data: bytes) -> Iterator[LinkChange]:
    """The announcements of links in a datagram. ValueError, OSError or struct.error when it is
    broken."""
    for kind, body in messages(data):
        if kind == RTM_NEWLINK:
            head, link = IfInfoMsg.of(body), IfLink(body)
            about_up = bool(head.change & IFF_UP)
            yield LinkChange(
                link.ifindex, link.name, link.up, about_up and link.up, link.parent,
                about_up and not link.up,
            )  # fmt: skip
