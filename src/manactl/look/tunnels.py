"""Tunnels of a network namespace, and which of them send by a port: the kernel is asked where the
packets around the packets go.

Only a VXLAN, GRE, IPIP or xfrm device that was made with `dev` names a lower, and a VXLAN not even
that to rtnetlink. The endpoints are in IFLA_INFO_DATA, a VXLAN's FDB, a GRE's neighbours, the
gateways of an IPIP's routes, WireGuard's peers, the SAs of an xfrm interface, and L2TP's tunnels.
Those of a TUN device are in its program's sockets (look/tuntap.py).
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from manactl.look import tuntap
from manactl.look.rtnetlink import Rtnl, ntop
from manactl.look.sockets import is_link_local
from manactl.look.text_files import fields, rows
from manactl.look.text_files import read as read_kernel
from manactl.model.named_tuple import NamedTuple
from manactl.netstate import snapshot
from manactl.netstate.snapshot import Fact, Kind
from manactl.wire import genetlink as genl
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import as_int, parse_attrs
from manactl.wire.if_link import IfLink
from manactl.wire.netlink import Message, NetlinkSocket
from manactl.wire.tunnels import (
    NETLINK_XFRM,
    OF_SOCKETS,
    PPP,
    TUN,
    XFRM_MSG_GETSA,
    Association,
    Outer,
    Tunnel,
    association,
    tunnel,
)

_L2TP = "module/l2tp_netlink"  # below /sys; to ask for a family that is not there loads its module


class Tables(Protocol):
    """What rtnetlink knows of tunnels."""

    def links(self) -> list[bytes]: ...
    def forwarding(self, ifindex: int) -> list[bytes]: ...
    def neighbours(self) -> list[bytes]: ...
    def routes(self) -> Sequence[bytes]: ...
    def nexthops(self) -> list[bytes]: ...


class Dump(Protocol):
    """A netlink socket."""

    def request(self, kind: int, flags: int = 0, body: bytes = b"") -> list[Message]: ...
    def dump(self, kind: int, body: bytes = b"") -> list[Message]: ...


Opener = Callable[[int], AbstractContextManager[Dump]]


def live() -> list[Tunnel]:
    """The tunnels of this network namespace. OSError, ValueError, KeyError when not all of it can
    be read."""
    with Rtnl() as rtnl:
        return read(rtnl, lambda family: NetlinkSocket(family, strict=False), Path("/sys"))


def read(
    rtnl: Tables,
    opener: Opener,
    sys: Path,
    of_programs: Callable[[Sequence[IfLink]], Iterable[Tunnel]] = tuntap.tunnels,
    process: Path = Path("/proc/self"),
) -> list[Tunnel]:
    links = [IfLink(body) for body in rtnl.links()]
    found = [one for one in map(tunnel, links) if one is not None]
    names = {link.name: link.ifindex for link in links}
    kinds = {one.kind for one in found}
    keepers = [one for one in found if _is_nbma(one)]
    nbma = _nbma(rtnl.neighbours(), {one.ifindex for one in keepers}) if keepers else {}
    routed = {one.ifindex for one in found if _is_routed(one)}
    for index, to in _gateways(rtnl, routed) if routed else ():
        nbma.setdefault(index, []).append(to)
    sas = _associations(opener) if "xfrm" in kinds else ()
    made = []
    for one in found:
        outers = list(one.outers)
        if one.kind == "vxlan":
            outers += _forwarded(one, rtnl.forwarding(one.ifindex), rtnl)
        elif one.kind == "wireguard":
            outers += _peers(one.ifindex, opener)
        elif one.kind == "xfrm":
            outers += [sa.outer for sa in sas if sa.if_id == one.if_id]
        outers += [
            Outer(to, one.local, one.mark)
            for to in nbma.get(one.ifindex, ())
            if one.ifindex not in routed or len(to) == (4 if one.kind == "ipip" else 16)
        ]
        # 6to4 has the endpoint in each address.
        metadata = one.metadata or (one.kind == "sit" and not outers)
        made.append(one._replace(outers=tuple(dict.fromkeys(outers)), metadata=metadata))
    if (sys / _L2TP).exists():
        made += _l2tp(names, opener)
    return [*made, *of_programs(links), *_ppp(links, process)]


def _ppp(links: Iterable[IfLink], process: Path) -> list[Tunnel]:
    """PPP devices over Ethernet devices. Which of them a session belongs to only its program knows,
    so each may send by each of the devices. Where there is no session they go by what their program
    has (L2TP, PPTP, TLS), or by a serial line."""
    ppp = [link for link in links if link.kind == PPP]
    if not ppp:
        return []
    try:
        table = rows(read_kernel(process / "net/pppoe"))[1:]
    except FileNotFoundError:
        table = []
    if not any(map(fields, table)):
        return [Tunnel(link.ifindex, link.name, PPP, metadata=True) for link in ppp if link.carrier]
    below = dict.fromkeys(words[-1] for row in table if (words := fields(row)))  # pppoe_seq_show()
    names = {link.name: link.ifindex for link in links}
    return [
        Tunnel(link.ifindex, link.name, PPP, under=names[name])
        for link in ppp
        for name in below
        if name in names
    ]


def _is_nbma(one: Tunnel) -> bool:
    """A GRE tunnel without one end: its neighbours' link-layer addresses are the endpoints."""
    return "gre" in one.kind and not one.outers and not one.metadata


