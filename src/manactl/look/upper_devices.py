"""What depends on a port, because it is stacked on it or sends by it, in every network namespace.

A child process enters the other namespaces: a link there shows by IFLA_LINK_NETNSID that it is
stacked on a link of ours, or that it is a tunnel whose packets are here.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from manactl.look import (
    conntrack,
    ipsec,
    mounts,
    netdevs,
    netns,
    raw_sockets,
    sockets,
    tunnels,
    tuntap,
)
from manactl.look.conntrack import Tracked
from manactl.look.forked import Child
from manactl.look.netns import NAMED, Namespace
from manactl.look.pyroute2_links import DecodedLink
from manactl.look.rtnetlink import Rtnl
from manactl.look.sockets import Reach, Turned
from manactl.look.tunnels import Way, Ways
from manactl.model.named_tuple import NamedTuple
from manactl.netstate import coverage, snapshot
from manactl.netstate.snapshot import Fact, Kind
from manactl.netstate.surroundings import (
    Connection,
    Forwarded,
    IpsecTunnel,
    Listener,
    PacketSocket,
    RemoteStorage,
    Stacked,
    Tracking,
    TunnelWay,
)
from manactl.netstate.uppers import NETVSC
from manactl.wire import rtmsg as rt
from manactl.wire.conntrack import Flow
from manactl.wire.if_link import IfLink
from manactl.wire.inet_diag import TcpSocket
from manactl.wire.tunnels import TUN, Tunnel

_TCP, _UDP = 6, 17
_WAIT = 35.0  # s; a namespace takes a millisecond, a driver that waits for its device up to 30 s
_LONGEST = 60.0  # s, while the child that searches is seen to run


class Standing(NamedTuple):
    """How a netdev depends on the port; see Stacked."""

    carried: bool
    closes: bool


WHOLE = Standing(carried=True, closes=True)  # as the port itself
CARRIED = Standing(carried=True, closes=False)
Found = dict[int, Standing]  # by ifindex, of one namespace
Chains = dict[int, tuple[TunnelWay, ...]]  # of tunnels, by ifindex: the ways of one over another


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
    if master.kind == NETVSC:
        return lower  # its close closes the port, and it has no other way
    others = any(
        member.master == master.ifindex
        and member.up
        and member.carrier
        and member.ifindex not in found
        for member in links
    )
    alone = master.kind != "vrf" and not (others and master.kind in ("bond", "team"))
    return Standing(lower.carried and alone, False)


def dependents(
    links: Sequence[DecodedLink],
    tuns: Sequence[Tunnel],
    seeds: Found,
    rtnl: Ways,
    known: Chains | None = None,
) -> tuple[Found, Chains]:
    """`seeds` and everything of this namespace that is stacked on it or sends by it, tunnels over
    tunnels too; with the chains that are `known` and those of the tunnels found."""
    found, chains = grow(links, seeds, {}), dict(known or {})
    names = {link.ifindex: link.name for link in links}
    while True:
        ways = tunnels.found_by(tuns, found, _carried(found), rtnl)
        if not ways:
            return found, chains
        for index, way in ways.items():
            chains[index] = _chain(way, names, chains)
        found = grow(links, found | dict.fromkeys(ways, CARRIED), {})


def _carried(found: Found) -> frozenset[int]:
    return frozenset(index for index, standing in found.items() if standing.carried)


def _chain(way: Way, names: Mapping[int, str], chains: Chains) -> tuple[TunnelWay, ...]:
    out = names.get(way.out or 0)
    return (TunnelWay(way.endpoint, out, way.bound, way.by, way.own), *chains.get(way.out or 0, ()))


class View(NamedTuple):
    """What of one namespace depends on the port, as read there."""

    stacked: tuple[Stacked, ...]
    tcp: tuple[Connection, ...]
    packets: tuple[PacketSocket, ...]
    sockets: tuple[Connection, ...] = ()  # connected, but not TCP's
    listeners: tuple[Listener, ...] = ()
    forwarded: tuple[Forwarded, ...] | None = ()
    ipsec: tuple[IpsecTunnel, ...] | None = ()
    storage: tuple[RemoteStorage, ...] | None = ()
    tracking: Tracking = Tracking.READ


def stacked(
    links: Iterable[DecodedLink], found: Found, rtnl: Rtnl, name: str | None,
    chains: Chains | None = None,
) -> list[Stacked]:  # fmt: skip
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
    hops = [Fact(Kind.NEXTHOP, body) for body in rtnl.nexthops()]
    by_id = snapshot.nexthop_devices(hops)
    routes = rtnl.routes()
    shapes: dict[bytes, bool | None] = {}  # whether it is carried; None: none of these
    for body, (rest, _) in zip(routes, rt.shapes(routes), strict=True):
        try:
            carried = shapes[rest]
        except KeyError:
            out = snapshot.out_of(Fact(Kind.ROUTE, body, rest), by_id) & known.keys()
            carried = any(found[index].carried for index in out) if out else None
            shapes[rest] = carried
        if carried is not None:
            mine[carried].append(body)
    for body in (*coverage.defaults(mine[True]), *coverage.defaults(mine[False])):
        for index in snapshot.out_of(Fact(Kind.ROUTE, body), by_id) & known.keys():
            defaults[index].append(snapshot.describe(Fact(Kind.ROUTE, body), names))
    objects = {index for hop in hops for index in snapshot.devices_of(hop)}
    return [
        Stacked(
            link.name, index, link.kind or None, name, *found[index],
            tuple(snapshot.addresses(addresses[index])),
            tuple(snapshot.global_addresses(addresses[index])),
            tuple(defaults[index]),
            index in objects,
            ways=(chains or {}).get(index, ()),
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
    answer = Child(lambda: _search(places, found)).collect(wait, max(wait, _LONGEST))
    if not isinstance(answer, list):
        raise TimeoutError(errno.ETIMEDOUT, "the search failed, or did not end in time")
    return [_view(*fields) for fields in answer]


def _view(stack: list[Any], found: Mapping[str, list[Any]], name: str) -> View:
    devices = [_stacked(*fields) for fields in stack]
    depend = reach(devices)

    def socks(what: str) -> list[TcpSocket]:
        return [TcpSocket(*fields) for fields in found[what]]

    flows, wrapped, attached = found["forwarded"], found["ipsec"], found["storage"]
    by_proc = [
        replace(Connection(*fields), netns=name, protocol=protocol, address_goes=goes)
        for *fields, protocol, goes in found["by_proc"]
    ]
    return View(
        tuple(devices),
        tuple(sockets.connections(socks("tcp"), depend, name)),
        tuple(PacketSocket(inode, (), f"{netdev} in {name}") for inode, netdev in found["packets"]),
        (*sockets.connections(socks("udp"), depend, name, "udp"), *by_proc),
        (
            *sockets.listeners(socks("listening"), "tcp", name),
            *sockets.listeners(socks("unconnected"), "udp", name),
            *(
                Listener(protocol, address, number, inode, (), name)
                for protocol, address, number, inode in found["waiting_by_proc"]
            ),
        ),
        flows if flows is None else tuple(Forwarded(*fields) for fields in flows),
        wrapped if wrapped is None else tuple(IpsecTunnel(*fields) for fields in wrapped),
        attached if attached is None else tuple(RemoteStorage(*fields) for fields in attached),
        Tracking(found["tracking"]),
    )


def _plain_connection(one: Connection) -> tuple[object, ...]:
    ends = (one.local, one.local_port, one.peer, one.peer_port)
    return (*ends, one.state, one.inode, one.protocol, one.address_goes)


def _stacked(*fields: Any) -> Stacked:
    *rest, chain = fields
    return replace(Stacked(*rest), ways=tuple(TunnelWay(*way) for way in chain))


class _World:
    """A namespace in the child's hands; its rtnetlink socket stays in it."""

    def __init__(self, name: str, fd: int) -> None:
        self.name, self.fd = name, fd
        self.rtnl = Rtnl()
        self.links = netdevs.links()
        self.names = {link.ifindex: link.name for link in self.links}
        self.tunnels = tunnels.live()
        self.programs: list[Tunnel] = []  # TUN devices whose programs are where the child came from
        self.found: Found = {}
        self.chains: Chains = {}

    @property
    def borders(self) -> bool:
        """Whether something here may be stacked on a link of another namespace, or send by one.
        Where a WireGuard device was made the kernel does not tell: one of home's has been judged."""
        sends = any(
            one.nsid is not None or (one.kind == "wireguard" and not self.is_home)
            for one in self.tunnels
        )
        return sends or self.has_tun or any(link.far_lower for link in self.links)

    @property
    def is_home(self) -> bool:
        """Whether it is the one that the child came from: what is there may be stacked on a link of
        another namespace, too."""
        return not self.name

    @property
    def has_tun(self) -> bool:
        return not self.is_home and any(link.kind == TUN for link in self.links)

    def ask(self, others: Iterable[Self | _Home]) -> bool:
        """Whether more is stacked on what was found in the others by now, or sends by it."""
        beyond = {}
        before = len(self.found)
        for other in others:
            if not other.found:
                continue
            number = self.rtnl.nsid(other.fd)
            if number is not None:
                beyond[number] = other.found
            away = [
                one
                for one in self.tunnels
                if (one.nsid is not None and one.nsid == number)
                or (one.kind == "wireguard" and isinstance(other, _Home) and not self.is_home)
            ]
            if isinstance(other, _Home):
                away += self.programs
            ways = tunnels.found_by(away, self.found, _carried(other.found), other.rtnl)
            for index, way in ways.items():
                self.chains[index] = _chain(way, other.names, other.chains)
            self.found |= dict.fromkeys(ways, CARRIED)
        self.found = grow(self.links, self.found, beyond)
        here = [one for one in self.tunnels if one.nsid is None]
        self.found, self.chains = dependents(self.links, here, self.found, self.rtnl, self.chains)
        return len(self.found) > before

    def read(self) -> tuple[object, ...]:
        """Everything for a View, as plain values; this process has to be in the namespace."""
        devices = stacked(self.links, self.found, self.rtnl, self.name, self.chains)
        depend = reach(devices)
        names = {device.ifindex: device.name for device in devices if device.carried}
        packets = sockets.packet_sockets(names, Path("/proc/self"))
        wrapped = self._ipsec(depend)  # first: it tells where packets go
        tracked = self._tracked()
        turned = tracked.turned if tracked else {}
        found = {
            "ipsec": wrapped,
            "tcp": self._using(depend, turned, sockets.tcp, _TCP),
            "udp": self._using(depend, turned, sockets.udp, _UDP),
            "listening": _tuples(sockets.serving(depend)),
            "unconnected": _tuples(sockets.serving(depend, sockets.unconnected)),
            "packets": [(packet.inode, packet.netdev) for packet in packets],
            "by_proc": [
                _plain_connection(one)
                for one in (
                    *sockets.sctp(depend, self.rtnl),
                    *raw_sockets.connected(depend, self.rtnl),
                )
            ],
            "waiting_by_proc": [
                (one.protocol, one.address, one.port, one.inode)
                for one in (*sockets.sctp_listeners(depend), *raw_sockets.waiting(depend))
            ],
            "forwarded": self._forwarded(depend, tracked),
            "storage": self._storage(depend),
            "tracking": conntrack.known(tracked, self.rtnl).value,
        }
        return [_plain(device) for device in devices], found, self.name

    def _using(
        self,
        depend: sockets.Reach,
        turned: Mapping[Flow, Turned],
        ask: Callable[[bytes], list[TcpSocket]],
        protocol: int,
    ) -> list[tuple[object, ...]]:
        many = sockets.are_many(protocol)
        return _tuples(sockets.using(depend, self.rtnl, ask, protocol, turned, many=many))

    def _tracked(self) -> Tracked | None:
        """None when it cannot be read, which is no reason to know nothing else."""
        try:
            return conntrack.read(self.rtnl)
        except (OSError, ValueError):
            return None

    def _forwarded(self, depend: Reach, tracked: Tracked | None) -> list[tuple[Any, ...]] | None:
        if tracked is None:
            return None
        vrfs = [link.ifindex for link in self.links if link.kind == "vrf"]
        try:
            flows = conntrack.forwarded(depend, self.rtnl, tracked, vrfs=vrfs, netns=self.name)
            return _tuples(flows)
        except (OSError, ValueError):
            return None

    def _storage(self, depend: Reach) -> list[tuple[Any, ...]] | None:
        """The mounts that processes of this namespace have."""
        try:
            return _tuples(mounts.storage(depend, self.rtnl, netns=self.name))
        except (OSError, ValueError):
            return None

    def _ipsec(self, depend: Reach) -> list[tuple[Any, ...]] | None:
        try:
            if policies := ipsec.live():
                self.rtnl.ipsec = functools.partial(ipsec.around, policies)
            return _tuples(ipsec.through(policies, depend, self.rtnl, self.name))
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        self.rtnl.close()
        os.close(self.fd)


