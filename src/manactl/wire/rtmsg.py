"""rtnetlink messages of addresses, nexthops, routes and neighbours, without decoding them fully.

What a port loses has to come back exactly, attributes unknown to this program included. So the
kernel's own dump messages are kept as bytes, and turned into requests by taking out the little
that is state and not configuration (counters, remaining times, carrier flags), and by putting in
the port's present ifindex. Layouts and numbers: include/uapi/linux/{rtnetlink,if_addr,neighbour,
nexthop}.h.
"""

from __future__ import annotations

import _socket  # `socket` makes enums of all constants, which a TAB would wait for
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import islice
from typing import Self, TypeVar

from manactl.model.named_tuple import NamedTuple
from manactl.wire.attrs import NLA_F_NESTED, NLA_TYPE_MASK, align, as_int, as_str, attr

_T = TypeVar("_T")

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
RTM_NEWRULE, RTM_GETRULE = 32, 34
RTM_NEWNSID, RTM_GETNSID = 88, 90
RTM_NEWNEXTHOP, RTM_GETNEXTHOP = 104, 106

AF_BRIDGE = 7  # include/linux/socket.h
IFADDR = struct.Struct("=BBBBI")
RTMSG = struct.Struct("=BBBBBBBBI")
PROTOCOL_AT, TYPE_AT = 5, 7  # rtm_protocol and rtm_type in it
NDMSG = struct.Struct("=BBHiHBB")
NHMSG = struct.Struct("=BBBBI")
RULE = struct.Struct("=BBBBBBBBI")  # struct fib_rule_hdr
RTNEXTHOP = struct.Struct("=HBBi")  # length, flags, weight - 1, ifindex
_ATTR = struct.Struct("=HH")

IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 3, 6, 8
IFA_RT_PRIORITY, IFA_PROTO = 9, 11
IFAPROT_KERNEL_RA, IFAPROT_KERNEL_LL = 2, 3
IFAPROT_OF_KERNEL = frozenset({1, IFAPROT_KERNEL_RA, IFAPROT_KERNEL_LL})  # 1: loopback
IFA_F_TEMPORARY = 0x01
IFA_F_SECONDARY = IFA_F_TEMPORARY  # so it is called for IPv4
IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_HOMEADDRESS, IFA_F_TENTATIVE = 0x02, 0x08, 0x10, 0x40
IFA_F_MANAGETEMPADDR, IFA_F_NOPREFIXROUTE = 0x100, 0x200
IFA_F_MCAUTOJOIN, IFA_F_STABLE_PRIVACY = 0x400, 0x800
# What a request may set; the kernel derives the others.
_IFA_SETTABLE = (
    IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN
)
FOREVER = 0xFFFFFFFF
_CACHEINFO = struct.Struct("=IIII")  # preferred, valid (s), created, updated

RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 2, 4, 5, 6, 7
RTA_METRICS, RTA_MULTIPATH, RTA_FLOW, RTA_CACHEINFO, RTA_TABLE = 8, 9, 11, 12, 15
RTA_IIF, RTA_MARK, RTA_VIA, RTA_UID = 3, 16, 18, 25
FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_FWMASK = 2, 3, 6, 10, 16
FRA_UID_RANGE, FRA_PROTOCOL, FRA_SUPPRESS_PREFIXLEN = 20, 21, 14
FIB_RULE_INVERT = 0x2
NETNSA_NSID, NETNSA_FD = 1, 3
FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE = 22, 23, 24
FRA_OF_FLOWS = frozenset({FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE})
# Of a mark that is 0 the mask alone is told (fib_nl_fill_rule()).
FRA_OF_MARKS = frozenset({FRA_FWMARK, FRA_FWMASK})
RTA_IP_PROTO, RTA_SPORT, RTA_DPORT = 27, 28, 29
_ASKABLE = frozenset({_socket.IPPROTO_TCP, _socket.IPPROTO_UDP})
RTA_ENCAP_TYPE, RTA_ENCAP, RTA_EXPIRES, RTA_NH_ID = 21, 22, 23, 30
# A route by nexthop object carries these in dumps (nexthop_compat_mode), never in requests.
_RTA_OF_NEXTHOP = frozenset(
    {RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_FLOW, RTA_VIA, RTA_ENCAP_TYPE, RTA_ENCAP}
)
_RTA_EXPIRES_AT, _USER_HZ = 8, 100  # rta_expires in struct rta_cacheinfo, and its unit
RTM_F_CLONED, RTM_F_FIB_MATCH = 0x200, 0x2000
RTNH_F_PERVASIVE, RTNH_F_ONLINK = 0x2, 0x4
_RTNH_F_SETTABLE = RTNH_F_PERVASIVE | RTNH_F_ONLINK  # the others are carrier and offload state
RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_BOOT, RTPROT_STATIC, RTPROT_RA, RTPROT_DHCP = (
    1, 2, 3, 4, 9, 16,
)  # fmt: skip
RTPROT_PASSING = frozenset({RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA, RTPROT_DHCP})
RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST, RTN_MULTICAST = 1, 2, 3, 4, 5
RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW = 6, 7, 8, 9
RT_SCOPE_UNIVERSE, RT_SCOPE_SITE, RT_SCOPE_LINK, RT_SCOPE_HOST, RT_SCOPE_NOWHERE = (
    0, 200, 253, 254, 255,
)  # fmt: skip
RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL = 253, 254, 255

