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
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from manactl.wire.attrs import NLA_TYPE_MASK, align, as_int, as_str, attr

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
RTM_NEWNEXTHOP, RTM_GETNEXTHOP = 104, 106

IFINFO = struct.Struct("=BBHiII")  # family, pad, type, index, flags, change
IFADDR = struct.Struct("=BBBBI")  # family, prefixlen, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst/src len, tos, table, proto, scope, type, flags
NDMSG = struct.Struct("=BBHiHBB")  # family, pads, ifindex, state, flags, type
NHMSG = struct.Struct("=BBBBI")  # family, scope, protocol, reserved, flags
RTNEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, ifindex

IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 3, 6, 8
IFA_RT_PRIORITY, IFA_PROTO = 9, 11
IFAPROT_KERNEL_LL = 3
IFAPROT_OF_KERNEL = frozenset({1, 2, IFAPROT_KERNEL_LL})  # loopback, router advertisement
IFA_F_SECONDARY = IFA_F_TEMPORARY = 0x01
IFA_F_NODAD, IFA_F_TENTATIVE = 0x02, 0x40
IFA_F_MANAGETEMPADDR, IFA_F_NOPREFIXROUTE, IFA_F_STABLE_PRIVACY = 0x100, 0x200, 0x800
# What a request may set: NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN.
IFA_SETTABLE = 0x02 | 0x10 | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | 0x400
FOREVER = 0xFFFFFFFF
_CACHEINFO = struct.Struct("=IIII")  # preferred, valid (s), created, updated

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 4, 5, 6, 7
RTA_MULTIPATH, RTA_FLOW, RTA_CACHEINFO, RTA_TABLE, RTA_VIA = 9, 11, 12, 15, 18
RTA_ENCAP_TYPE, RTA_ENCAP, RTA_EXPIRES, RTA_NH_ID = 21, 22, 23, 30
# A route by nexthop object carries these in dumps (nexthop_compat_mode), never in requests.
_RTA_OF_NEXTHOP = frozenset(
    {RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_FLOW, RTA_VIA, RTA_ENCAP_TYPE, RTA_ENCAP}
)
_RTA_EXPIRES_AT = 8  # offset of rta_expires in struct rta_cacheinfo, in 1/100 s
RTM_F_CLONED = 0x200
RTNH_F_SETTABLE = 0x2 | 0x4  # PERVASIVE, ONLINK; the others are carrier and offload state
RTPROT_KERNEL = 2
RTPROT_PASSING = frozenset({1, RTPROT_KERNEL, 9, 16})  # redirect, ra, dhcp
RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST, RTN_MULTICAST = 1, 2, 3, 4, 5
RT_TABLE_LOCAL = 255

NDA_DST, NDA_LLADDR, NDA_FLAGS_EXT = 1, 2, 15
_NDA_STATE = frozenset({3, 4, 8, 9, 10})  # CACHEINFO, PROBES, IFINDEX, MASTER, LINK_NETNSID
NUD_PERMANENT = 0x80
NTF_PROXY, NTF_EXT_LEARNED = 0x08, 0x10
NTF_EXT_MANAGED = 0x1

NHA_ID, NHA_GROUP, NHA_GROUP_TYPE, NHA_OIF, NHA_GATEWAY, NHA_RES_GROUP = 1, 2, 3, 5, 6, 12
_NHA_STATE = frozenset({13, 14, 15, 17})  # RES_BUCKET, OP_FLAGS, GROUP_STATS, HW_STATS_USED
_NHA_RES_GROUP_UNBALANCED_TIME = 4
_NHGRP = struct.Struct("=IBBH")  # id, weight - 1, its high byte, reserved


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


def join(header: bytes, attrs: Iterable[Attr]) -> bytes:
    """Header and attributes as one message body."""
    return header + b"".join(attr(kind, payload) for kind, payload in attrs)


def value(attrs: Iterable[Attr], kind: int) -> bytes | None:
    """The payload of the last attribute of that type, or None."""
    found = None
    for one in attrs:
        if one.type == kind:
            found = one.payload
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


def route_ifindexes(body: bytes) -> set[int]:
    """Every interface that a route names."""
    attrs = split(body, RTMSG.size)
    found = {as_int(one.payload) for one in attrs if one.type == RTA_OIF}
    multipath = value(attrs, RTA_MULTIPATH)
    if multipath is not None:
        found |= {hop.ifindex for hop in hops(multipath)}
    return found


def group_members(body: bytes) -> list[int]:
    """The nexthop ids of a group, in order; empty for a nexthop that is no group."""
    payload = value(split(body, NHMSG.size), NHA_GROUP) or b""
    return [member[0] for member in _NHGRP.iter_unpack(payload)]


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


def _moved_attr(one: Attr, was: Places, now: Places) -> Attr:
    return Attr(one.kind, struct.pack("=I", _moved(as_int(one.payload), was, now)))