def _is_routed(one: Tunnel) -> bool:
    """An IPIP or ip6tnl device without a remote: the gateway of a packet's route is the endpoint
    (rt_nexthop() in ip_tunnel_xmit(), ip6_tnl_xmit())."""
    return one.kind in ("ipip", "ip6tnl") and not one.outers and not one.metadata


def _gateways(rtnl: Tables, ifindexes: Collection[int]) -> list[tuple[int, bytes]]:
    """The gateways of the routes over these devices, each with its device."""
    found = []
    ids: set[int] = set()
    for rest in dict.fromkeys(rest for rest, _ in rt.shapes(rtnl.routes())):
        by_id = snapshot.nexthop_of(Fact(Kind.ROUTE, rest, rest))
        if by_id is not None:
            ids.add(by_id)
        elif not rt.ifindexes(rest).isdisjoint(ifindexes):
            found += [(hop.ifindex, to) for hop in rt.ways(rest) for to in _via(hop.rest)]
    hops = _objects(rtnl) if ids else {}
    for number in ids & hops.keys():
        for one in _members(number, hops):
            found += [(index, to) for index in snapshot.devices_of(one) for to in _gw(one)]
    return [(index, to) for index, to in dict.fromkeys(found) if index in ifindexes]


def _via(attrs: bytes) -> list[bytes]:
    """The gateway of one way of a route; RTA_VIA has its family in front."""
    there = rt.split(attrs, 0)
    other = rt.value(there, rt.RTA_VIA)
    to = rt.value(there, rt.RTA_GATEWAY) if other is None else other[2:]
    return [to] if to else []


def _objects(rtnl: Tables) -> dict[int, Fact]:
    """The nexthops and groups by their ids."""
    hops = (Fact(Kind.NEXTHOP, body) for body in rtnl.nexthops())
    return {snapshot.nexthop_id(hop): hop for hop in hops}


def _members(number: int, hops: Mapping[int, Fact]) -> list[Fact]:
    """The nexthop of that id, and those of a group."""
    if number not in hops:
        return []
    ids = (number, *rt.group_members(hops[number].body))
    return [hops[one] for one in ids if one in hops]


def _gw(hop: Fact) -> list[bytes]:
    to = rt.value(rt.split(hop.body, rt.NHMSG.size), rt.NHA_GATEWAY)
    return [to] if to else []


def _forwarded(vxlan: Tunnel, rows: Iterable[bytes], rtnl: Tables) -> list[Outer]:
    """The endpoints in a VXLAN's FDB; an entry may be bound to an interface, or be by a nexthop
    group."""
    found = []
    ids: set[int] = set()
    for body in rows:
        if rt.NdMsg.of(body).ifindex != vxlan.ifindex:
            continue
        attrs = parse_attrs(body, rt.NDMSG.size)
        to = attrs.get(rt.NDA_DST, b"")
        if any(to):
            found.append(Outer(to, vxlan.local, 0, as_int(attrs.get(rt.NDA_IFINDEX, b""))))
        elif rt.NDA_NH_ID in attrs:
            ids.add(as_int(attrs[rt.NDA_NH_ID]))
    hops = _objects(rtnl) if ids else {}
    ends = [to for number in sorted(ids) for one in _members(number, hops) for to in _gw(one)]
    return found + [Outer(to, vxlan.local) for to in ends]


def _nbma(rows: Iterable[bytes], ifindexes: Collection[int]) -> dict[int, list[bytes]]:
    found: defaultdict[int, list[bytes]] = defaultdict(list)
    for body in rows:
        index = rt.NdMsg.of(body).ifindex
        to = parse_attrs(body, rt.NDMSG.size).get(rt.NDA_LLADDR, b"")
        if index in ifindexes and len(to) in (4, 16) and any(to):
            found[index].append(to)
    return found


def _family(generic: Dump, name: str) -> int:
    for message in generic.request(genl.GENL_ID_CTRL, 0, genl.family(name)):
        return genl.family_id(message.body)
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _peers(ifindex: int, opener: Opener) -> list[Outer]:
    with opener(genl.NETLINK_GENERIC) as generic:
        number = _family(generic, "wireguard")
        answers = generic.dump(number, genl.wireguard(ifindex))
    parts = [genl.wireguard_peers(message.body) for message in answers]
    mark = max((part.mark for part in parts), default=0)  # only the first part has it
    return [Outer(to, b"", mark, zone) for part in parts for to, zone in part.endpoints]


def _associations(opener: Opener) -> list[Association]:
    with opener(NETLINK_XFRM) as xfrm:
        return [association(message.body) for message in xfrm.dump(XFRM_MSG_GETSA)]