NDA_DST, NDA_LLADDR, NDA_IFINDEX, NDA_NH_ID, NDA_FLAGS_EXT = 1, 2, 8, 13, 15
_NDA_STATE = frozenset({3, 4, 8, 9, 10})  # CACHEINFO, PROBES, IFINDEX, MASTER, LINK_NETNSID
NUD_INCOMPLETE, NUD_FAILED = 0x01, 0x20
NUD_REACHABLE, NUD_STALE, NUD_NOARP, NUD_PERMANENT = 0x02, 0x04, 0x40, 0x80
NTF_PROXY, NTF_EXT_LEARNED = 0x08, 0x10
NTF_EXT_MANAGED = 0x1

NHA_ID, NHA_GROUP, NHA_OIF, NHA_GATEWAY, NHA_RES_GROUP = 1, 2, 5, 6, 12
NHA_ENCAP_TYPE, NHA_ENCAP = 7, 8
_NHA_STATE = frozenset({13, 14, 15, 17})  # RES_BUCKET, OP_FLAGS, GROUP_STATS, HW_STATS_USED
_NHA_RES_GROUP_UNBALANCED_TIME = 4
_NHGRP = struct.Struct("=IBBxx")  # id, weight - 1, its high byte


class IfAddrMsg(NamedTuple):
    """struct ifaddrmsg, the header of an address."""

    family: int
    prefixlen: int = 0
    flags: int = 0  # the low byte of IFA_FLAGS
    scope: int = 0
    ifindex: int = 0

    def pack(self) -> bytes:
        return IFADDR.pack(*self)

    @classmethod
    def of(cls, body: bytes) -> Self:
        """struct.error when the body is shorter, here and in the other headers."""
        return cls._make(IFADDR.unpack_from(body))


class RtMsg(NamedTuple):
    """struct rtmsg, the header of a route; `table` is one byte of RTA_TABLE."""

    family: int
    dst_len: int = 0
    src_len: int = 0
    tos: int = 0
    table: int = 0
    protocol: int = 0
    scope: int = 0
    type: int = 0
    flags: int = 0

    def pack(self) -> bytes:
        return RTMSG.pack(*self)

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls._make(RTMSG.unpack_from(body))


class NdMsg(NamedTuple):
    """struct ndmsg, the header of a neighbour."""

    family: int
    ifindex: int = 0
    state: int = 0
    flags: int = 0
    type: int = 0

    def pack(self) -> bytes:
        return NDMSG.pack(self.family, 0, 0, *self[1:])

    @classmethod
    def of(cls, body: bytes) -> Self:
        family, _, _, *rest = NDMSG.unpack_from(body)
        return cls(family, *rest)


class NhMsg(NamedTuple):
    """struct nhmsg, the header of a nexthop object."""

    family: int = 0
    scope: int = 0
    protocol: int = 0
    reserved: int = 0
    flags: int = 0

    def pack(self) -> bytes:
        return NHMSG.pack(*self)

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls._make(NHMSG.unpack_from(body))


