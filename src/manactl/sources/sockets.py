"""Sockets that a port going down touches, and the processes behind them.

TCP by sock_diag, packet sockets by /proc/net/packet; /proc/*/fd is read only when there are hits.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from manactl.nl.socket import NETLINK_SOCK_DIAG, NetlinkSocket
from manactl.sources.rtnl import ntop
from manactl.surroundings import Connection, PacketSocket, Process

_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBxI")  # family, protocol, extensions, states; inet_diag_sockid follows
_SOCKID = 48
_MESSAGE = struct.Struct("=BBBB")  # family, state, timer, retransmits
_TAIL = struct.Struct("=IIIII")  # expires, rqueue, wqueue, uid, inode
# All but TIME_WAIT (6), CLOSE (7), LISTEN (10) and the pseudo state of request sockets.
_LIVE_STATES = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))
_STATE_NAMES = {1: "established", 2: "syn-sent", 3: "syn-recv", 4: "fin-wait-1", 5: "fin-wait-2",
                8: "close-wait", 9: "last-ack", 11: "closing"}  # fmt: skip


def tcp_connections() -> list[Connection]:
    """Every live TCP connection of this network namespace, processes not yet looked up."""
    found = []
    with NetlinkSocket(NETLINK_SOCK_DIAG, strict=False) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _LIVE_STATES) + bytes(_SOCKID)
            for message in netlink.dump(_SOCK_DIAG_BY_FAMILY, body):
                found.append(_connection(message.body))
    return found


def _connection(body: bytes) -> Connection:
    """struct inet_diag_msg: ports and addresses are in network order, the rest in ours."""
    family, state, _, _ = _MESSAGE.unpack_from(body)
    size = 4 if family == socket.AF_INET else 16
    sport, dport = struct.unpack_from("!HH", body, 4)
    local, peer = body[8 : 8 + size], body[24 : 24 + size]
    inode = _TAIL.unpack_from(body, 4 + _SOCKID)[4]
    name = _STATE_NAMES.get(state, str(state))
    return Connection(ntop(local), sport, ntop(peer), dport, name, inode)


def packet_sockets(ifindex: int, proc: Path = Path("/proc")) -> list[PacketSocket]:
    """AF_PACKET sockets bound to that interface. No file: the protocol is not loaded, so none."""
    try:
        lines = (proc / "net/packet").read_text().splitlines()[1:]
    except FileNotFoundError:
        return []
    rows = [line.split() for line in lines]
    return [PacketSocket(int(row[8])) for row in rows if int(row[4]) == ifindex]


def with_processes(
    found: Iterable[Connection], proc: Path = Path("/proc")
) -> tuple[Connection, ...]:
    """The connections with their processes filled in."""
    listed = list(found)
    owners = owners_of({one.inode for one in listed if one.inode}, proc)
    return tuple(replace(one, processes=owners.get(one.inode, ())) for one in listed)


def packet_sockets_with_processes(
    ifindex: int, proc: Path = Path("/proc")
) -> tuple[PacketSocket, ...]:
    listed = packet_sockets(ifindex, proc)
    owners = owners_of({one.inode for one in listed}, proc)
    return tuple(replace(one, processes=owners.get(one.inode, ())) for one in listed)


def owners_of(inodes: set[int], proc: Path = Path("/proc")) -> dict[int, tuple[Process, ...]]:
    """The processes that have each socket open, as far as they may be seen."""
    if not inodes:
        return {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: defaultdict[int, list[Process]] = defaultdict(list)
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended, or is not ours to see
            here = {inode for fd in (entry / "fd").iterdir() if (inode := _socket_of(fd, wanted))}
            for inode in here:
                comm = (entry / "comm").read_text(errors="surrogateescape").strip()
                found[inode].append(Process(int(entry.name), comm))
    return {inode: tuple(sorted(who, key=lambda p: p.pid)) for inode, who in found.items()}


def _socket_of(fd: Path, wanted: dict[str, int]) -> int | None:
    with contextlib.suppress(OSError):
        return wanted.get(os.readlink(fd))
    return None
