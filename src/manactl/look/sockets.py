"""Sockets that a port going down touches, and the processes behind them.

TCP and UDP by sock_diag, where the kernel filters, SCTP and packet sockets by /proc/net;
/proc/*/fd is read only when there are hits.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from manactl.look import leading
from manactl.look.rtnetlink import ntop
from manactl.look.text_files import fields, lines, passing_over, read, rows
from manactl.model.named_tuple import NamedTuple
from manactl.netstate.surroundings import Connection, Listener, PacketSocket, Process
from manactl.wire import inet_diag as diag
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import attr_u32
from manactl.wire.conntrack import Flow
from manactl.wire.inet_diag import TcpSocket
from manactl.wire.netlink import NETLINK_SOCK_DIAG, NetlinkSocket

_SCTP = 132  # IPPROTO_SCTP
_SCTP_LISTENING = 10  # SCTP_SS_LISTENING, TCP_LISTEN by another name
_NAMEABLE = 1000  # a filter's jumps reach 64 KiB; what takes more is sorted out here
_MANY = 2000  # sockets, of which it is worth while to ask the kernel for fewer
_NETWORKS = 64  # that each of many sockets is compared with


class Ways(Protocol):
    """What is asked of rtnetlink."""

    def leaves_by(
        self, address: bytes, *, source: bytes = b"", bound: int = 0, mark: int = 0,
        flow: bytes = b"",
    ) -> set[int]: ...  # fmt: skip
    def rules_ask(self) -> frozenset[int]: ...
    def rules(self) -> list[bytes]: ...
    def routes(self) -> Sequence[bytes]: ...
    def nexthops(self) -> list[bytes]: ...
    @property
    def ipsec(self) -> object: ...  # None: no policy puts packets into tunnels


class Reach(NamedTuple):
    """What of one network namespace depends on the port.

    `going` are the addresses that vanish while the port is down.
    """

    ifindexes: frozenset[int]
    addresses: frozenset[bytes]
    going: frozenset[bytes] = frozenset()


def tcp(program: bytes = b"") -> list[TcpSocket]:
    """The live TCP sockets of this network namespace for which the program holds."""
    return _dump(program, socket.IPPROTO_TCP, diag.LIVE)


def udp(program: bytes = b"") -> list[TcpSocket]:
    """The connected UDP sockets for which it holds."""
    return _dump(program, socket.IPPROTO_UDP, diag.CONNECTED)


def unconnected(program: bytes = b"") -> list[TcpSocket]:
    """The UDP sockets that answer whoever asks, for which it holds."""
    return _dump(program, socket.IPPROTO_UDP, diag.UNCONNECTED)


def listening(program: bytes = b"") -> list[TcpSocket]:
    """The TCP sockets that listen, for which it holds."""
    return _dump(program, socket.IPPROTO_TCP, diag.LISTENING)


def are_many(protocol: int, process: Path = Path("/proc/self")) -> bool:
    """Whether this network namespace has so many sockets of TCP or UDP that those which cannot use
    the port are better left out by the kernel. Where that is not told: no."""
    wanted = {socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP"}[protocol]
    found = 0
    for name, kind in (("sockstat", wanted), ("sockstat6", f"{wanted}6")):
        for line in lines(process / "net" / name):  # sockstat_seq_show(): TCP: inuse 7 orphan 0
            title, _, counts = line.partition(":")
            words = fields(counts)
            if title == kind and "inuse" in words[:-1]:
                found += int(words[words.index("inuse") + 1])
    return found > _MANY


def _dump(program: bytes, protocol: int, states: int) -> list[TcpSocket]:
    found = []
    with NetlinkSocket(NETLINK_SOCK_DIAG, strict=False) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            body = diag.request(family, program, protocol, states)
            found += [diag.parse(m.body) for m in netlink.dump(diag.SOCK_DIAG_BY_FAMILY, body)]
    return found


def serving(
    reach: Reach, ask: Callable[[bytes], Iterable[TcpSocket]] = listening
) -> list[TcpSocket]:
    """The sockets for whoever asks that have an address of the port, or are bound to it. Those of
    every address are not among them: they serve on the other netdevs."""
    mine = diag.local(sorted(reach.addresses))
    few = 0 < len(mine) <= _NAMEABLE
    found = {
        sock.inode or (sock.local, sock.local_port): sock
        for sock in ask(diag.any_of(mine) if few else b"")
        if sock.local in reach.addresses
        and (not is_link_local(sock.local) or sock.bound in (0, *reach.ifindexes))
    }
    everywhere = diag.any_of(diag.local([bytes(4), bytes(16)]))
    for sock in ask(everywhere):
        if not any(sock.local) and sock.bound in reach.ifindexes:
            found[sock.inode or (sock.local, sock.local_port)] = sock
    return list(found.values())


def listeners(
    found: Iterable[TcpSocket], protocol: str, netns: str | None = None
) -> list[Listener]:
    """As values for guards, processes not yet looked up."""
    return [
        Listener(protocol, ntop(sock.local), sock.local_port, sock.inode, (), netns)
        for sock in found
    ]


def sctp(reach: Reach, rtnl: Ways, process: Path = Path("/proc/self")) -> list[Connection]:
    """The SCTP associations that have an address of the port, or any path that leaves by it,
    processes not yet looked up. What is told of one is that path.

    /proc has the same as sock_diag, which to ask would load the protocol. No file: it is not
    loaded, so none. But without net/dev nobody can know that.
    """
    if not (process / "net/dev").exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(process / "net"))
    try:
        lines = rows(read(process / "net/sctp/assocs"))
    except FileNotFoundError:
        return []
    if not lines:
        return []
    title = fields(lines[0])
    uid, inode, lport, rport = map(title.index, ("UID", "INODE", "LPORT", "RPORT"))
    asked: frozenset[int] | None = None
    ways: dict[tuple[bytes, bytes, bytes], bool] = {}

    def leaves(peer: bytes, source: bytes, flow: bytes) -> bool:
        key = (peer, source, flow)
        if key not in ways:
            out = rtnl.leaves_by(peer, source=source, flow=flow)
            ways[key] = not out.isdisjoint(reach.ifindexes)
        return ways[key]

    found = []
    for line in lines[1:]:
        here, _, there = line.partition("<->")
        row = fields(here)
        locals_ = [pack(text.lstrip("*")) for text in row[rport + 1 :]]
        peers = [pack(one) for text in fields(there) if _is_address(one := text.lstrip("*"))]
        path = next(((one, peers[0]) for one in locals_ if one in reach.addresses), None)
        if path is None:
            if asked is None:
                asked = rtnl.rules_ask()
            flow = b""
            if not rt.FRA_OF_FLOWS.isdisjoint(asked):
                flow = rt.flow(_SCTP, int(row[lport]), int(row[rport]))
            if rt.FRA_UID_RANGE in asked:
                flow += attr_u32(rt.RTA_UID, int(row[uid]))
            # The route decides from which address, or a rule by which way from an address.
            sources = [one for one in locals_ if not is_loopback(one)]
            path = next(
                (
                    (source, peer)
                    for peer in peers
                    for source in sources
                    if not is_loopback(peer)
                    and len(source) == len(peer)
                    and (leaves(peer, b"", flow) or leaves(peer, source, flow))
                ),
                None,
            )
        if path is not None:
            local, peer = path
            found.append(
                Connection(
                    ntop(local), int(row[lport]), ntop(peer), int(row[rport]), "association",
                    int(row[inode]), protocol="sctp", address_goes=local in reach.going,
                )
            )  # fmt: skip
    return found


def sctp_listeners(reach: Reach, process: Path = Path("/proc/self")) -> list[Listener]:
    """The SCTP endpoints that wait for others at an address of the port, processes not yet looked
    up. One that has other addresses, too, loses this one."""
    if not (process / "net/dev").exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(process / "net"))
    try:
        lines = rows(read(process / "net/sctp/eps"))
    except FileNotFoundError:
        return []
    if not lines:
        return []
    title = fields(lines[0])
    state, port, inode, first = map(title.index, ("SST", "LPORT", "INODE", "LADDRS"))
    found = []
    for row in map(fields, lines[1:]):
        mine = [one for one in map(pack, row[first:]) if one in reach.addresses]
        if mine and int(row[state]) == _SCTP_LISTENING:
            found.append(Listener("sctp", ntop(mine[0]), int(row[port]), int(row[inode])))
    return found


def pack(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def _is_address(text: str) -> bool:
    try:
        pack(text)
    except OSError:
        return False
    return True


class Turned(NamedTuple):
    """What becomes of a socket's packets on their way out, by connection tracking: they go to that
    address (DNAT), and may get that mark."""

    peer: bytes
    mark: int


def using(
    reach: Reach,
    rtnl: Ways,
    ask: Callable[[bytes], Iterable[TcpSocket]] = tcp,
    protocol: int = socket.IPPROTO_TCP,
    turned: Mapping[Flow, Turned] | None = None,
    *,
    many: bool = False,
) -> list[TcpSocket]:
    """The sockets of this namespace that have an address of the port, or whose packets leave by it.

    The kernel leaves out those within the host. Of those with other addresses each distinct peer is
    looked up once, as the socket would do it; each socket, where rules tell ports apart. `turned`:
    where the packets of a socket go that go elsewhere. `many`: have the kernel leave out those to
    where no route leads by the port.
    """
    turned = turned or {}
    # One to the host itself may be sent elsewhere, too.
    there = {one.destination for one in turned if is_loopback(one.destination)}
    sure = diag.local(sorted(reach.addresses))
    sure += diag.peer((address, len(address) * 8) for address in sorted(there))
    few = len(sure) <= _NAMEABLE
    nameable = len(sure) + len(reach.ifindexes) <= _NAMEABLE
    near = _near(reach, rtnl, turned) if many and nameable else b""
    program = diag.any_of(sure, diag.none_of(diag.peer(diag.LOOPBACK), near)) if few else b""
    found = []
    ways: dict[tuple[object, ...], bool] = {}
    asked: frozenset[int] | None = None

    def leaves(sock: TcpSocket, peer: bytes, mark: int, asked: Collection[int]) -> bool:
        flow = b""
        if not rt.FRA_OF_FLOWS.isdisjoint(asked):
            flow = rt.flow(protocol, sock.local_port, sock.peer_port)
        if rt.FRA_UID_RANGE in asked:  # else the kernel takes that of who asks it: us
            flow += attr_u32(rt.RTA_UID, sock.uid)
        way = (peer, sock.local, sock.bound, mark, flow)
        if way not in ways:
            out = rtnl.leaves_by(peer, source=sock.local, bound=sock.bound, mark=mark, flow=flow)
            ways[way] = bool(out & reach.ifindexes)
        return ways[way]

    for sock in ask(program):
        if sock.local in reach.addresses:
            # Of a link-local address there may be many; the interface that the socket is bound to
            # tells them apart.
            if not is_link_local(sock.local) or sock.bound in (0, *reach.ifindexes):
                found.append(sock)
            continue
        if is_loopback(sock.peer) and sock.peer not in there:
            continue
        if sock.bound in reach.ifindexes:
            found.append(sock)
            continue
        if asked is None:
            asked = rtnl.rules_ask()
        flow = Flow(protocol, sock.local, sock.local_port, sock.peer, sock.peer_port)
        peer, mark = turned.get(flow, (sock.peer, 0)) if turned else (sock.peer, 0)
        # The mark of the connection is not always that of its packets.
        if leaves(sock, peer, sock.mark, asked) or (mark and leaves(sock, peer, mark, asked)):
            found.append(sock)
    return found


def _near(reach: Reach, rtnl: Ways, turned: Mapping[Flow, Turned]) -> bytes:
    """The program for sockets that may send by the port: those bound to it, those whose packets go
    elsewhere than they are sent to, and those to where any of its routes leads. Empty, which lets
    all through, where routes do not tell: an IPsec policy sends packets elsewhere, too."""
    routes = None if rtnl.ipsec is not None else leading.by(reach.ifindexes, rtnl)
    if routes is None:
        return b""
    elsewhere = {
        (flow.destination, len(flow.destination) * 8)
        for flow, to in turned.items()
        if to.peer != flow.destination
    }
    sure: list[diag.Asked] = [diag.BoundTo(index) for index in sorted(reach.ifindexes)]
    sure += _to(elsewhere)
    own = sorted(routes.own, key=lambda net: net[1])[:_NETWORKS]
    near = diag.any_of(_to(routes.nets))
    return diag.any_of(sure, diag.none_of(diag.peer(own), near, only=diag.BoundTo(0)))


def _to(nets: Collection[leading.Net]) -> list[diag.Condition]:
    return diag.peer(sorted(leading.coarser(nets, _NETWORKS)))


def is_loopback(address: bytes) -> bool:
    return address[:1] == b"\x7f" if len(address) == 4 else address == bytes(15) + b"\1"


def is_link_local(address: bytes) -> bool:
    """Of IPv6."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def connections(
    found: Iterable[TcpSocket], reach: Reach, netns: str | None = None, protocol: str = "tcp"
) -> list[Connection]:
    """As values for guards, processes not yet looked up."""
    return [
        Connection(
            ntop(sock.local), sock.local_port, ntop(sock.peer), sock.peer_port,
            diag.STATES.get(sock.state, str(sock.state)), sock.inode, (), netns,
            sock.local in reach.going, protocol,
        )
        for sock in found
    ]  # fmt: skip