def flow(protocol: int, source: int, destination: int) -> bytes:
    """The attributes of a look-up for rules that tell protocols and ports apart; nothing where the
    ports are not known. Of a protocol with ports that is neither TCP nor UDP the ports alone: the
    kernel refuses a question for it (rtm_getroute_parse_ip_proto())."""
    if not (source and destination):
        return b""
    ports = [(RTA_SPORT, source), (RTA_DPORT, destination)]
    asked = attr(RTA_IP_PROTO, bytes([protocol])) if protocol in _ASKABLE else b""
    return asked + b"".join(attr(kind, port.to_bytes(2, "big")) for kind, port in ports)


class Attr(NamedTuple):
    """One attribute; `kind` keeps the nested and byte-order bits of the message it came from."""

    kind: int
    payload: bytes

    @property
    def type(self) -> int:
        return self.kind & NLA_TYPE_MASK


def split(body: bytes, offset: int) -> list[Attr]:
    """The attributes after a fixed header of `offset` bytes. ValueError on a broken length."""
    found = []
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4 or offset + length > len(body):
            raise ValueError(f"attribute at {offset}: length {length} of {len(body) - offset}")
        found.append(Attr(kind, body[offset + 4 : offset + length]))
        offset += align(length)
    return found


def by_type(body: bytes, offset: int) -> dict[int, bytes]:
    """The same by type, of a repeated one the last: quicker, where there are many messages."""
    found = {}
    end = len(body)
    while offset + 4 <= end:
        length, kind = _ATTR.unpack_from(body, offset)
        if length < 4 or offset + length > end:
            raise ValueError(f"attribute at {offset}: length {length} of {end - offset}")
        found[kind & NLA_TYPE_MASK] = body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class Shape(NamedTuple):
    """A route apart from its destination. A full table has a million routes of a few hundred
    shapes, so what follows from the shape alone is worked out once for each.

    `rest` is the message with zeros for the destination, which is at `at`; 0 for a default route.
    """

    rest: bytes
    at: int
    dst: bytes

    @classmethod
    def of(cls, body: bytes) -> Self:
        """ValueError on a broken length."""
        offset, end = RTMSG.size, len(body)
        while body[1] and offset + 4 <= end:
            length, kind = _ATTR.unpack_from(body, offset)
            if length < 4 or offset + length > end:
                raise ValueError(f"attribute at {offset}: length {length} of {end - offset}")
            if kind & NLA_TYPE_MASK == RTA_DST:
                at, after = offset + 4, offset + length
                rest = b"".join((body[:at], bytes(after - at), body[after:]))
                return cls(_RESTS.setdefault(rest, rest), at, body[at:after])
            offset += (length + 3) & ~3
        return cls(body, 0, b"")

    def filled(self, made: bytes, at: int) -> bytes:
        """Another message of that shape, with the destination at `at`."""
        return b"".join((made[:at], self.dst, made[at + len(self.dst) :])) if at else made


_RESTS: dict[bytes, bytes] = {}  # one object for each, whose hash is worked out once

# How the kernel begins a route with a destination (fib_dump_info(), rt6_fill_node()): the table,
# and after its four bytes the destination.
_TABLE_FIRST = attr(RTA_TABLE, bytes(4))[:4]
_TABLE_AT, _DST_HEAD, _DST_AT = RTMSG.size, RTMSG.size + 8, RTMSG.size + 12
_DST_SIZES = {_socket.AF_INET: 4, _socket.AF_INET6: 16}
_AT_ONCE = 512  # routes that are cut up together


