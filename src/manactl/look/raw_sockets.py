"""Raw sockets (a GRE tunnel of a program, OSPF, VRRP) and UDP-Lite, by /proc: to ask sock_diag for them
would load a module.

As `ss` shows it, a raw socket's port is its protocol. What one is bound to is not told (SO_BINDTODEVICE).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from manactl.look.sockets import Reach, Ways, connections, listeners, serving, using
from manactl.look.text_files import fields, read, rows
from manactl.netstate.surroundings import Connection, Listener
from manactl.wire.inet_diag import TcpSocket

# By what they are called: the files below /proc/net, and the protocol that rules are asked for.
_KINDS = {"raw": (("raw", "raw6"), 255), "udplite": (("udplite", "udplite6"), 136)}
_CONNECTED = 1  # TCP_ESTABLISHED by another name


def connected(
    reach: Reach, rtnl: Ways, process: Path = Path("/proc/self"), netns: str | None = None
) -> list[Connection]:
    """Those that have a peer, and an address of the port or packets that leave by it; processes not
    yet looked up."""
    found = []
    for kind, (tables, protocol) in _KINDS.items():
        of_others = [sock for sock in _read(process, tables) if sock.state == _CONNECTED]
        mine = using(reach, rtnl, _asking(of_others), protocol) if of_others else []
        found += connections(mine, reach, netns, kind)
    return found


def waiting(
    reach: Reach, process: Path = Path("/proc/self"), netns: str | None = None
) -> list[Listener]:
    """Those without a peer that have an address of the port, processes not yet looked up."""
    found = []
    for kind, (tables, _) in _KINDS.items():
        some = [sock for sock in _read(process, tables) if sock.state != _CONNECTED]
        found += listeners(serving(reach, _asking(some)), kind, netns)
    return found


def _asking(found: Iterable[TcpSocket]) -> Callable[[bytes], Iterable[TcpSocket]]:
    """As if the kernel were asked: there are few of them, and no filter for them."""
    return lambda _: found


def _read(process: Path, tables: Iterable[str]) -> list[TcpSocket]:
    """No file: the kernel has not got the protocol. But without net/dev nobody can know that."""
    if not (process / "net/dev").exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(process / "net"))
    found = []
    for table in tables:
        try:
            lines = rows(read(process / "net" / table))[1:]
        except FileNotFoundError:
            continue
        found += [_socket(line) for line in lines]
    return found


def _socket(line: str) -> TcpSocket:
    """raw_sock_seq_show(), __ip6_dgram_sock_seq_show()."""
    _, local, peer, state, _, _, _, uid, _, inode, *_ = fields(line)
    return TcpSocket(int(state, 16), *_end(local), *_end(peer), 0, int(inode), 0, int(uid))


def _end(text: str) -> tuple[bytes, int]:
    """The words of an address are numbers of this machine."""
    digits, _, port = text.partition(":")
    words = (digits[at : at + 8] for at in range(0, len(digits), 8))
    address = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return address.removeprefix(bytes(10) + b"\xff\xff"), int(port, 16)