def packet_sockets(
    names: Mapping[int, str | None], process: Path = Path("/proc/self")
) -> list[PacketSocket]:
    """AF_PACKET sockets bound to one of these interfaces, `names` by ifindex.

    No file: the protocol is not loaded, so none. But without net/dev nobody can know that.
    """
    if not (process / "net/dev").exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(process / "net"))
    try:
        lines = rows(read(process / "net/packet"))[1:]
    except FileNotFoundError:
        return []
    listed = [fields(line) for line in lines]
    return [
        PacketSocket(int(row[8]), (), names[int(row[4])]) for row in listed if int(row[4]) in names
    ]


Socket = TypeVar("Socket", Connection, PacketSocket, Listener)


def with_processes(
    found: Iterable[Socket], who: Mapping[int, tuple[Process, ...]]
) -> tuple[Socket, ...]:
    return tuple(replace(sock, processes=who.get(sock.inode, ())) for sock in found)


def owners_of(
    inodes: set[int], proc: Path = Path("/proc"), pids: Collection[int] | None = None
) -> dict[int, tuple[Process, ...]]:
    """The processes that have each socket open, as far as they are visible, or of `pids` alone;
    none are looked for when there is no socket."""
    if not inodes:
        return {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: defaultdict[int, list[Process]] = defaultdict(list)
    for entry in proc.iterdir():
        if not entry.name.isdigit() or (pids is not None and int(entry.name) not in pids):
            continue
        with passing_over():
            here = {inode for fd in (entry / "fd").iterdir() if (inode := _socket_of(fd, wanted))}
            for inode in here:
                found[inode].append(Process(int(entry.name), read(entry / "comm")))
    return {inode: tuple(sorted(who, key=lambda p: p.pid)) for inode, who in found.items()}


def _socket_of(fd: Path, wanted: dict[str, int]) -> int | None:
    with passing_over():
        return wanted.get(os.readlink(fd))
    return None