def _tuples(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows]


def _plain(device: Stacked) -> tuple[object, ...]:
    *rest, chain = (getattr(device, field) for field in Stacked.__match_args__)
    return (*rest, [tuple(way) for way in chain])


class _Home(NamedTuple):
    """The namespace that the child came from."""

    fd: int
    found: Found
    rtnl: Rtnl
    names: dict[int, str]
    chains: Chains


def _search(places: Iterable[Namespace], seeds: Found) -> list[Any]:
    """In the child. Any failure ends it, and no answer differs from an empty one."""
    rtnl = Rtnl()
    names = {link.ifindex: link.name for link in map(IfLink, rtnl.links())}
    home = _Home(os.open("/proc/self/ns/net", os.O_RDONLY), seeds, rtnl, names, {})
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
    if any(world.has_tun for world in worlds):
        netns.set_namespace(home.fd)  # whose sockets are those of the programs here
        for world in worlds:
            links = [IfLink(body) for body in world.rtnl.links()] if world.has_tun else ()
            world.programs = [one for one in tuntap.tunnels(links) if not one.unseen]
    while any([world.ask([home, *(w for w in worlds if w is not world)]) for world in worlds]):
        pass  # what was found in one namespace may have uppers in another
    found = []
    for world in worlds:
        if world.found:
            netns.set_namespace(world.fd)
            found.append(world.read())
    return found
