"""What depends on a port, because it is stacked on it, in every network namespace.

A child process enters the other namespaces: a link there shows by IFLA_LINK_NETNSID that it is
stacked on a link of ours.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from manactl.look import netdevs, netns, sockets
from manactl.look.forked import Child
from manactl.look.netns import NAMED, Namespace
from manactl.look.pyroute2_links import DecodedLink
from manactl.look.rtnetlink import Rtnl
from manactl.look.sockets import Reach
from manactl.netstate import coverage, snapshot
from manactl.netstate.snapshot import Fact, Kind
from manactl.netstate.surroundings import Connection, PacketSocket, Stacked
from manactl.wire import rtmsg as rt
from manactl.wire.inet_diag import TcpSocket

_WAIT = 35.0  # s; a namespace takes a millisecond, a driver that waits for its device up to 30 s


class Standing(NamedTuple):
    """How a netdev depends on the port; see Stacked."""

    carried: bool
    closes: bool


WHOLE = Standing(carried=True, closes=True)  # as the port itself
Found = dict[int, Standing]  # by ifindex, of one namespace


def grow(links: Sequence[DecodedLink], found: Found, beyond: Mapping[int, Found]) -> Found:
    """`found` and everything of `links` that is stacked on it, or on what was found in other
    namespaces: `beyond` has that by their number as IFLA_LINK_NETNSID has it."""
    found = dict(found)
    by_index = {link.ifindex: link for link in links}
    while True:
        new: Found = {}
        for link in links:
            if link.ifindex not in found and (standing := _as_upper(link, found, beyond)):
                new[link.ifindex] = standing
        for index, standing in found.items():
            master = by_index.get(by_index[index].master or 0) if index in by_index else None
            if master is not None and master.ifindex not in found:
                new[master.ifindex] = _as_master(master, standing, links, found)
        if not new:
            return found
        found |= new


def _as_upper(link: DecodedLink, found: Found, beyond: Mapping[int, Found]) -> Standing | None:
    if link.far_lower:
        index, number = link.far_lower
        lower = beyond.get(number, {}).get(index)
    else:
        lower = found.get(link.lower or 0)
    return lower and Standing(lower.carried, lower.closes and link.follows)


def _as_master(
    master: DecodedLink, lower: Standing, links: Iterable[DecodedLink], found: Found
) -> Standing:
    others = any(
        member.master == master.ifindex
        and member.up
        and member.carrier
        and member.ifindex not in found
        for member in links
    )
    alone = master.kind != "vrf" and not (others and master.kind in ("bond", "team"))
    return Standing(lower.carried and alone, False)


class View(NamedTuple):
    """What of one namespace depends on the port, as read there."""

    stacked: tuple[Stacked, ...]
    tcp: tuple[Connection, ...]
    packets: tuple[PacketSocket, ...]


def stacked(
    links: Iterable[DecodedLink], found: Found, rtnl: Rtnl, name: str | None
) -> list[Stacked]:
    """The netdevs of `found` with their addresses and default routes."""
    known = {link.ifindex: link for link in links if link.ifindex in found}
    if not known:
        return []
    names = {index: link.name for index, link in known.items()}
    addresses: dict[int, list[Fact]] = {index: [] for index in known}
    for body in rtnl.addresses():
        index = rt.IfAddrMsg.of(body).ifindex
        if index in addresses:
            addresses[index].append(Fact(Kind.ADDRESS, body))
    defaults: dict[int, list[str]] = {index: [] for index in known}
    mine: dict[bool, list[bytes]] = {True: [], False: []}
    for body in rtnl.routes():
        if out := rt.route_ifindexes(body) & known.keys():
            mine[any(found[index].carried for index in out)].append(body)
    for body in (*coverage.defaults(mine[True]), *coverage.defaults(mine[False])):
        for index in rt.route_ifindexes(body) & known.keys():
            defaults[index].append(snapshot.describe(Fact(Kind.ROUTE, body), names))
    return [
        Stacked(
            link.name, index, link.kind or None, name, *found[index],
            tuple(snapshot.addresses(addresses[index])),
            tuple(snapshot.global_addresses(addresses[index])),
            tuple(defaults[index]),
        )
        for index, link in sorted(known.items())
    ]  # fmt: skip


def reach(devices: Iterable[Stacked], port: int = 0, own: Iterable[str] = ()) -> Reach:
    """What the guards for sockets look for: the port itself, and the uppers that depend on it."""
    carried = [device for device in devices if device.carried]
    own = list(own)
    going = [*own, *(a for device in carried if device.closes for a in device.addresses)]
    return Reach(
        frozenset({device.ifindex for device in carried} | ({port} if port else set())),
        frozenset(map(_packed, [*own, *(a for device in carried for a in device.addresses)])),
        frozenset(_packed(address) for address in going if ":" in address),
    )


def _packed(address: str) -> bytes:
    import socket  # noqa: PLC0415 - its enums

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address)


# --- other namespaces -------------------------------------------------------------------------


def in_other_netns(
    found: Found, proc: str = "/proc", named: str = NAMED, wait: float = _WAIT
) -> list[View]:
    """What depends on the netdevs `found` here in other namespaces; OSError when not all of them
    could be searched. Their sockets' processes are not looked up."""
    places = list(netns.namespaces(proc, named))
    if os.geteuid():
        raise PermissionError(errno.EPERM, "only root may look into all of them")
    if not places:
        return []
    answer = Child(lambda: _search(places, found)).collect(wait)
    if not isinstance(answer, list):
        raise TimeoutError(errno.ETIMEDOUT, "the search failed, or did not end in time")
    return [_view(*fields) for fields in answer]


