"""Programs that pass remote logins on to sshd within this host: a proxy or a tunnel in front of it, the
far end of a reverse tunnel, whatever has started `sshd -i`.

The peer of such a session is this host itself, so its connection tells nothing of where it comes
from. The connections of these programs do, and what they are connected to within the host.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from manactl.look import ssh
from manactl.look.sockets import is_loopback, owners_of
from manactl.look.text_files import text
from manactl.model.named_tuple import NamedTuple
from manactl.netstate.surroundings import Connection, Process, SshSession
from manactl.wire import inet_diag as diag
from manactl.wire.inet_diag import TcpSocket

UNKNOWN = "UNKNOWN"  # of SSH_CONNECTION, where sshd's input is no connection
_SSHD_PORT = 22
_INIT = 1

Ask = Callable[[bytes], Iterable[TcpSocket]]
_Pair = tuple[bytes, int, bytes, int]


class Asks(NamedTuple):
    """Who lists the sockets of this network namespace."""

    tcp: Ask
    listening: Ask
    unconnected: Ask


class Relays(NamedTuple):
    """The programs, by their pids. `unseen`: there may be more, or one may be reached by packets of
    anybody (QUIC)."""

    pids: frozenset[int] = frozenset()
    unseen: bool = False

    def have(self, processes: Iterable[Process]) -> bool:
        return any(one.pid in self.pids for one in processes)


def of_logins(
    sessions: Sequence[SshSession],
    own: Collection[bytes],
    asks: Asks,
    proc: Path = Path("/proc"),
) -> Relays:
    """Whoever passes on these sessions, and what else sshd serves within the host. `own`: the
    addresses of this host.

    Where no session comes from here and nobody is connected to sshd's port from here, nothing more
    is read.
    """
    unknown = any(one.own and one.client == UNKNOWN for one in sessions)
    inside = [one for one in sessions if is_inside(one, own)]
    if not (inside or unknown or any(asks.tcp(_TO_SSHD))):
        return Relays()
    extra = {found.address.packed for one in inside if (found := ssh.end(one.client))}
    nets = [*diag.LOOPBACK, *((address, len(address) * 8) for address in sorted(extra))]
    links = _Links.read(asks.tcp(diag.any_of(diag.peer(nets))), proc)
    listening = {one.local_port for one in asks.listening(b"")}
    first, unseen = links.in_front_of_servers(listening, proc)
    if unknown:
        above = _above_sshd(proc)
        first |= above
        unseen |= not above
    pids = links.from_there_on(first, proc)
    if pids and not unseen:
        anybody = {one.inode for one in asks.unconnected(b"") if not is_loopback(one.local)}
        unseen = bool(owners_of(anybody, proc, pids))
    return Relays(frozenset(pids), unseen)


_TO_SSHD = diag.any_of(diag.serving(diag.LOOPBACK, _SSHD_PORT))


def is_inside(session: SshSession, own: Collection[bytes]) -> bool:
    """Whether a session comes from this host, as far as it knows."""
    client = ssh.end(session.client)
    if client is None:
        return False
    return is_loopback(client.address.packed) or client.address.packed in own


def judged(
    session: SshSession,
    relays: Relays,
    own: Collection[bytes],
    connections: Iterable[Connection],
) -> SshSession:
    """The session, and whether it takes the port if it is passed on: `connections` are those that
    do."""
    if not (session.client == UNKNOWN or is_inside(session, own)) or session.through_port:
        return session
    through: bool | None = any(relays.have(one.processes) for one in connections)
    if not through and relays.unseen:
        through = None
    return SshSession(session.client, session.server, through, session.found_in, session.own)


def _above_sshd(proc: Path) -> set[int]:
    """The ancestors of the sshd that this process runs below, but for init."""
    chain = list(ssh.ancestors(proc))
    serving = [
        number
        for number, pid in enumerate(chain)
        if ssh.is_server(Process(pid, text(str(proc / str(pid) / "comm")) or ""), proc)
    ]
    return set(chain[serving[-1] + 1 :]) - {_INIT} if serving else set()


class _Links(NamedTuple):
    """The TCP connections within this host, with both ends."""

    pairs: Mapping[_Pair, int]  # to the inode of the end that has the first address and port
    who: Mapping[int, tuple[Process, ...]]
    of: Mapping[int, list[_Pair]]  # by pid

    @classmethod
    def read(cls, found: Iterable[TcpSocket], proc: Path) -> _Links:
        pairs = {(one.local, one.local_port, one.peer, one.peer_port): one.inode for one in found}
        who = owners_of({inode for inode in pairs.values() if inode}, proc)
        of: defaultdict[int, list[_Pair]] = defaultdict(list)
        for pair, inode in pairs.items():
            for process in who.get(inode, ()):
                of[process.pid].append(pair)
        return cls(pairs, who, of)

    def _other_end(self, pair: _Pair) -> tuple[Process, ...]:
        local, port, peer, peer_port = pair
        return self.who.get(self.pairs.get((peer, peer_port, local, port), 0), ())

    def in_front_of_servers(self, listening: Collection[int], proc: Path) -> tuple[set[int], bool]:
        """Whoever is connected to a server of logins, and whether one of them is not visible: by one
        of the ports at which somebody listens, and not as who was connected to for its users."""
        pids: set[int] = set()
        unseen = False
        for pair in self._served(proc):
            if pair[1] not in listening:
                continue
            processes = self._other_end(pair)
            pids |= {one.pid for one in processes}
            unseen |= not processes
        return pids, unseen

    def _served(self, proc: Path) -> Iterator[_Pair]:
        ends = [(pair[1], self.who.get(inode, ())) for pair, inode in self.pairs.items()]
        logins = ssh.of_servers(ends, proc)
        return (pair for pair, login in zip(self.pairs, logins, strict=True) if login)

    def from_there_on(self, first: Iterable[int], proc: Path) -> set[int]:
        """These, and whoever they are connected to within the host, but for servers of logins."""
        found = set(first)
        todo = list(found)
        while todo:
            for pair in self.of.get(todo.pop(), ()):
                for process in self._other_end(pair):
                    if process.pid not in found and not ssh.is_server(process, proc):
                        found.add(process.pid)
                        todo.append(process.pid)
        return found
