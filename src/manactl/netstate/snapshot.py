"""The network state of a port: what it holds, what of it is missing, and how to make it again.

Pure: messages in, messages out. Reading them from the kernel is look/rtnetlink.py's part.
"""

from __future__ import annotations

import base64
import enum
import ipaddress
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from manactl.model.port import PortId
from manactl.netstate.uppers import UpperState
from manactl.wire import rtmsg as rt
from manactl.wire.rtmsg import Place, Places


class Kind(enum.StrEnum):
    """What a fact is, in the order in which facts are made again."""

    ADDRESS = "address"
    NEXTHOP = "nexthop"
    ROUTE = "route"
    NEIGHBOUR = "neighbour"
    # Not facts of their own; counted among what is kept and what came back.
    UPPER = "upper"
    SYSCTL = "sysctl"

    @property
    def plural(self) -> str:
        return self + ("es" if self is Kind.ADDRESS else "s")


def counted(count: int, kind: Kind) -> str:
    """ "1 address", "2 routes"."""
    return f"{count} {kind if count == 1 else kind.plural}"


@dataclass(frozen=True, slots=True)
class Fact:
    """One address, nexthop, route or neighbour, as the kernel's dump had it."""

    kind: Kind
    body: bytes


class Request(NamedTuple):
    """One rtnetlink request, ready to be sent."""

    type: int
    flags: int
    body: bytes


