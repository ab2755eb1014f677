"""The network state of a port by rtnetlink: read as it is, changed by prepared messages.

A request that changes something runs to its end inside sendmsg(), under RTNL and uninterruptible:
while the driver waits for its NIC, so do we.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from manactl.look import stacked_links
from manactl.look.text_files import passing_over
from manactl.model.port import PortId
from manactl.model.uncollected import uncollected
from manactl.netstate import beside, blueprints, bridging, leaning, members, snapshot, tc_objects
from manactl.netstate.beside import Beside
from manactl.netstate.blueprints import Blueprint
from manactl.netstate.bridging import Kept
from manactl.netstate.link_settings import LinkSettings, Qdisc, of_link, of_survivor, qdiscs
from manactl.netstate.members import Member
from manactl.netstate.requests import Filled
from manactl.netstate.snapshot import (
    Dumps,
    Fact,
    Facts,
    Kind,
    OtherDevice,
    PortState,
    Request,
    RouteChoice,
    Rows,
    other_devices,
    related,
    select,
)
from manactl.netstate.tc_objects import TcObject
from manactl.netstate.uppers import UpperState
from manactl.wire import rtmsg as rt
from manactl.wire import tc
from manactl.wire.attrs import as_int, attr, attr_u32, parse_attrs
from manactl.wire.if_link import (
    IFLA_ADDRESS,
    IFLA_EXT_MASK,
    RTM_GETLINK,
    RTM_GETQDISC,
    RTM_NEWLINK,
    TCMSG,
    IfInfoMsg,
    IfLink,
    get_link,
    set_admin,
)
from manactl.wire.netlink import NETLINK_ROUTE, NetlinkSocket, Table

if TYPE_CHECKING:
    from manactl.wire.tunnels import Outer

_NESTED = 4  # routes with segments, one for the segment of another
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
# The last one of a family that this kernel runs without (ipv6.disable=1).
_NO_WAY = (
    errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP,
)  # fmt: skip


class Rtnl:
    """One rtnetlink socket, for the network namespace it is opened in. `ipsec` tells leaves_by()
    the tunnels that policies put packets to an address, from a source, into."""

    ipsec: Callable[[bytes, bytes], Sequence[Outer]] | None = None

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_ROUTE)
        self._tables: dict[int, Table] = {}  # of routes, as last read, by family
        self._routes: list[bytes] = []  # their messages, of both families
        self._are_read = False
        self._facts = Facts()  # of the last capture
        self._chosen: RouteChoice | None = None  # of them, for the last capture
        # The choice, addresses and devices of the last capture, with what leans on these.
        self._leaned: (
            tuple[RouteChoice, tuple[frozenset[bytes], frozenset[int]], tuple[Fact, ...]] | None
        ) = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def link(self, ifindex: int) -> IfLink:
        """OSError(ENODEV) when there is no such interface."""
        for message in self._socket.request(RTM_GETLINK, 0, get_link(ifindex)):
            if message.type == RTM_NEWLINK:
                return IfLink(message.body)
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def rules_ask(self) -> frozenset[int]:
        """What the routing rules here ask for: the FRA_ numbers that any of them has."""
        return frozenset(kind for body in self.rules() for kind in parse_attrs(body, rt.RTMSG.size))

    def rules(self) -> list[bytes]:
        """The policy rules, as message bodies."""
        found: list[bytes] = []
        for family in _FAMILIES:
            try:
                found += self._dump(rt.RTM_GETRULE, rt.RtMsg(family).pack())
            except OSError as error:  # the kernel runs without this family, or rules of it
                if error.errno != errno.EAFNOSUPPORT:
                    raise
        return found

    def beside(self) -> tuple[Beside, ...]:
        """What hangs on no port, and networkd deletes."""
        return beside.select(self.rules(), self.nexthops(), self._read_routes())

    def vrf_of(self, ifindex: int) -> int:
        """The VRF that an interface is in, or is; else 0."""
        link = self.link(ifindex)
        if link.kind == "vrf":
            return ifindex
        master = link.master
        return master if master is not None and self.link(master).kind == "vrf" else 0

    def nsid(self, namespace: int) -> int | None:
        """The number by which this namespace calls the one of that descriptor, if it has one."""
        body = bytes(4) + attr_u32(rt.NETNSA_FD, namespace)
        for message in self._socket.request(rt.RTM_GETNSID, 0, body):
            if message.type == rt.RTM_NEWNSID:
                number = as_int(parse_attrs(message.body, 4)[rt.NETNSA_NSID])
                return None if number == 0xFFFFFFFF else number
        return None

    def set_up(self, ifindex: int, up: bool) -> None:
        """Set or clear IFF_UP; returns when the driver's open or stop function has."""
        self._socket.request(RTM_NEWLINK, 0, set_admin(ifindex, up))

    def send(self, request: Request) -> None:
        self._socket.request(request.type, request.flags, request.body)

    def send_all(self, requests: Sequence[Request]) -> list[OSError | None]:
        """Send them in their order, and tell of each what the kernel said against it."""
        return self._socket.request_all(requests)

    def send_alike(self, requests: Filled) -> None:
        """Send all of them in their order, whatever the kernel says against one."""
        self._socket.request_alike(requests.alike, requests.fillings)

    def dumps(self) -> Dumps:
        """All tables that can refer to a port, of this namespace."""
        neighbours: list[bytes] = []
        for family in _FAMILIES:
            for flags in (0, rt.NTF_PROXY):
                neighbours += self._neighbours(family, flags)
        return Dumps(self.addresses(), self.nexthops(), self._read_routes(), neighbours)

    def nexthops(self) -> list[bytes]:
        """The nexthop objects, as message bodies."""
        return self._dump(rt.RTM_GETNEXTHOP, rt.NhMsg().pack())

    def neighbours(self) -> list[bytes]:
        """The neighbours of all interfaces, as message bodies."""
        return [body for family in _FAMILIES for body in self._neighbours(family, 0)]

    def _neighbours(self, family: int, flags: int) -> list[bytes]:
        return self._dump(rt.RTM_GETNEIGH, rt.NdMsg(family, flags=flags).pack())

    def forwarding(self, ifindex: int) -> list[bytes]:
        """The forwarding database of one interface, as message bodies."""
        asked = rt.NdMsg(rt.AF_BRIDGE).pack() + attr_u32(rt.NDA_IFINDEX, ifindex)
        return self._dump(rt.RTM_GETNEIGH, asked)

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        return [message.body for message in self._socket.dump(kind, body)]

    @uncollected()
    def capture(
        self,
        port: PortId,
        ifindex: int,
        taken: float,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState:
        """Everything that refers to the interface now, the nexthops of those ids, and the rows of
        those keys.

        `taken` is the CLOCK_BOOTTIME to note; `alone` as PortState has it.
        """
        link = self.link(ifindex)
        bodies = self.links()
        stack = [stacked_links.parse(body) for body in bodies]
        below = stacked_links.without_synthetic(stack, ifindex) if alone else stack
        uppers = stacked_links.uppers(below, ifindex)
        devices = {ifindex: link.name, **{upper.ifindex: upper.name for upper in uppers}}
        links = [
            OtherDevice(other.ifindex, other.name, other.mac)
            for other in stack
            if other.ifindex not in devices
        ]
        dumps = self.dumps()
        macs = {one.ifindex: one.mac for one in stack if one.ifindex in devices}
        selected = select(dumps, devices, rows, self._chosen, macs)
        self._chosen = selected.routes
        if selected.facts != self._facts:
            self._facts = selected.facts  # else what is known of them stays known
        beside = related(dumps, self._facts, nexthops)
        return PortState(
            port,
            ifindex,
            link.name,
            link.up,
            bool(link.carrier),
            taken,
            self._facts,
            uppers,
            stacked_links.settings(devices.items()),
            other_devices(selected, beside, uppers, links),
            beside,
            tuple(links),
            stacked_links.accepted(devices.items()),
            selected.rows,
            member=None if link.master is None else self._member(link, link.master, alone=alone),
            alone=alone,
            leaning=self._leaning(selected.routes, self._facts, devices),
            bridge_states=members.bridge_states(
                IfLink(body) for body in bodies if IfInfoMsg.of(body).ifindex in devices
            ),
        )

    def _leaning(
        self, choice: RouteChoice, facts: Facts, devices: Collection[int]
    ) -> tuple[Fact, ...]:
        """Of the routes that were not chosen: what is a fact does not lean on one."""
        own = set(map(snapshot.target, facts.of(Kind.ADDRESS)))
        asked = frozenset(filter(None, own)), frozenset(devices)
        if self._leaned is None or self._leaned[0] is not choice or self._leaned[1] != asked:
            self._leaned = choice, asked, leaning.find(choice.others, *asked)
        return self._leaned[2]

    def _member(self, port: IfLink, master: int, *, alone: bool) -> Member | None:
        with passing_over():  # it may just have gone
            above = self.link(master)
            if above.vmbus is None:
                return members.of(port, above)
            if alone or above.master is None:
                return None
            return members.of(above, self.link(above.master))
        return None

    def link_settings(self, ifindex: int) -> LinkSettings:
        """The settings of a netdev itself. OSError(ENODEV) when there is none of that ifindex."""
        answers = self._socket.request(RTM_GETLINK, 0, get_link(ifindex))
        body = next((m.body for m in answers if m.type == RTM_NEWLINK), None)
        if body is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return self._settings(body, _by_name(map(IfLink, self.links())), self._qdiscs())

    def _qdiscs(self) -> list[bytes]:
        """Those of all devices: the kernel looks at all of them even if it is asked for one."""
        return self._dump(RTM_GETQDISC, TCMSG.pack(0, 0, 0, 0, 0))

    def _settings(
        self, body: bytes, names: Mapping[str, int], every: Iterable[bytes]
    ) -> LinkSettings:
        link = IfLink(body)
        found = qdiscs(every, link.ifindex)
        queueing = self._queueing(link.ifindex, found) if found else ()
        sysctls = stacked_links.every_setting(link.name)
        sysctls |= stacked_links.of_queues(link.name, link.ifindex)
        return of_link(body, sysctls, found, names, queueing, kept=self._bridging(link, names))

    def _bridging(self, link: IfLink, names: Mapping[str, int]) -> tuple[Kept, ...]:
        """Its token, what a VXLAN sends where, and what the bridge that a device is in has of it."""
        # Without the counters the kernel leaves out the token, too (inet6_fill_ifla6_attrs()).
        answers = self._socket.request(RTM_GETLINK, 0, IfInfoMsg(ifindex=link.ifindex).pack())
        token = [one for m in answers if m.type == RTM_NEWLINK for one in bridging.token(m.body)]
        if link.kind == "vxlan":
            token += bridging.of_vxlan(self.forwarding(link.ifindex), link.ifindex, names)
        if link.member_kind != "bridge":
            return tuple(token)
        asked = IfInfoMsg(family=bridging.AF_BRIDGE).pack()
        asked += attr_u32(IFLA_EXT_MASK, bridging.RTEXT_FILTER_BRVLAN)
        found = bridging.vlans(self._dump(RTM_GETLINK, asked), link.ifindex)
        own = bytes.fromhex((link.mac or "").replace(":", ""))
        found += bridging.forwarding(self.forwarding(link.ifindex), link.ifindex, own)
        with passing_over():  # no multicast snooping in this kernel
            rows = self._dump(bridging.RTM_GETMDB, bridging.all_groups())
            found += bridging.groups(rows, link.ifindex)
        return (*token, *found)

    def _queueing(self, ifindex: int, found: Iterable[Qdisc]) -> tuple[TcObject, ...]:
        """The classes and filters of a device with those qdiscs."""
        classes = tc_objects.classes(self._dump(tc.RTM_GETTCLASS, tc.classes(ifindex)))
        places = dict.fromkeys([*(one.handle for one in found), *(one.handle for one in classes)])
        if any(one.parent == tc.TC_H_CLSACT for one in found):
            places |= dict.fromkeys((tc.TC_H_MIN_INGRESS, tc.TC_H_MIN_EGRESS))
        bodies: list[bytes] = []
        for place in places:
            with passing_over():  # no filters can be there
                bodies += self._dump(tc.RTM_GETTFILTER, tc.filters(ifindex, place))
        return (*classes, *dict.fromkeys(tc_objects.filters(bodies)))

    def uppers(self, ifindex: int) -> tuple[UpperState, ...]:
        """What is stacked on an interface now, from the bottom up."""
        return stacked_links.uppers(self.stack(), ifindex)

    def blueprints(self, ifindex: int) -> tuple[Blueprint, ...]:
        """What it takes to make all that is stacked on an interface again, from the bottom up."""
        bodies = {IfInfoMsg.of(body).ifindex: body for body in self.links()}
        stack = [stacked_links.parse(body) for body in bodies.values()]
        names = _by_name(map(IfLink, bodies.values()))
        uppers = stacked_links.uppers(stack, ifindex)
        mortal = blueprints.mortal(uppers, ifindex)
        every = self._qdiscs() if mortal else []
        made = []
        for upper in uppers:
            body = bodies[upper.ifindex]
            if upper.ifindex not in mortal:
                made.append(Blueprint(upper.ifindex, of_survivor(body)))
                continue
            settings = self._settings(body, names, every)
            if not blueprints.own_address(body, bodies.get(upper.lower)):
                settings = settings.without(IFLA_ADDRESS)
            made.append(Blueprint(upper.ifindex, settings, body))
        bound = (Blueprint(index, LinkSettings(), body) for index, body in bodies.items())
        here = (one for one in bound if IfLink(one.body).lower_netnsid is None)
        return (*made, *(one for one in here if one.bound_to in {ifindex, *mortal}))

    def stack(self) -> list[stacked_links.StackedLink]:
        """All interfaces of this namespace, as far as stacking goes."""
        return [stacked_links.parse(body) for body in self.links()]

    def links(self) -> list[bytes]:
        """All interfaces of this namespace, as message bodies."""
        return self._dump(RTM_GETLINK, get_link())

    def addresses(self) -> list[bytes]:
        """The addresses of all interfaces, as message bodies."""
        found: list[bytes] = []
        for family in _FAMILIES:
            asked = rt.IfAddrMsg(family).pack()
            found += [one for one in self._dump(rt.RTM_GETADDR, asked) if one[0] == family]
        return found

    def routes(self) -> Sequence[bytes]:
        """The routes of all tables, as message bodies, of the last look at a port (capture()), where
        there was one: a full table is not read again for each guard that goes through it."""
        return self._routes if self._are_read else self._read_routes()

    def _read_routes(self) -> Sequence[bytes]:
        """Those of now: the same list while it would be equal."""
        self._are_read = False
        before, again = self._tables, self._socket.dump_again
        now: dict[int, Table] = {
            family: again(rt.RTM_GETROUTE, rt.RtMsg(family).pack(), before.get(family))
            for family in _FAMILIES
        }
        if any(now[family] is not before.get(family) for family in _FAMILIES):
            # For a family that it runs without the kernel tells all others (rtnl_dump_all()).
            self._routes = [
                body
                for family in _FAMILIES
                for part in now[family]
                if part.bodies and part.bodies[0][0] == family
                for body in part.bodies
            ]
        self._tables, self._are_read = now, True
        return self._routes

    def way_to(
        self, address: bytes, source: bytes = b"", more: bytes = b"", *, entry: bool = True
    ) -> bytes | None:
        """The route that packets to that address take, or None when there is none.

        Of a route with several ways `entry` shows them all, else the one that is taken now.
        `more` are attributes that narrow the question.
        """
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        flags = rt.RTM_F_FIB_MATCH if entry else 0
        head = rt.RtMsg(family, dst_len=len(address) * 8, src_len=len(source) * 8, flags=flags)
        body = head.pack() + attr(rt.RTA_DST, address)
        body += attr(rt.RTA_SRC, source) if source else b""
        try:
            answers = self._socket.request(rt.RTM_GETROUTE, 0, body + more)
        except OSError as error:
            if error.errno in _NO_WAY:
                return None
            raise
        return next((m.body for m in answers if m.type == rt.RTM_NEWROUTE), None)

    def leaves_by(
        self,
        address: bytes,
        *,
        source: bytes = b"",
        bound: int = 0,
        mark: int = 0,
        flow: bytes = b"",
    ) -> set[int]:
        """The interfaces by which packets to that address leave, none of what stays here: where an
        IPsec policy puts them into a tunnel, those of the tunnel.

        OSError when the kernel does not look it up (an address that cannot be one of a peer).
        """
        outers = self.ipsec(address, source) if self.ipsec else ()
        if outers:
            ways = (self.routed_by(o.remote, source=o.local, mark=o.mark) for o in outers)
            return set().union(*ways)
        return self.routed_by(address, source=source, bound=bound, mark=mark, flow=flow)

    def routed_by(
        self,
        address: bytes,
        *,
        source: bytes = b"",
        bound: int = 0,
        mark: int = 0,
        flow: bytes = b"",
        depth: int = 0,
    ) -> set[int]:
        """The same by routes and rules alone; with a route's device that of its first segment
        (rt.route_segments()), `depth` such routes deep.

        OSError when the kernel does not look it up (an address that cannot be one of a peer).
        """
        narrow = flow + (attr_u32(rt.RTA_OIF, bound) if bound else b"")
        narrow += attr_u32(rt.RTA_MARK, mark) if mark else b""
        source = source if len(source) == len(address) else b""
        route = self.way_to(address, source, narrow)
        if route is None and source:
            source = b""  # it may be no address of ours, as of a transparent proxy
            route = self.way_to(address, source, narrow)
        if route is None or rt.RtMsg.of(route).type == rt.RTN_LOCAL:
            return set()
        out = rt.route_ifindexes(route)
        if not out:  # by a nexthop object, without net.ipv4.nexthop_compat_mode
            route = self.way_to(address, source, narrow, entry=False)
            out = frozenset() if route is None else rt.route_ifindexes(route)
        found = set(out)
        for to in rt.route_segments(route) if route is not None and depth < _NESTED else ():
            if to != address:
                found |= self.routed_by(to, mark=mark, depth=depth + 1)
        return found


def ntop(address: bytes) -> str:
    """Binary address to text, IPv4-mapped IPv6 as IPv4."""
    if len(address) == 16 and address[:12] == bytes(10) + b"\xff\xff":
        address = address[12:]
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address)


def _by_name(links: Iterable[IfLink]) -> dict[str, int]:
    """Their ifindexes by name, and by altname after all of these."""
    links = list(links)
    names = {link.name: link.ifindex for link in links}
    altnames = {name: link.ifindex for link in links for name in link.altnames}
    return names | altnames
