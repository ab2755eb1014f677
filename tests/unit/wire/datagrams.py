"""A socket pair in the place of a netlink socket: datagrams that come with a sender."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

_SENDER = struct.Struct("=II")  # port id and groups, before the datagram


class Ours(socket.socket):
    """Our end, with the sender that came with each datagram where netlink would have it."""

    def recvmsg(self, bufsize: int, *more: int) -> Any:
        data, ancillary, flags, _ = super().recvmsg(bufsize, *more)
        sender = _SENDER.unpack_from(data) if data else (0, 0)
        return data[_SENDER.size :], ancillary, flags, sender


def pair() -> tuple[socket.socket, socket.socket]:
    """The kernel's end, and what open() opens."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def ours(near: socket.socket) -> Ours:
    return Ours(fileno=os.dup(near.fileno()))


def send(far: socket.socket, datagram: bytes, sender: int = 0) -> None:
    """One datagram, of the kernel unless another port id is given."""
    far.send(_SENDER.pack(sender, 0) + datagram)
