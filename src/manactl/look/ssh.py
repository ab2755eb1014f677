"""Remote logins that a port carries: the one this command was typed in, and all others.

SSH_CONNECTION of this process and its ancestors, since sudo clears the environment; sessions of
systemd-logind; mosh, whose server has a UDP socket. What has a TCP connection of sshd is found
among the connections, by its process. Sessions of ours are believed without proof: they can only
add refusals.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from manactl.look import procfs, source_words
from manactl.look.forked import Child, collect_unless_blocked
from manactl.look.rtnetlink import ntop
from manactl.look.sockets import Reach, owners_of
from manactl.look.text_files import LACKS, fields, passing_over, read, rows, text
from manactl.model.named_tuple import NamedTuple
from manactl.netstate.surroundings import UNTOLD, Process, SshSession
from manactl.wire import rtmsg as rt
from manactl.wire.inet_diag import TcpSocket

_ANCESTORS = 64  # more parents than any session has
_WAIT = 2.0  # s in which a reader of an environment has not run: it is blocked
_LONGEST = 60.0  # s for all of them, on a machine that is short of processors
_UNTOLD = f"{UNTOLD} 0 {UNTOLD} 0"  # an SSH_CONNECTION by which nobody can tell where packets go
_TCP = 6
# Servers that remote logins end in, by their executable; sshd-session is OpenSSH's since 9.8.
_SERVERS = frozenset({"sshd", "sshd-session", "sshd-auth", "dropbear", "dropbearmulti", "tinysshd",
                      "etserver", "mosh-server", "telnetd", "in.telnetd"})  # fmt: skip
_UNITS = ("ssh", "sshd", "dropbear")  # .service, and instances of them
_MOSH = "mosh-server"
_SSHD_PORT = 22


class Ways(Protocol):
    """What is asked of rtnetlink."""

    def leaves_by(
        self, address: bytes, *, source: bytes = b"", bound: int = 0, mark: int = 0,
        flow: bytes = b"",
    ) -> set[int]: ...  # fmt: skip
    def addresses(self) -> list[bytes]: ...
    def vrf_of(self, ifindex: int) -> int: ...


class End(NamedTuple):
    """One end of a session: its address, the interface that a zone names (None: none that is
    here), and its port."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    zone: int | None
    port: int

    @property
    def needs_zone(self) -> bool:
        return self.address.version == 6 and self.address.is_link_local


def end(words: str, port: str = "") -> End | None:
    """An address as getnameinfo() writes it, perhaps with %ZONE; None for what is no address."""
    bare, percent, zone = words.partition("%")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    number = int(port) if port.isascii() and port.isdigit() and int(port) < 1 << 16 else 0
    return End(mapped or address, _interface(zone) if percent else 0, number)


def _interface(zone: str) -> int | None:
    """The ifindex of a zone, which is a name or a number."""
    try:
        return socket.if_nametoindex(zone)
    except (OSError, ValueError):
        pass
    try:
        socket.if_indextoname(int(zone))
    except (OSError, ValueError, OverflowError):
        return None
    return int(zone)


def through(
    client: str, server: str, ports: tuple[str, str], reach: Reach, rtnl: Ways
) -> bool | None:
    """Whether packets of a session leave by one of these interfaces, looked up as its socket's
    would be; None when it cannot be looked up."""
    there, here = end(client, ports[0]), end(server, ports[1])
    if there is None or there.zone is None or (here is not None and here.zone is None):
        return None
    zone = there.zone or (here.zone if here is not None else 0) or 0
    if zone and there.needs_zone:
        return zone in reach.ifindexes
    try:
        holders = _holders(here, rtnl) if here is not None else set()
        if there.needs_zone:
            if not holders:
                return None  # it may be behind any interface
            return not holders.isdisjoint(reach.ifindexes)
        bound = zone or max((rtnl.vrf_of(index) for index in holders), default=0)
        source = b"" if here is None else here.address.packed
        flow = b"" if here is None else rt.flow(_TCP, here.port, there.port)
        out = rtnl.leaves_by(there.address.packed, source=source, bound=bound, flow=flow)
    except (OSError, ValueError):
        return None
    return not out.isdisjoint(reach.ifindexes)


def _holders(here: End, rtnl: Ways) -> set[int]:
    """The interfaces that have the address."""
    found = set()
    for body in rtnl.addresses():
        attrs = rt.split(body, rt.IFADDR.size)
        if here.address.packed in (rt.value(attrs, rt.IFA_LOCAL), rt.value(attrs, rt.IFA_ADDRESS)):
            found.add(rt.IfAddrMsg.of(body).ifindex)
    return found


def _session(value: str, where: str, reach: Reach, rtnl: Ways, *, own: bool) -> SshSession:
    client, cport, server, sport, *_ = [*fields(value), "", "", "", ""]
    here = end(server)
    lost: bool | None = False
    if here is not None and here.address.packed in reach.addresses:
        # The same link-local address may be on several interfaces.
        lost = not here.zone or here.zone in reach.ifindexes
    if not lost:
        lost = through(client, server, (cport, sport), reach, rtnl)
    return SshSession(_plain(client), _plain(server), lost, where, own)


def _plain(words: str) -> str:
    """An IPv4-mapped IPv6 address as the IPv4 address that it is on the wire."""
    found = end(words)
    return str(found.address) if found and "%" not in words else words


