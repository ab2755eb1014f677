"""Remote logins that come from a container or a virtual machine of this host: somebody may have logged
in there first, from afar (a bastion host in a container whose port is published).

What is passed on to it is either forwarded, as connection tracking has it, or by a program of this
host (docker-proxy), which has a connection to it and another one to its client.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from manactl.look import ssh
from manactl.look.relays import Asks, is_inside
from manactl.look.sockets import owners_of
from manactl.netstate.surroundings import Connection, SshSession
from manactl.wire import inet_diag as diag

# What leads to guests of this host. Others behind a bridge or a TUN device count for guests, too.
_KINDS = frozenset({"bridge", "veth", "tun", "macvlan", "macvtap", "ipvlan", "openvswitch"})


class Ways(Protocol):
    """What is asked of rtnetlink."""

    def leaves_by(self, address: bytes) -> set[int]: ...


def addresses(
    sessions: Iterable[SshSession],
    own: Collection[bytes],
    kinds: Mapping[int, str],
    rtnl: Ways,
) -> dict[str, bytes]:
    """The clients of sessions that do not take the port, as far as they are such guests; `kinds` of
    the links, by ifindex. OSError, ValueError when the way to one cannot be looked up."""
    found = {}
    for one in sessions:
        there = ssh.end(one.client)
        if there is None or there.needs_zone or one.through_port is not False:
            continue
        address = there.address.packed
        if not is_inside(one, own) and any(
            kinds.get(index) in _KINDS for index in rtnl.leaves_by(address)
        ):
            found[one.client] = address
    return found


def reached(
    guests: Collection[bytes],
    forwarded_to: Callable[[Collection[bytes]], Collection[bytes] | None],
    connections: Iterable[Connection] | None,
    asks: Asks,
    proc: Path = Path("/proc"),
) -> set[bytes]:
    """Those that somebody may have reached over the port; `connections` are those that take it.
    Where these are not known (None), or what is forwarded is not, any may."""
    forwarded = forwarded_to(guests)
    if forwarded is None or connections is None:
        return set(guests)
    found = set(forwarded)
    pids = {process.pid for one in connections for process in one.processes}
    rest = set(guests) - found
    if pids and rest:
        nets = [(address, len(address) * 8) for address in sorted(rest)]
        to = {one.inode: one for one in asks.tcp(diag.any_of(diag.peer(nets)))}
        served = {one.local_port for one in asks.listening(b"")}
        for inode, processes in owners_of(set(to), proc, pids).items():
            # A client of a server here is passed on nobody, but by sshd (a reverse tunnel).
            accepted = to[inode].local_port in served
            if not accepted or any(ssh.is_server(one, proc) for one in processes):
                found.add(to[inode].peer)
    return found & set(guests)


def judged(
    session: SshSession, guests: Mapping[str, bytes], found: Collection[bytes]
) -> SshSession:
    """The session; whether it takes the port is not known where its client was reached over that."""
    if guests.get(session.client) not in found:
        return session
    whose = session.found_in, session.own
    return SshSession(session.client, session.server, None, *whose, guest=True)
