"""The kernel's announcements that something about links or RDMA devices changed.

They say when to look, never what there is: a queue pair comes and goes without any, and a socket
may lose some. Subscribing and listening take no lock that a driver can hold.
"""

from __future__ import annotations

import errno
import os
from _socket import socket as Socket
from typing import Self

from manactl.wire.netlink import (
    KERNEL,
    NETLINK_RDMA,
    NETLINK_ROUTE,
    RTNLGRP_LINK,
    subscribed,
)

# enum of include/uapi/rdma/rdma_netlink.h. The kernel announces there from 6.12 on; before, one
# may subscribe and hears nothing.
RDMA_NL_GROUP_NOTIFY = 4


class Monitor:
    """Sockets that become readable when something was announced; a context manager.

    `refused` says which announcements cannot be had, and why.
    """

    def __init__(self, *, rdma: bool = True) -> None:
        self.refused: dict[str, str] = {}
        self._sockets: list[Socket] = []
        self._subscribe("rtnetlink", NETLINK_ROUTE, RTNLGRP_LINK)
        if rdma:
            self._subscribe("nldev", NETLINK_RDMA, RDMA_NL_GROUP_NOTIFY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.close()

    @property
    def descriptors(self) -> list[int]:
        """To be polled for reading, then drained."""
        return [sock.fileno() for sock in self._sockets]

    def drain(self) -> bool:
        """Read away all that was announced up to now; whether there was anything."""
        return any([_drain(sock) for sock in self._sockets])

    def _subscribe(self, source: str, family: int, group: int) -> None:
        try:
            self._sockets.append(subscribed(family, group))
        except OSError as error:
            self.refused[source] = os.strerror(error.errno or 0)


def _drain(sock: Socket) -> bool:
    some = False
    while True:
        try:
            # Content does not matter, so a small buffer may cut it.
            _, (sender, _) = sock.recvfrom(64)
        except BlockingIOError:
            return some
        except OSError as error:
            # ENOBUFS: more was announced than the socket could keep, which is news too.
            if error.errno != errno.ENOBUFS:
                raise
            some = True
        else:
            some |= sender == KERNEL