def sessions(
    reach: Reach, rtnl: Ways, proc: Path = Path("/proc"), run: Path = Path("/run")
) -> tuple[SshSession, ...]:
    """Of this process and its ancestors, and those of logind that have their client's address.

    An ancestor whose environment may not be read is passed over; one whose cannot may have any.
    """
    found: dict[str, SshSession] = {}
    for pid, value in _connections(ancestors(proc), proc).items():
        if not value:
            continue
        told = value if value != _UNTOLD else f"{value} of {pid}"
        if told not in found:
            where = source_words.ssh_connection(pid)
            found[told] = _session(value, where, reach, rtnl, own=True)
    known = {session.client for session in found.values()}
    beside = [
        _session(host, where, reach, rtnl, own=False)
        for host, where in _logind(run / "systemd/sessions")
        if _plain(host) not in known
    ]
    return (*found.values(), *beside)


def ancestors(proc: Path = Path("/proc")) -> list[int]:
    """This process, and those that it comes from."""
    pids = [os.getpid()]
    while len(pids) < _ANCESTORS:
        parent = procfs.stat_of(str(proc / str(pids[-1]))).ppid or 0
        if parent <= 0 or parent in pids:
            break
        pids.append(parent)
    return pids


def _connections(pids: Iterable[int], proc: Path) -> dict[int, str | None]:
    """SSH_CONNECTION of each process; None where it has none, or may not be read.

    A process's environment is its memory, and a page of it may come from a file system whose
    server keeps silent (FUSE, NFS): who reads that waits, and cannot be killed. So children read,
    and what one that is blocked does not tell may be any connection.
    """
    asked = {pid: Child(functools.partial(_environment, proc / f"{pid}/environ")) for pid in pids}
    answers = collect_unless_blocked(asked.values(), _WAIT, _LONGEST)
    return {
        pid: answer[0] if isinstance(answer, tuple) else _UNTOLD
        for pid, answer in zip(asked, answers, strict=True)
    }


def _environment(path: Path) -> tuple[str | None]:
    """In the child. Where there is nothing to read with, it fails, and so is not told."""
    with passing_over():
        for item in read(path).split("\0"):
            if item.startswith("SSH_CONNECTION="):
                return (item.partition("=")[2],)
    return (None,)


def _logind(place: Path) -> Iterator[tuple[str, str]]:
    """The client's address and where it was found, of remote sessions that somebody is in. One
    whose host is a name has its connection found by the process of its server."""
    try:
        files = sorted(place.iterdir())
    except FileNotFoundError:
        return
    for path in files:
        # Beside each there may be a FIFO, N.ref, that the session's leader has open and never
        # writes to (session_create_fifo()): who reads that waits until the session ends.
        if not path.is_file():
            continue
        try:
            lines = rows(read(path))
        except FileNotFoundError:
            continue
        values = dict(line.partition("=")[::2] for line in lines)
        host = values.get("REMOTE_HOST", "")
        alive = values.get("STATE") != "closing" and values.get("REMOTE") == "1"
        if alive and end(host) is not None:
            yield host, source_words.logind_session(path.name)


# --- by their sockets ---------------------------------------------------------------------------


def is_server(process: Process, proc: Path = Path("/proc")) -> bool:
    """Whether a process serves remote logins: by its name, its executable, or its unit."""
    place = proc / str(process.pid)
    try:
        exe = os.readlink(place / "exe").removesuffix(" (deleted)")
    except OSError as error:
        if error.errno in LACKS:
            raise
        exe = ""
    if process.comm in _SERVERS or exe.rpartition("/")[2] in _SERVERS:
        return True
    unit = procfs.unit_of(text(str(place / "cgroup")) or "") or ""
    return unit.endswith(".service") and unit[: -len(".service")].partition("@")[0] in _UNITS


def of_servers(
    found: Iterable[tuple[int, tuple[Process, ...]]], proc: Path = Path("/proc")
) -> list[bool]:
    """For each socket, its local port and processes, whether it is a remote login. A connection to
    sshd's port whose process is not visible is one, too: it may be in a container."""
    known: dict[int, bool] = {}

    def serves(process: Process) -> bool:
        if process.pid not in known:
            known[process.pid] = is_server(process, proc)
        return known[process.pid]

    return [
        any(map(serves, processes)) if processes else port == _SSHD_PORT
        for port, processes in found
    ]


def mosh(
    reach: Reach,
    rtnl: Ways,
    sockets: Callable[[], Iterable[TcpSocket]],
    proc: Path = Path("/proc"),
) -> list[SshSession]:
    """Sessions of mosh: its server answers whoever has the key, by a UDP socket that is not
    connected, so its client is the one that SSH_CONNECTION named when it was started."""
    pids = _pids(_MOSH, proc)
    if not pids:
        return []
    unconnected = {sock.inode: sock for sock in sockets()}
    found = []
    owners = owners_of(set(unconnected), proc, pids)
    told = _connections({process.pid for who in owners.values() for process in who}, proc)
    for inode, processes in owners.items():
        sock = unconnected[inode]
        for process in processes:
            value = told[process.pid] or ""
            client, cport, server, _, *_ = [*fields(value), "", "", "", ""]
            if any(sock.local):
                server = ntop(sock.local)
            where = source_words.mosh(process, sock.local_port)
            if not client and any(sock.local) and sock.local not in reach.addresses:
                continue  # of another netdev
            value = f"{client or UNTOLD} {cport or '0'} {server or UNTOLD} 0"
            found.append(_session(value, where, reach, rtnl, own=False))
    return found


def _pids(comm: str, proc: Path) -> Collection[int]:
    entries = (entry.name for entry in proc.iterdir() if entry.name.isdigit())
    return [int(pid) for pid in entries if text(str(proc / pid / "comm")) == comm]