def _l2tp(names: dict[str, int], opener: Opener) -> list[Tunnel]:
    with opener(genl.NETLINK_GENERIC) as generic:
        number = _family(generic, "l2tp")
        tunnels = generic.dump(number, genl.command(genl.L2TP_CMD_TUNNEL_GET))
        sessions = generic.dump(number, genl.command(genl.L2TP_CMD_SESSION_GET))
    ends = {end.id: end for end in (genl.l2tp_tunnel(message.body) for message in tunnels)}
    found = []
    for name, of in (genl.l2tp_session(message.body) for message in sessions):
        if name in names and of in ends:
            outers = (Outer(ends[of].remote, ends[of].local),) if any(ends[of].remote) else ()
            found.append(Tunnel(names[name], name, "l2tp", outers=outers, metadata=not outers))
    return found


# --- which way they send ----------------------------------------------------------------------


class Ways(Protocol):
    """Asked where packets go in one network namespace."""

    def leaves_by(
        self, address: bytes, *, source: bytes = b"", bound: int = 0, mark: int = 0
    ) -> set[int]: ...
    def addresses(self) -> list[bytes]: ...
    def routes(self) -> Sequence[bytes]: ...
    def nexthops(self) -> list[bytes]: ...


class Way(NamedTuple):
    """What makes a tunnel depend on an interface. No endpoint: its packets are bound to the
    interface; no interface either: each packet has its own endpoint. `bound`: the tunnel has the
    interface as its device. `by`: the program that sends them. `own`: its own end, an address of the
    interface, whatever way its packets leave by."""

    endpoint: str | None
    out: int | None
    bound: bool
    by: str = ""
    own: str | None = None


def way(
    one: Tunnel, ifindexes: Collection[int], rtnl: Ways, own: Mapping[bytes, int] | None = None
) -> Way | None:
    """Why the tunnel depends on one of these; or None: its packets leave by it, at least some of
    them, or those of its peer come in by it, to one of the addresses `own` (with their interface)."""
    bound = one.under in ifindexes
    for outer in one.outers:
        # An xfrm interface only notes its device (xfrm4_dst_lookup() does not ask for it).
        by = outer.zone or (0 if one.kind == "xfrm" else one.under)
        out = rtnl.leaves_by(outer.remote, source=outer.local, bound=by, mark=outer.mark)
        if outer.zone in ifindexes or not out.isdisjoint(ifindexes):
            index = outer.zone if outer.zone in ifindexes else min(out & set(ifindexes))
            return Way(ntop(outer.remote), index, bound, one.by)
    if bound:
        return Way(None, one.under, bound)
    for local in (one.local, *(outer.local for outer in one.outers)):
        if own and local in own:
            return Way(None, own[local], bound, one.by, ntop(local))
    if one.metadata and one.kind in (TUN, PPP, *OF_SOCKETS):
        # It has peers beside those that its connected sockets tell, or that are told at all.
        return Way(None, None, bound, one.by) if _leads_anywhere(ifindexes, rtnl) else None
    if one.metadata and not one.outers and not one.under:
        return Way(None, None, bound)
    return None


def _own(ifindexes: Collection[int], rtnl: Ways) -> dict[bytes, int]:
    """The addresses of these interfaces, but for those that others may have, too: link-local ones."""
    found = {}
    for body in rtnl.addresses():
        head, attrs = rt.IfAddrMsg.of(body), rt.split(body, rt.IFADDR.size)
        address = rt.value(attrs, rt.IFA_LOCAL) or rt.value(attrs, rt.IFA_ADDRESS)
        if address and head.ifindex in ifindexes and not is_link_local(address):
            found[address] = head.ifindex
    return found


def _leads_anywhere(ifindexes: Collection[int], rtnl: Ways) -> bool:
    """Whether a peer of a program can be behind one of these: a route leads to others by it."""
    hops = snapshot.nexthop_devices(Fact(Kind.NEXTHOP, body) for body in rtnl.nexthops())
    leads: dict[bytes, bool] = {}  # routes of one shape, wherever to
    for rest, to in rt.shapes(rtnl.routes()):
        if rest not in leads:
            unicast = rt.RtMsg.of(rest).type == rt.RTN_UNICAST
            out = snapshot.out_of(Fact(Kind.ROUTE, rest, rest), hops)
            leads[rest] = unicast and not out.isdisjoint(ifindexes)
        link_scope = to[:1] == b"\xff" or (to[:1] == b"\xfe" and to[1] & 0xC0 == 0x80)
        if leads[rest] and not (rt.is_ipv6(rest) and link_scope):
            return True
    return False


def found_by(
    tunnels: Sequence[Tunnel], known: Collection[int], ifindexes: Collection[int], rtnl: Ways
) -> dict[int, Way]:
    """Those of the tunnels, but for the known ones, that send by one of these interfaces."""
    if not ifindexes:
        return {}
    ways: dict[int, Way] = {}
    some = [one for one in tunnels if one.ifindex not in known]
    own = _own(ifindexes, rtnl) if any(one.local or one.outers for one in some) else {}
    for one in some:
        if (how := way(one, ifindexes, rtnl, own)) is not None:
            ways.setdefault(one.ifindex, how)
    return ways