def address(body: bytes, was: Places, now: Places, elapsed: int) -> bytes | None:
    """The request that makes this address again, or None when its lifetime is over.

    The kernel derives PERMANENT, DEPRECATED, TENTATIVE and SECONDARY by itself. Its label is the
    interface's name, or that with a suffix, and follows a rename as in inetdev_changename().
    """
    family, length, flags, scope, index = IFADDR.unpack_from(body)
    attrs = split(body, IFADDR.size)
    settable = (number(attrs, IFA_FLAGS) or flags) & IFA_SETTABLE
    built = []
    for one in attrs:
        if one.type == IFA_FLAGS:
            continue
        if one.type == IFA_CACHEINFO:
            times = _remaining(one.payload, elapsed)
            if times is None:
                return None
            built.append(Attr(IFA_CACHEINFO, times))
        elif one.type == IFA_LABEL:
            built.append(Attr(IFA_LABEL, _label(one.payload, index, was, now)))
        else:
            built.append(one)
    built.append(Attr(IFA_FLAGS, struct.pack("=I", settable)))
    index = _moved(index, was, now)
    return join(IFADDR.pack(family, length, settable & 0xFF, scope, index), built)


def with_address_flags(request: bytes, extra: int) -> bytes:
    """The same address request with more IFA_F_ bits."""
    family, length, flags, scope, index = IFADDR.unpack_from(request)
    attrs = [
        Attr(one.kind, struct.pack("=I", as_int(one.payload) | extra))
        if one.type == IFA_FLAGS
        else one
        for one in split(request, IFADDR.size)
    ]
    return join(IFADDR.pack(family, length, flags | (extra & 0xFF), scope, index), attrs)


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


def route(body: bytes, was: Places, now: Places, elapsed: int) -> bytes | None:
    """The request that makes this route again, or None when it has expired meanwhile."""
    *head, flags = RTMSG.unpack_from(body)
    attrs = split(body, RTMSG.size)
    by_object = value(attrs, RTA_NH_ID) is not None
    built = []
    for one in attrs:
        if by_object and one.type in _RTA_OF_NEXTHOP:
            continue
        if one.type == RTA_CACHEINFO:
            left = struct.unpack_from("=i", one.payload, _RTA_EXPIRES_AT)[0] // 100
            if left:  # zero: never expires
                left -= elapsed
                if left <= 0:
                    return None
                built.append(Attr(RTA_EXPIRES, struct.pack("=I", left)))
        elif one.type == RTA_OIF:
            built.append(_moved_attr(one, was, now))
        elif one.type == RTA_MULTIPATH:
            built.append(Attr(one.kind, pack_hops(_hop(h, was, now) for h in hops(one.payload))))
        else:
            built.append(one)
    flags = 0 if by_object else flags & RTNH_F_SETTABLE
    return join(RTMSG.pack(*head, flags), built)


def _hop(hop: Hop, was: Places, now: Places) -> Hop:
    ifindex = _moved(hop.ifindex, was, now)
    return hop._replace(ifindex=ifindex, flags=hop.flags & RTNH_F_SETTABLE)


def with_hops(request: bytes, members: Iterable[Hop]) -> bytes:
    """The same route request with other members."""
    attrs = [
        Attr(one.kind, pack_hops(members)) if one.type == RTA_MULTIPATH else one
        for one in split(request, RTMSG.size)
    ]
    return join(request[: RTMSG.size], attrs)


def nexthop(body: bytes, was: Places, now: Places) -> bytes:
    """The request that makes this nexthop or nexthop group again."""
    family, _scope, protocol, _, flags = NHMSG.unpack_from(body)
    built = []
    for one in split(body, NHMSG.size):
        if one.type in _NHA_STATE:
            continue
        if one.type == NHA_OIF:
            built.append(_moved_attr(one, was, now))
        elif one.type == NHA_RES_GROUP:
            inner = [a for a in split(one.payload, 0) if a.type != _NHA_RES_GROUP_UNBALANCED_TIME]
            built.append(Attr(one.kind, join(b"", inner)))
        else:
            built.append(one)
    # nh_scope is an answer, not a question: rtm_to_nh_config() wants zero.
    return join(NHMSG.pack(family, 0, protocol, 0, flags & 0x4), built)


def neighbour(body: bytes, was: Places, now: Places) -> bytes:
    """The request that makes this neighbour or proxy entry again."""
    family, _, _, index, state, flags, kind = NDMSG.unpack_from(body)
    index = _moved(index, was, now)
    built = [one for one in split(body, NDMSG.size) if one.type not in _NDA_STATE]
    return join(NDMSG.pack(family, 0, 0, index, state, flags, kind), built)


def is_ipv6(body: bytes) -> bool:
    return body[0] == _socket.AF_INET6