def _view(stack: list[Any], tcp: list[Any], packets: list[Any], name: str) -> View:
    devices = [Stacked(*fields) for fields in stack]
    found = [TcpSocket(*fields) for fields in tcp]
    return View(
        tuple(devices),
        tuple(sockets.connections(found, reach(devices), name)),
        tuple(PacketSocket(inode, (), f"{netdev} in {name}") for inode, netdev in packets),
    )


class _World:
    """A namespace in the child's hands; its rtnetlink socket stays in it."""

    def __init__(self, name: str, fd: int) -> None:
        self.name, self.fd = name, fd
        self.rtnl = Rtnl()
        self.links = netdevs.links()
        self.found: Found = {}

    @property
    def borders(self) -> bool:
        """Whether something here is stacked on a link of another namespace."""
        return any(link.far_lower for link in self.links)

    def ask(self, others: Iterable[Self | _Home]) -> bool:
        """Whether more is stacked on what was found in the others by now."""
        beyond = {}
        for other in others:
            if other.found and (number := self.rtnl.nsid(other.fd)) is not None:
                beyond[number] = other.found
        before = len(self.found)
        self.found = grow(self.links, self.found, beyond)
        return len(self.found) > before

    def read(self) -> tuple[object, ...]:
        """Everything for a View, as plain values; this process has to be in the namespace."""
        devices = stacked(self.links, self.found, self.rtnl, self.name)
        tcp = sockets.using(reach(devices), self.rtnl)
        names = {device.ifindex: device.name for device in devices if device.carried}
        packets = sockets.packet_sockets(names, Path("/proc/self"))
        return (
            [_plain(device) for device in devices],
            [tuple(sock) for sock in tcp],
            [(packet.inode, packet.netdev) for packet in packets],
            self.name,
        )

    def close(self) -> None:
        self.rtnl.close()
        os.close(self.fd)


def _plain(device: Stacked) -> tuple[object, ...]:
    return tuple(getattr(device, field) for field in Stacked.__slots__)


class _Home(NamedTuple):
    """The namespace that the child came from."""

    fd: int
    found: Found


def _search(places: Iterable[Namespace], seeds: Found) -> list[Any]:
    """In the child. Any failure ends it, and no answer differs from an empty one."""
    home = _Home(os.open("/proc/self/ns/net", os.O_RDONLY), seeds)
    worlds = []
    for place in places:
        try:
            fd = netns.enter(place)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has gone since
        world = _World(place.name, fd)
        if world.borders:
            worlds.append(world)
        else:
            world.close()
    while any([world.ask([home, *(w for w in worlds if w is not world)]) for world in worlds]):
        pass  # what was found in one namespace may have uppers in another
    found = []
    for world in worlds:
        if world.found:
            netns.set_namespace(world.fd)
            found.append(world.read())
    return found