class Setting(NamedTuple):
    """A sysctl of one device that going down and up changes; `tree` is "net/ipv6/conf"."""

    ifindex: int
    tree: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class PortState:
    """Everything that refers to a port or to the devices stacked on it, at one instant.

    `taken` is CLOCK_BOOTTIME in seconds. `uppers` are in order from the bottom up.
    """

    port: PortId
    ifindex: int
    ifname: str
    up: bool
    carrier: bool
    taken: float
    facts: tuple[Fact, ...]
    uppers: tuple[UpperState, ...] = ()
    settings: tuple[Setting, ...] = ()

    @property
    def places(self) -> Places:
        """The port, then its uppers."""
        return (
            Place(self.ifindex, self.ifname),
            *(Place(upper.ifindex, upper.name) for upper in self.uppers),
        )

    @property
    def names(self) -> dict[int, str]:
        return dict(self.places)

    @property
    def own(self) -> tuple[Fact, ...]:
        """Addresses and routes of the port itself, not of what is stacked on it."""
        return tuple(
            fact
            for fact in self.facts
            if fact.kind in (Kind.ADDRESS, Kind.ROUTE) and self.ifindex in devices_of(fact)
        )

    def of(self, kind: Kind) -> tuple[Fact, ...]:
        return tuple(fact for fact in self.facts if fact.kind is kind)

    def to_json(self) -> dict[str, Any]:
        return {
            "port": port_to_json(self.port),
            "ifindex": self.ifindex,
            "ifname": self.ifname,
            "up": self.up,
            "carrier": self.carrier,
            "taken": self.taken,
            "facts": [
                {
                    "kind": str(fact.kind),
                    "text": describe(fact, self.names),
                    "message": base64.b64encode(fact.body).decode(),
                }
                for fact in self.facts
            ],
            "uppers": [upper.to_json() for upper in self.uppers],
            "sysctls": [setting._asdict() for setting in self.settings],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PortState:
        facts = tuple(
            Fact(Kind(one["kind"]), base64.b64decode(one["message"], validate=True))
            for one in data["facts"]
        )
        return cls(
            port_from_json(data["port"]),
            int(data["ifindex"]),
            str(data["ifname"]),
            bool(data["up"]),
            bool(data["carrier"]),
            float(data["taken"]),
            facts,
            tuple(UpperState.from_json(one) for one in data.get("uppers", ())),
            tuple(
                Setting(int(one["ifindex"]), one["tree"], one["key"], one["value"])
                for one in data.get("sysctls", ())
            ),
        )


def port_to_json(port: PortId) -> dict[str, Any]:
    return {"pci": port.pci, "port": port.port, "permanent_mac": port.permanent_mac}


def port_from_json(data: Mapping[str, Any]) -> PortId:
    mac = data["permanent_mac"]
    return PortId(str(data["pci"]), int(data["port"]), None if mac is None else str(mac))


# --- choosing what belongs to a port --------------------------------------------------------


class Dumps(NamedTuple):
    """Message bodies of the tables that can refer to a port, in the kernel's order."""

    addresses: Sequence[bytes]
    nexthops: Sequence[bytes]
    routes: Sequence[bytes]
    neighbours: Sequence[bytes]


def select(dumps: Dumps, devices: Collection[int], also: Collection[int] = ()) -> tuple[Fact, ...]:
    """Everything of the dumps that the kernel may drop when the first of these devices goes down
    and the others stand on it.

    Nexthop groups and multipath routes with a member here belong to it too: they lose it. `also`
    are nexthop ids to include wherever they lead now: they were here before.
    """
    facts = [
        Fact(Kind.ADDRESS, body)
        for body in dumps.addresses
        if rt.IFADDR.unpack_from(body)[4] in devices
    ]
    nexthops, ids = _nexthops(dumps.nexthops, devices, also)
    facts += nexthops
    for body in dumps.routes:
        flags = rt.RTMSG.unpack_from(body)[8]
        by_object = rt.number(rt.split(body, rt.RTMSG.size), rt.RTA_NH_ID)
        if flags & rt.RTM_F_CLONED:
            continue
        if by_object in ids or not rt.route_ifindexes(body).isdisjoint(devices):
            facts.append(Fact(Kind.ROUTE, body))
    facts += [Fact(Kind.NEIGHBOUR, b) for b in dumps.neighbours if _lasting(b, devices)]
    return tuple(facts)


def _nexthops(
    bodies: Sequence[bytes], devices: Collection[int], also: Collection[int]
) -> tuple[list[Fact], set[int]]:
    """The nexthops and then the groups, and the ids of those that lead here."""
    ids = {_id(body) for body in bodies if _leads_to(body) in devices}
    ids |= {_id(body) for body in bodies if ids.intersection(rt.group_members(body))}
    chosen = [Fact(Kind.NEXTHOP, b) for b in bodies if _id(b) in ids or _id(b) in also]
    return sorted(chosen, key=rank), ids


def _leads_to(body: bytes) -> int | None:
    return rt.number(rt.split(body, rt.NHMSG.size), rt.NHA_OIF)


def _id(body: bytes) -> int:
    return rt.number(rt.split(body, rt.NHMSG.size), rt.NHA_ID) or 0


def devices_of(fact: Fact) -> set[int]:
    """The interfaces that a fact names itself."""
    if fact.kind is Kind.ADDRESS:
        return {rt.IFADDR.unpack_from(fact.body)[4]}
    if fact.kind is Kind.NEIGHBOUR:
        return {rt.NDMSG.unpack_from(fact.body)[3]}
    if fact.kind is Kind.NEXTHOP:
        out = _leads_to(fact.body)
        return set() if out is None else {out}
    return rt.route_ifindexes(fact.body)


def nexthop_ids(state: PortState) -> frozenset[int]:
    return frozenset(_id(fact.body) for fact in state.of(Kind.NEXTHOP))


def _lasting(body: bytes, devices: Collection[int]) -> bool:
    """Whether somebody configured this neighbour; what the kernel learned it learns again."""
    _, _, _, index, state, flags, _ = rt.NDMSG.unpack_from(body)
    extended = rt.number(rt.split(body, rt.NDMSG.size), rt.NDA_FLAGS_EXT) or 0
    return index in devices and bool(
        state & rt.NUD_PERMANENT
        or flags & (rt.NTF_PROXY | rt.NTF_EXT_LEARNED)
        or extended & rt.NTF_EXT_MANAGED
    )


def expired(fact: Fact, elapsed: int) -> bool:
    """Whether the fact's own lifetime is over, `elapsed` seconds after the snapshot."""
    if fact.kind is Kind.ADDRESS:
        return rt.address(fact.body, (), (), elapsed) is None
    if fact.kind is Kind.ROUTE:
        return rt.route(fact.body, (), (), elapsed) is None
    return False


def is_temporary(fact: Fact) -> bool:
    """An IPv6 privacy address (RFC 8981): a request cannot make one."""
    return (
        fact.kind is Kind.ADDRESS
        and rt.is_ipv6(fact.body)
        and bool(address_flags(fact) & rt.IFA_F_TEMPORARY)
    )


def address_flags(fact: Fact) -> int:
    flags = rt.number(rt.split(fact.body, rt.IFADDR.size), rt.IFA_FLAGS)
    return rt.IFADDR.unpack_from(fact.body)[2] if flags is None else flags


def made_by_kernel(fact: Fact, state: PortState) -> bool:
    """Whether the kernel makes this by itself once the port is up and its addresses are there.

    Such facts are waited for, and made only when they do not come: the local, broadcast,
    anycast and multicast routes of addresses, their connected routes (unless NOPREFIXROUTE:
    then a manager made them, in the kernel's name), and generated IPv6 link-local addresses.
    """
    if fact.kind is Kind.ADDRESS:
        attrs = rt.split(fact.body, rt.IFADDR.size)
        return rt.is_ipv6(fact.body) and (
            rt.number(attrs, rt.IFA_PROTO) == rt.IFAPROT_KERNEL_LL
            or bool(address_flags(fact) & rt.IFA_F_STABLE_PRIVACY and is_link_scope(fact))
        )
    return by_kernel(fact) and (derived(fact) or connected(fact, state))


def by_kernel(fact: Fact) -> bool:
    """A route of proto kernel."""
    return fact.kind is Kind.ROUTE and rt.RTMSG.unpack_from(fact.body)[5] == rt.RTPROT_KERNEL


def connected(route: Fact, state: PortState) -> bool:
    """Whether a route is to the network of one of the state's addresses."""
    return _network(route) in {
        net for address in state.of(Kind.ADDRESS) for net in _connected(address)
    }


def derived(fact: Fact) -> bool:
    """A route that is part of an address: only the kernel can make it rightly. That of a new
    IPv6 address comes when duplicate address detection is over."""
    types = (rt.RTN_LOCAL, rt.RTN_BROADCAST, rt.RTN_ANYCAST, rt.RTN_MULTICAST)
    return by_kernel(fact) and rt.RTMSG.unpack_from(fact.body)[7] in types


def is_tentative(fact: Fact) -> bool:
    """An IPv6 address in duplicate address detection."""
    return is_ipv6_address(fact) and bool(address_flags(fact) & rt.IFA_F_TENTATIVE)


def is_link_scope(fact: Fact) -> bool:
    """An address that is valid on its link alone."""
    return bool(rt.IFADDR.unpack_from(fact.body)[3] == 253)  # RT_SCOPE_LINK


def _network(route: Fact) -> tuple[int | None, int, int, int]:
    """Device, family, prefix length and prefix of a route, the prefix as a number."""
    family, length, *_ = rt.RTMSG.unpack_from(route.body)
    attrs = rt.split(route.body, rt.RTMSG.size)
    dst = rt.value(attrs, rt.RTA_DST) or b""
    return (rt.number(attrs, rt.RTA_OIF), family, length, int.from_bytes(dst, "big"))


def _connected(address: Fact) -> list[tuple[int | None, int, int, int]]:
    family, length, _, _, index = rt.IFADDR.unpack_from(address.body)
    if address_flags(address) & rt.IFA_F_NOPREFIXROUTE:
        return []
    attrs = rt.split(address.body, rt.IFADDR.size)
    raw = rt.value(attrs, rt.IFA_ADDRESS) or rt.value(attrs, rt.IFA_LOCAL) or b""
    bits = len(raw) * 8
    host = int.from_bytes(raw, "big")
    nets = [(index, family, length, host >> (bits - length) << (bits - length))]
    if family == socket.AF_INET6:  # the local end of a peer address has a host route
        local = rt.value(attrs, rt.IFA_LOCAL) or raw
        nets.append((index, family, bits, int.from_bytes(local, "big")))
    return nets


def is_ipv6_address(fact: Fact) -> bool:
    return fact.kind is Kind.ADDRESS and is_ipv6(fact)


def rank(fact: Fact) -> tuple[int, int]:
    rank = list(Kind).index(fact.kind)
    if fact.kind is Kind.NEXTHOP:
        return rank, int(bool(rt.group_members(fact.body)))
    if fact.kind is not Kind.ROUTE:
        return rank, 0
    attrs = rt.split(fact.body, rt.RTMSG.size)
    far = (rt.RTA_GATEWAY, rt.RTA_VIA, rt.RTA_MULTIPATH, rt.RTA_NH_ID)
    return rank, int(any(rt.value(attrs, a) is not None for a in far))


def is_default_route(fact: Fact) -> bool:
    """A unicast route to everywhere, in whatever table."""
    if fact.kind is not Kind.ROUTE:
        return False
    head = rt.RTMSG.unpack_from(fact.body)
    return bool(head[1] == 0 and head[7] == rt.RTN_UNICAST)


def global_addresses(facts: Iterable[Fact]) -> list[str]:
    """The addresses among the facts that others can reach: not link-local, not host scope."""
    found = []
    for fact in facts:
        if fact.kind is Kind.ADDRESS and rt.IFADDR.unpack_from(fact.body)[3] == 0:
            found.append(_own(fact))
    return found


def addresses(facts: Iterable[Fact]) -> list[str]:
    """Every local address among the facts, as text."""
    return [_own(fact) for fact in facts if fact.kind is Kind.ADDRESS]


def _own(fact: Fact) -> str:
    attrs = rt.split(fact.body, rt.IFADDR.size)
    raw = rt.value(attrs, rt.IFA_LOCAL) or rt.value(attrs, rt.IFA_ADDRESS)
    return str(ipaddress.ip_address(raw)) if raw else "?"


def describe(fact: Fact, names: Mapping[int, str]) -> str:
    """One line in iproute2's words."""
    from manactl.netstate.describe import text  # noqa: PLC0415 - only people need it

    return text(fact.kind, fact.body, names)


def removal(fact: Fact, names: Mapping[int, str]) -> str:
    """The `ip` command that removes it."""
    from manactl.netstate.describe import command  # noqa: PLC0415 - only people need it

    return command(fact.kind, fact.body, names)


def is_ipv6(fact: Fact) -> bool:
    return rt.is_ipv6(fact.body)