def shapes(bodies: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Shape.of() of each, but for its place: what it is, and where to."""
    for rests, destinations in per_shape(bodies, _itself):
        yield from zip(rests, destinations, strict=True)


def _itself(rest: bytes) -> bytes:
    return rest


def per_shape(
    bodies: Iterable[bytes], ask: Callable[[bytes], _T]
) -> Iterator[tuple[Sequence[_T], Sequence[bytes]]]:
    """Some at a time in their order: what `ask` answers for the Shape.rest of each, and where to. It
    is asked once for each shape. ValueError on a broken length."""
    ask = lru_cache(None)(ask)
    known: dict[tuple[bytes, bytes], _T] = {}  # by what is around a destination in its usual place
    bodies = iter(bodies)
    while some := list(islice(bodies, _AT_ONCE)):
        befores, destinations, behinds = map(list, zip(*_cut(some), strict=True))
        around = [*zip(befores, behinds, strict=True)]
        try:
            answers = [*map(known.__getitem__, around)]
        except KeyError:  # of the first of a shape, and where the destination is in another place
            shapes = [*map(Shape.of, some)]
            answers, destinations = [ask(one.rest) for one in shapes], [one.dst for one in shapes]
            for (before, behind), answer in zip(around, answers, strict=True):
                if _ends_at_destination(before):
                    known[before, behind] = answer
        yield answers, destinations


def _cut(bodies: Sequence[bytes]) -> Iterable[tuple[bytes, ...]]:
    """Each in three, where the kernel has the destination, if it has any. Those of one length and
    family, as nearly all of a full table are, are cut up at once."""
    length, family = len(bodies[0]), bodies[0][0]
    after = length - _DST_AT - _DST_SIZES.get(family, 0)
    if after >= 0 and {*map(len, bodies)} == {length}:
        joined = b"".join(bodies)
        if not joined[::length].strip(bytes([family])):
            return struct.iter_unpack(f"{_DST_AT}s{length - _DST_AT - after}s{after}s", joined)
    ends = [_DST_AT + _DST_SIZES.get(body[0], 0) for body in bodies]
    return [(b[:_DST_AT], b[_DST_AT:end], b[end:]) for b, end in zip(bodies, ends, strict=True)]


def _ends_at_destination(before: bytes) -> bool:
    """Whether that much of a route is followed by its destination."""
    return (
        before[0] in _DST_SIZES
        and bool(before[1])
        and before[_TABLE_AT : _TABLE_AT + 4] == _TABLE_FIRST
        and before[_DST_HEAD:] == attr(RTA_DST, bytes(_DST_SIZES[before[0]]))[:4]
    )


def join(header: bytes, attrs: Iterable[Attr]) -> bytes:
    """Header and attributes as one message body."""
    return header + b"".join(attr(kind, payload) for kind, payload in attrs)


def value(attrs: Iterable[Attr], kind: int) -> bytes | None:
    """The payload of the last attribute of that type, or None."""
    found = None
    for attribute in attrs:
        if attribute.type == kind:
            found = attribute.payload
    return found


def number(attrs: Iterable[Attr], kind: int) -> int | None:
    payload = value(attrs, kind)
    return None if payload is None else as_int(payload)


# --- multipath -----------------------------------------------------------------------------


class Hop(NamedTuple):
    """One member of RTA_MULTIPATH."""

    flags: int
    weight: int  # as on the wire: one less than the weight
    ifindex: int
    rest: bytes  # its attributes


def hops(payload: bytes) -> list[Hop]:
    """The members of an RTA_MULTIPATH attribute, in order."""
    found = []
    offset = 0
    while offset + RTNEXTHOP.size <= len(payload):
        length, flags, weight, ifindex = RTNEXTHOP.unpack_from(payload, offset)
        if length < RTNEXTHOP.size or offset + length > len(payload):
            raise ValueError(f"nexthop at {offset}: length {length}")
        rest = payload[offset + RTNEXTHOP.size : offset + length]
        found.append(Hop(flags, weight, ifindex, rest))
        offset += align(length)
    return found


def pack_hops(members: Iterable[Hop]) -> bytes:
    parts = []
    for hop in members:
        length = RTNEXTHOP.size + len(hop.rest)
        head = RTNEXTHOP.pack(length, hop.flags, hop.weight, hop.ifindex)
        parts.append(head + hop.rest + bytes(align(length) - length))
    return b"".join(parts)


SHAPES = 1 << 12  # more than a table has, as a rule


def route_ifindexes(body: bytes) -> AbstractSet[int]:
    """Every interface that a route names."""
    return ifindexes(Shape.of(body).rest)


@lru_cache(SHAPES)
def destination(rest: bytes) -> tuple[int, int]:
    """Where the destination begins and ends in routes of that shape; nowhere in a default route."""
    _, at, dst = Shape.of(rest)
    return at, at + len(dst)


@lru_cache(SHAPES)
def ifindexes(body: bytes) -> AbstractSet[int]:
    """The same for the rest of a shape."""
    attrs = split(body, RTMSG.size)
    found = {as_int(attribute.payload) for attribute in attrs if attribute.type == RTA_OIF}
    multipath = value(attrs, RTA_MULTIPATH)
    if multipath is not None:
        found |= {hop.ifindex for hop in hops(multipath)}
    return frozenset(found)


@lru_cache(SHAPES)
def has_members(body: bytes) -> bool:
    """Whether a route of that shape is a multipath route."""
    return value(split(body, RTMSG.size), RTA_MULTIPATH) is not None


_OF_WAY = (RTA_GATEWAY, RTA_VIA, RTA_ENCAP_TYPE, RTA_ENCAP)


def ways(body: bytes) -> list[Hop]:
    """The members of a multipath route, or the one way of another, without weights and states."""
    attrs = split(body, RTMSG.size)
    multipath = value(attrs, RTA_MULTIPATH)
    if multipath is None:
        rest = join(b"", (Attr(a.type, a.payload) for a in attrs if a.type in _OF_WAY))
        return [Hop(0, 0, out, rest) for out in [number(attrs, RTA_OIF)] if out is not None]
    return [
        Hop(0, 0, hop.ifindex, join(b"", (Attr(a.type, a.payload) for a in split(hop.rest, 0))))
        for hop in hops(multipath)
    ]


class Member(NamedTuple):
    """A nexthop in a group."""

    id: int
    weight: int


def group(body: bytes) -> list[Member]:
    """The members of a nexthop group, in order; empty for a nexthop that is no group."""
    payload = value(split(body, NHMSG.size), NHA_GROUP) or b""
    return [
        Member(member, (high << 8 | low) + 1) for member, low, high in _NHGRP.iter_unpack(payload)
    ]


def group_entries(body: bytes) -> list[bytes]:
    """The same members as the kernel has them (struct nexthop_grp)."""
    payload = value(split(body, NHMSG.size), NHA_GROUP) or b""
    return [payload[at : at + _NHGRP.size] for at in range(0, len(payload), _NHGRP.size)]


def group_members(body: bytes) -> list[int]:
    """The nexthop ids of a group."""
    return [member.id for member in group(body)]


# --- encapsulations ------------------------------------------------------------------------

# include/uapi/linux/{lwtunnel,seg6_local}.h
_ENCAP_BPF, _ENCAP_SEG6_LOCAL = 6, 7
_SEG6_LOCAL_ACTION, _SEG6_LOCAL_IIF, _SEG6_LOCAL_OIF, _SEG6_LOCAL_COUNTERS = 1, 6, 7, 10
_SEG6_END_BPF = 15
_ROUTE_ENCAP = (RTA_ENCAP_TYPE, RTA_ENCAP)
_NEXTHOP_ENCAP = (NHA_ENCAP_TYPE, NHA_ENCAP)
# What a message with an encapsulation of these has somewhere; most routes have none.
_WITH_BPF = tuple(
    struct.pack("=HHH", 6, kind, of)
    for kind in (RTA_ENCAP_TYPE, NHA_ENCAP_TYPE)
    for of in (_ENCAP_BPF, _ENCAP_SEG6_LOCAL)
)


def route_has_bpf(body: bytes) -> bool:
    """Whether a route runs a BPF program, which a dump names and a request has to bring as a
    descriptor."""
    if not any(mark in body for mark in _WITH_BPF):
        return False
    attrs = split(body, RTMSG.size)
    members = hops(value(attrs, RTA_MULTIPATH) or b"")
    levels = [attrs, *(split(hop.rest, 0) for hop in members)]
    return any(_runs_bpf(level, _ROUTE_ENCAP) for level in levels)


def nexthop_has_bpf(body: bytes) -> bool:
    """The same for a nexthop object."""
    found = any(mark in body for mark in _WITH_BPF)
    return found and _runs_bpf(split(body, NHMSG.size), _NEXTHOP_ENCAP)


def _runs_bpf(attrs: Sequence[Attr], kinds: tuple[int, int]) -> bool:
    of_type, of_encap = kinds
    kind = number(attrs, of_type)
    if kind != _ENCAP_SEG6_LOCAL:
        return kind == _ENCAP_BPF
    inner = split(value(attrs, of_encap) or b"", 0)
    return number(inner, _SEG6_LOCAL_ACTION) == _SEG6_END_BPF


def _encap(attrs: Sequence[Attr], kinds: tuple[int, int], was: Places, now: Places) -> list[Attr]:
    """The same attributes with an encapsulation that a request may have.

    Some kinds want NLA_F_NESTED, which none has in a dump (lwtunnel_fill_encap()); counters are
    no configuration; devices are those of now.
    """
    of_type, of_encap = kinds
    local = number(attrs, of_type) == _ENCAP_SEG6_LOCAL
    return [
        Attr(
            a.kind | NLA_F_NESTED,
            join(b"", (_of_seg6_local(one, was, now) for one in split(a.payload, 0)))
            if local
            else a.payload,
        )
        if a.type == of_encap
        else a
        for a in attrs
    ]


def _of_seg6_local(one: Attr, was: Places, now: Places) -> Attr:
    if one.type in (_SEG6_LOCAL_IIF, _SEG6_LOCAL_OIF):
        return _moved_attr(one, was, now)
    if one.type == _SEG6_LOCAL_COUNTERS:
        zeros = (Attr(count.kind, bytes(len(count.payload))) for count in split(one.payload, 0))
        return Attr(one.kind, join(b"", zeros))
    return one


# include/uapi/linux/{lwtunnel,seg6_iptunnel,rpl_iptunnel,ioam6_iptunnel}.h
_ENCAP_SEG6, _ENCAP_RPL, _ENCAP_IOAM6 = 5, 8, 9
_SEG6_IPTUNNEL_SRH, _RPL_IPTUNNEL_SRH, _IOAM6_IPTUNNEL_DST = 1, 1, 2
_SEG6_MODE, _SRH = 4, 8  # bytes: int mode, and the header before the segments
_SRH_FIRST, _ADDRESS = 4, 16  # first_segment in struct ipv6_sr_hdr
_WITH_SEGMENTS = tuple(
    struct.pack("=HHH", 6, kind, of)
    for kind in (RTA_ENCAP_TYPE, NHA_ENCAP_TYPE)
    for of in (_ENCAP_SEG6, _ENCAP_RPL, _ENCAP_IOAM6)
)


def has_segments(body: bytes) -> bool:
    """Whether a route or a nexthop object may have an encapsulation of that kind; quick."""
    return any(mark in body for mark in _WITH_SEGMENTS)


def route_segments(body: bytes) -> list[bytes]:
    """Where the packets of a route with SRv6, RPL or IOAM encapsulation go first: the kernel looks
    up the way there, whatever device the route names (seg6_output_core(), rpl_output(),
    ioam6_output())."""
    if not has_segments(body):
        return []
    attrs = split(body, RTMSG.size)
    members = hops(value(attrs, RTA_MULTIPATH) or b"")
    levels = [attrs, *(split(hop.rest, 0) for hop in members)]
    return [to for level in levels for to in _segment(level, _ROUTE_ENCAP)]


def nexthop_segments(body: bytes) -> list[bytes]:
    """The same for a nexthop object."""
    return _segment(split(body, NHMSG.size), _NEXTHOP_ENCAP) if has_segments(body) else []


def _segment(attrs: Sequence[Attr], kinds: tuple[int, int]) -> list[bytes]:
    of_type, of_encap = kinds
    kind, encap = number(attrs, of_type), value(attrs, of_encap)
    if encap is None or kind not in (_ENCAP_SEG6, _ENCAP_RPL, _ENCAP_IOAM6):
        return []
    inner = split(encap, 0)
    if kind == _ENCAP_IOAM6:
        found = value(inner, _IOAM6_IPTUNNEL_DST)  # none: only put into the packet
        return [] if found is None else [found]
    at = 0
    srh = value(inner, _RPL_IPTUNNEL_SRH) or b""
    if kind == _ENCAP_SEG6:  # from the last to the first (seg6_do_srh_encap())
        srh = (value(inner, _SEG6_IPTUNNEL_SRH) or b"")[_SEG6_MODE:]
        at = srh[_SRH_FIRST] if len(srh) > _SRH_FIRST else 0
    start = _SRH + at * _ADDRESS
    found = srh[start : start + _ADDRESS]
    return [found] if len(found) == _ADDRESS else []


# --- from dump to request ------------------------------------------------------------------


class Place(NamedTuple):
    """A device that messages come from or go to, at one time."""

    ifindex: int
    name: str


# A port and the devices stacked on it, in an order that stays: those of another time are
# others, one by one.
Places = Sequence[Place]


def _moved(ifindex: int, was: Places, now: Places) -> int:
    for before, after in zip(was, now, strict=False):
        if before.ifindex == ifindex:
            return after.ifindex
    return ifindex


def _moved_attr(attribute: Attr, was: Places, now: Places) -> Attr:
    return Attr(attribute.kind, struct.pack("=I", _moved(as_int(attribute.payload), was, now)))


def address(body: bytes, was: Places, now: Places, elapsed: int | None) -> bytes | None:
    """The request that makes this address again, or None when its lifetime is over. Without
    `elapsed` seconds the lifetimes are left out.

    The kernel derives PERMANENT, DEPRECATED, TENTATIVE and SECONDARY by itself. Its label is the
    interface's name, or that with a suffix, and follows a rename as in inetdev_changename().
    """
    head = IfAddrMsg.of(body)
    attrs = split(body, IFADDR.size)
    settable = (number(attrs, IFA_FLAGS) or head.flags) & _IFA_SETTABLE
    built = []
    for attribute in attrs:
        if attribute.type == IFA_FLAGS or (attribute.type == IFA_CACHEINFO and elapsed is None):
            continue
        if attribute.type == IFA_CACHEINFO and elapsed is not None:
            times = _remaining(attribute.payload, elapsed)
            if times is None:
                return None
            built.append(Attr(IFA_CACHEINFO, times))
        elif attribute.type == IFA_LABEL:
            built.append(Attr(IFA_LABEL, _label(attribute.payload, head.ifindex, was, now)))
        else:
            built.append(attribute)
    built.append(Attr(IFA_FLAGS, struct.pack("=I", settable)))
    ifindex = _moved(head.ifindex, was, now)
    return join(head._replace(flags=settable & 0xFF, ifindex=ifindex).pack(), built)


def with_address_flags(request: bytes, extra: int) -> bytes:
    """The same address request with more IFA_F_ bits."""
    head = IfAddrMsg.of(request)
    attrs = [
        Attr(attribute.kind, struct.pack("=I", as_int(attribute.payload) | extra))
        if attribute.type == IFA_FLAGS
        else attribute
        for attribute in split(request, IFADDR.size)
    ]
    return join(head._replace(flags=head.flags | (extra & 0xFF)).pack(), attrs)


def _remaining(cacheinfo: bytes, elapsed: int) -> bytes | None:
    preferred, valid, _, _ = _CACHEINFO.unpack_from(cacheinfo)
    if valid != FOREVER:
        valid -= elapsed
        if valid <= 0:
            return None
    if preferred != FOREVER:
        preferred = max(0, preferred - elapsed)
    return _CACHEINFO.pack(preferred, valid, 0, 0)


def _label(payload: bytes, ifindex: int, was: Places, now: Places) -> bytes:
    label = as_str(payload)
    for (number, before), (_, after) in zip(was, now, strict=False):
        if number == ifindex and (label == before or label.startswith(before + ":")):
            label = after + label[len(before) :]
    return label.encode("utf-8", "surrogateescape") + b"\0"


class RouteRequests:
    """route() for many routes, whose devices were in one place and are in another."""

    def __init__(self, was: Places, now: Places, elapsed: int | None) -> None:
        self._where = (was, now, elapsed)
        self._made: dict[bytes, tuple[bytes, int] | None] = {}

    def __call__(self, shape: Shape) -> bytes | None:
        """The request for a route of this shape and destination."""
        try:
            found = self._made[shape.rest]
        except KeyError:
            made = route(shape.rest, *self._where)
            found = None if made is None else (made, Shape.of(made).at)
            self._made[shape.rest] = found
        return None if found is None else shape.filled(*found)


def route(body: bytes, was: Places, now: Places, elapsed: int | None) -> bytes | None:
    """The request that makes this route again, or None when it has expired meanwhile. Without
    `elapsed` seconds the remaining time is left out."""
    head = RtMsg.of(body)
    attrs = split(body, RTMSG.size)
    by_object = value(attrs, RTA_NH_ID) is not None
    built = []
    for attribute in attrs:
        if by_object and attribute.type in _RTA_OF_NEXTHOP:
            continue
        if attribute.type == RTA_CACHEINFO:
            left = lifetime(body)
            if left is not None and elapsed is not None:
                if left <= elapsed:
                    return None
                built.append(Attr(RTA_EXPIRES, struct.pack("=I", left - elapsed)))
        elif attribute.type == RTA_OIF:
            built.append(_moved_attr(attribute, was, now))
        elif attribute.type == RTA_MULTIPATH:
            built.append(
                Attr(attribute.kind, pack_hops(_hop(h, was, now) for h in hops(attribute.payload)))
            )
        else:
            built.append(attribute)
    built = _encap(built, _ROUTE_ENCAP, was, now)
    flags = 0 if by_object else head.flags & _RTNH_F_SETTABLE
    return join(head._replace(flags=flags).pack(), built)


def _expires(cacheinfo: bytes) -> int:
    """In 1/100 s; 0: never. Less: over, but not collected yet (fib6_run_gc())."""
    return int(struct.unpack_from("=i", cacheinfo, _RTA_EXPIRES_AT)[0])


def valid_lifetime(body: bytes) -> int | None:
    """Seconds that an address is valid; None: for ever."""
    info = value(split(body, IFADDR.size), IFA_CACHEINFO)
    valid: int = FOREVER if info is None else _CACHEINFO.unpack_from(info)[1]
    return None if valid == FOREVER else valid


def address_is_limited(body: bytes) -> bool:
    """Whether an address has a lifetime."""
    times = value(split(body, IFADDR.size), IFA_CACHEINFO)
    return times is not None and _CACHEINFO.unpack_from(times)[1] != FOREVER


def route_is_limited(body: bytes) -> bool:
    """Whether a route has a lifetime."""
    return lifetime(Shape.of(body).rest) is not None


@lru_cache(SHAPES)
def lifetime(body: bytes) -> int | None:
    """The seconds that a route of that shape has left; None: for ever."""
    times = value(split(body, RTMSG.size), RTA_CACHEINFO)
    ticks = 0 if times is None else _expires(times)
    return ticks // _USER_HZ if ticks else None


def _hop(hop: Hop, was: Places, now: Places) -> Hop:
    ifindex = _moved(hop.ifindex, was, now)
    rest = join(b"", _encap(split(hop.rest, 0), _ROUTE_ENCAP, was, now))
    return hop._replace(ifindex=ifindex, flags=hop.flags & _RTNH_F_SETTABLE, rest=rest)


def with_hops(request: bytes, members: Iterable[Hop]) -> bytes:
    """The same route request with other members."""
    attrs = [
        Attr(attribute.kind, pack_hops(members)) if attribute.type == RTA_MULTIPATH else attribute
        for attribute in split(request, RTMSG.size)
    ]
    return join(request[: RTMSG.size], attrs)


def nexthop(body: bytes, was: Places, now: Places) -> bytes:
    """The request that makes this nexthop or nexthop group again."""
    head = NhMsg.of(body)
    built = []
    for attribute in split(body, NHMSG.size):
        if attribute.type in _NHA_STATE:
            continue
        if attribute.type == NHA_OIF:
            built.append(_moved_attr(attribute, was, now))
        elif attribute.type == NHA_RES_GROUP:
            inner = [
                a for a in split(attribute.payload, 0) if a.type != _NHA_RES_GROUP_UNBALANCED_TIME
            ]
            built.append(Attr(attribute.kind, join(b"", inner)))
        else:
            built.append(attribute)
    built = _encap(built, _NEXTHOP_ENCAP, was, now)
    # nh_scope is an answer, not a question: rtm_to_nh_config() wants zero.
    made = NhMsg(head.family, protocol=head.protocol, flags=head.flags & RTNH_F_ONLINK)
    return join(made.pack(), built)


def neighbour(body: bytes, was: Places, now: Places) -> bytes:
    """The request that makes this neighbour or proxy entry again."""
    head = NdMsg.of(body)
    built = [attribute for attribute in split(body, NDMSG.size) if attribute.type not in _NDA_STATE]
    return join(head._replace(ifindex=_moved(head.ifindex, was, now)).pack(), built)


def is_ipv6(body: bytes) -> bool:
    return body[0] == _socket.AF_INET6
